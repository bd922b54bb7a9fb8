"""Archived rows that were erased on request, in the ledger's words."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any


@dataclass(frozen=True)
class Erasure:
    """An object that took the place of another, without the rows that were to be erased."""

    run_id: str
    name: str
    number: int
    replaced_by: str
    bytes: int
    sha256: str
    rows_erased: int
    reason: str
    erased_by: str


class Erasures:
    """Reads and writes erasures in the transaction of the session that it is given."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def of_run(self, run_id: str) -> tuple[Erasure, ...]:
        """Read a run's erasures; of several of one object the last one counts."""
        rows = self._session.execute(
            "SELECT run_id, name, number, replaced_by, bytes, sha256, rows_erased, reason, erased_by"
            " FROM dbhygiene.erasure WHERE run_id = %s ORDER BY name, number",
            (run_id,),
        )
        return tuple(Erasure(*row) for row in rows)

    def record(self, erasure: Erasure) -> None:
        """Write what took an object's place."""
        self._session.execute(
            "INSERT INTO dbhygiene.erasure"
            " (run_id, name, number, replaced_by, bytes, sha256, rows_erased, reason, erased_by)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            astuple(erasure),
        )
