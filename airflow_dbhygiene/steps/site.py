"""What every step works with, put together by whoever calls it: an operator, a test, a benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_dbhygiene.errors import IllegalMove, NotFound
from airflow_dbhygiene.policy import Discard

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Database
    from airflow_dbhygiene.policy import ColdTable, Parquet, Policy
    from airflow_dbhygiene.stores.protocol import Store

TELL_SECONDS = 5.0
"""Progress is told this often at most."""


def _no_secret(conn_id: str) -> bytes:
    raise NotFound(f"nobody here knows the secret of connection {conn_id!r}.")


def _no_database(conn_id: str) -> Database:
    raise NotFound(f"nobody here knows a database by the name of {conn_id!r}.")


@dataclass(frozen=True)
class Site:
    """The database to clean, a way to its stores, and someone to tell how it goes.

    :param database: where the rows and the ledger are
    :param open_store: opens the store that a policy names
    :param tell: takes one line of progress
    :param secret: gives the secret that a connection holds
    :param open_database: opens another database by its connection
    """

    database: Database
    open_store: Callable[[Parquet | ColdTable], Store]
    tell: Callable[[str], None] = print
    secret: Callable[[str], bytes] = _no_secret
    open_database: Callable[[str], Database] = _no_database

    def store_of(self, policy: Policy) -> Store:
        """Open the store of a policy that archives.

        :raises IllegalMove: when it discards
        """
        if isinstance(policy.archive, Discard):
            raise IllegalMove(f"policy {policy.name!r} discards its rows: there is no archive of them.")
        return self.open_store(policy.archive)


def mebibytes(count: int) -> str:
    """Write a number of bytes for a person."""
    return f"{count / 2**20:,.1f} MiB"


@dataclass
class Progress:
    """Tells rows, speed, percent and time left, at most every five seconds."""

    tell: Callable[[str], None]
    doing: str
    total: int
    _start: float = field(default_factory=time.monotonic)
    _told: float = field(default_factory=time.monotonic)

    def at(self, rows: int, *, last: bool = False) -> None:
        """Say how far it is."""
        now = time.monotonic()
        if not last and now - self._told < TELL_SECONDS:
            return
        self._told = now
        seconds = max(now - self._start, 1e-6)
        percent = 100 * rows / self.total if self.total else 100.0
        left = (self.total - rows) * seconds / rows if rows else 0.0
        end = f"in {seconds:.1f} s" if last else f"{left:.0f} s left"
        self.tell(
            f"{self.doing}: {rows:,} of {self.total:,} rows ({percent:.0f} %), {rows / seconds:,.0f} rows/s, {end}"
        )

    def pausing(self, reason: str) -> None:
        """Say why nothing moves, at most every five seconds."""
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            self.tell(f"{self.doing}: pausing, {reason}")
