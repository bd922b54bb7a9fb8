"""Runs that somebody gave up, in the ledger's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.ledger.holds import aware
from airflow_dbhygiene.ledger.migrations import version_of

if TYPE_CHECKING:
    from datetime import datetime

ABANDONED: Final = "abandoned"
"""The state of such a run. In ``dbhygiene.run`` it is ``failed``, as every version of the ledger knows."""

_SINCE: Final = 7
"""The version of the ledger that has them."""


@dataclass(frozen=True)
class Abandonment:
    """Why a run was given up, by whom and when."""

    run_id: str
    reason: str
    abandoned_by: str
    abandoned_at: datetime


class Abandonments:
    """Reads and writes them in the transaction of the session that it is given."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def of_run(self, run_id: str) -> Abandonment | None:
        """Read why a run was given up; None when it was not."""
        rows = self._session.execute(
            "SELECT run_id, reason, abandoned_by, abandoned_at FROM dbhygiene.abandonment WHERE run_id = %s", (run_id,)
        )
        return next((Abandonment(run, why, by, aware(at)) for run, why, by, at in rows), None)

    def run_ids(self) -> frozenset[str]:
        """Name the runs that were given up, also to whoever may not bring an older ledger up to date."""
        if version_of(self._session) < _SINCE:
            return frozenset()
        return frozenset(row[0] for row in self._session.execute("SELECT run_id FROM dbhygiene.abandonment"))

    def record(self, run_id: str, reason: str, abandoned_by: str) -> None:
        """Write that a run is given up. Lock all its chunks before: whoever is at work on one looks here next."""
        self._session.execute(
            "INSERT INTO dbhygiene.abandonment (run_id, reason, abandoned_by) VALUES (%s, %s, %s)",
            (run_id, reason, abandoned_by),
        )
        self._session.execute("UPDATE dbhygiene.run SET state = 'failed' WHERE run_id = %s", (run_id,))
