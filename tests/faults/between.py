"""Something happens in the midst of a step: before a purge's n-th batch, right after a batch has deleted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from airflow_dbhygiene.steps.site import Site
from tests.faults.stage import Stage

Event = Callable[[], object]


def before_batch(stage: Stage, number: int, event: Event, site: Site | None = None) -> Site:
    """Give a site where an event takes place as the purge's transaction of that number opens; the first is 1."""
    return _on_call(site or stage.site(), "share_gate", number, event, after=False)


def after_delete(stage: Stage, number: int, event: Event, site: Site | None = None) -> Site:
    """Give a site where an event takes place after the n-th range was deleted, and before that is committed."""
    return _on_call(site or stage.site(), "delete", number, event, after=True)


def before_careful_delete(stage: Stage, event: Event) -> Site:
    """Give a site where an event takes place as the purge turns to matching row by row."""
    return _on_call(stage.site(), "delete_carefully", 1, event, after=False)


def before_read(stage: Stage, event: Event) -> Site:
    """Give a site where an event takes place after all checks of an archive task, and before it reads a row."""
    return _on_call(stage.site(), "read", 1, event, after=False)


def before_digest(stage: Stage, number: int, event: Event) -> Site:
    """Give a site where an event takes place as the n-th object of a cold table is digested, which is committed."""
    return _on_call(stage.site(), "cold_tables.digest", number, event, after=False)


def _on_call(site: Site, name: str, number: int, event: Event, *, after: bool) -> Site:
    *path, name = name.split(".")
    owner = functools.reduce(getattr, path, site.database)
    original, calls = getattr(owner, name), 0

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            event()
        result = original(*args, **kwargs)
        if calls == number and after:
            event()
        return result

    setattr(owner, name, called)
    return replace(site)
