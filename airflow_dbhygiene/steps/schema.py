"""Whether a run's table still is the one that was planned."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.errors import NotFound, SchemaChanged, StatementFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.steps.site import Site

_MOST: Final = 5
"""So many lines are told."""

_ELSE: Final = "its triggers, rules, policies, foreign keys or the labels of a type are others"


def check_schema(site: Site, session: Any, run: Run) -> None:
    """Refuse to go on when anything about the table's schema has changed since the plan.

    :raises SchemaChanged: naming the table, and its columns that were others
    :raises NotFound: when there is no such table any more
    """
    if site.database.fingerprint(session, run.selection.table) != run.fingerprint:
        what = _changes(run.ddl, site.database.ddl(session, run.selection.table))
        message = (
            f"table {run.selection.table} has changed since run {run.run_id} was planned: {what}. Its archive might "
            f"not be what is deleted. Start a new run."
        )
        raise SchemaChanged(message)


@contextmanager
def telling_changes(site: Site, run: Run) -> Iterator[None]:
    """Where the server rejects a statement because the table has changed, say that, and not what it rejects.

    :raises SchemaChanged: in place of the statement's own error
    """
    try:
        yield
    except (StatementFailed, NotFound):
        with site.database.session() as session:
            check_schema(site, session, run)
        raise


def _changes(planned: str, found: str) -> str:
    """Say which columns, or other lines, a table has had and now has; where there are none, what else it may be."""
    before, after = _lines(planned), _lines(found)
    had = [line for line in before if line not in after]
    has = [line for line in after if line not in before]
    parts = [f"{verb} {_listed(lines)}" for verb, lines in (("it had", had), ("it has", has)) if lines]
    return "; ".join(parts) or _ELSE


def _lines(ddl: str) -> list[str]:
    return [line.strip().removesuffix(",") for line in ddl.splitlines()]


def _listed(lines: list[str]) -> str:
    more = f" and {len(lines) - _MOST} more" if len(lines) > _MOST else ""
    return ", ".join(f"«{line}»" for line in lines[:_MOST]) + more
