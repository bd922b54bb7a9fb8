"""Two things at once on one server: a second connection works while the first one does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from airflow_dbhygiene.databases.mysql.session import MySqlSession

Result = TypeVar("Result")

WORTH_TWO: Final = 50_000
"""Rows behind so many are worth a second connection: it is half of what an object holds by default."""


@contextmanager
def meanwhile(session: MySqlSession, work: Callable[[MySqlSession], Result]) -> Iterator[Future[Result]]:
    """Let a second connection work, in no transaction of the first one's; what is left of it is waited for."""
    second = session.second()
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work, second)
