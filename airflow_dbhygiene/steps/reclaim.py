"""reclaim: let the table use the space of deleted rows again, or give it back to the disk."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.errors import IllegalMove, PlanRefused
from airflow_dbhygiene.ledger import Ledger
from airflow_dbhygiene.ledger.moves import PURGED
from airflow_dbhygiene.steps.going_on import run_that_goes_on
from airflow_dbhygiene.steps.site import mebibytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.policy.names import TableName
    from airflow_dbhygiene.steps.site import Site

_TOLD: Final = ("disk_bytes", "free_bytes", "dead_tuples")
_LEAST_GAIN: Final = 0.1
"""The part of the table that must be gone, or of its files that must be free, before a copy of all is worth it."""

_SPARE_BYTES: Final = 16 * 2**20
"""So much a new file may have free: InnoDB extends it ahead."""


@dataclass(frozen=True)
class Reclaimed:
    """What was done, and the table's figures before and after: those that its server knows.

    :param action: vacuum, analyze, optimize or none
    :param skipped: why a copy of the table, which the policy asks for, was left out; empty when nothing was
    :param rows_purged: how many rows the run had deleted by then
    """

    action: str
    skipped: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    seconds: float
    rows_purged: int

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Reclaimed:
        """Read back what ``as_dict`` gave."""
        return cls(**{each.name: kept[each.name] for each in fields(cls)})

    @property
    def bytes_given_back(self) -> int:
        """Bytes that the table's files are smaller by; below zero when they have grown meanwhile."""
        return int(self.before.get("disk_bytes", 0) - self.after.get("disk_bytes", 0))

    def as_dict(self) -> dict[str, Any]:
        """Give plain values, as ledger, XCom and certificate hold them, and the line that a person reads."""
        return asdict(self) | {"bytes_given_back": self.bytes_given_back, "line": self.describe()}

    def describe(self) -> str:
        """Write it in one line."""
        changes = (f"{name} {self.before[name]:,.0f} → {self.after[name]:,.0f}" for name in self.after)
        moved = "given back to the disk" if self.bytes_given_back >= 0 else "more on the disk"
        line = ", ".join(
            [f"{self.action} in {self.seconds:.1f} s", *changes, f"{mebibytes(abs(self.bytes_given_back))} {moved}"]
        )
        return f"{line}. Not optimized: {self.skipped}" if self.skipped else line


def reclaim(site: Site, run_id: str) -> Reclaimed:
    """Do what the run's policy says: vacuum, analyze, optimize or none. The ledger keeps what came of it.

    What was done already, and after which no row was purged, is not done again.

    :raises HygieneError: when the server only warned that it skipped the table
    :raises IllegalMove: when the run was given up
    """
    with site.database.session() as session:
        run, purged = run_that_goes_on(site, session, run_id), int(Ledger(session).figures(run_id)["rows_purged"])
        earlier = Ledger(session).reclaimed(run_id)
        if earlier and earlier["rows_purged"] == purged and not earlier["skipped"]:
            site.tell(f"run {run_id} is reclaimed already.")
            return Reclaimed.from_dict(earlier)
        table = run.selection.table
        before, started = _figures(site, session, table), time.monotonic()
        action, skipped = _act(site, session, run)
        seconds, after = time.monotonic() - started, _figures(site, session, table)
        done = Reclaimed(action, skipped, {name: before.get(name, 0.0) for name in after}, after, seconds, purged)
        Ledger(session).record_reclaim(run_id, done.as_dict())
    return done


def rows_purged(site: Site, run_id: str) -> int:
    """Count the rows that a run has deleted, once all its chunks are done.

    :raises IllegalMove: when one is not, though no task has failed: without this the DAG run would be green
    """
    with site.database.session() as session:
        if undone := [chunk for chunk in Ledger(session).chunks(run_id) if chunk.state != PURGED]:
            message = (
                f"{undone[0].label} is {undone[0].state} and not purged, and so are {len(undone) - 1} others, though "
                f"no task has failed: somebody marked tasks by hand, as successful or as skipped. Clear archive, "
                f"verify and purge of these chunks with downstream: what is done is not done twice."
            )
            raise IllegalMove(message)
        return int(Ledger(session).figures(run_id)["rows_purged"])


def _act(site: Site, session: Any, run: Run) -> tuple[str, str]:
    """Do it; give what was done and, of a copy that was left out, why."""
    action, table = run.policy.reclaim, run.selection.table
    remarks: tuple[str, ...] = ()
    if action == "vacuum":
        remarks = site.database.vacuum(session, table)
    elif action == "analyze":
        remarks = site.database.analyze(session, table)
    elif action == "optimize":
        return _optimize(site, session, run)
    for remark in remarks:
        site.tell(f"{action} of {table}: the server remarks: {remark}")
    return action, ""


def _optimize(site: Site, session: Any, run: Run) -> tuple[str, str]:
    table = run.selection.table
    if reason := _too_little(session, run, _figures(site, session, table)) or _in_the_way(session, run):
        site.database.vacuum(session, table)
    else:
        reason = site.database.optimize(session, run.policy) or ""
    return ("vacuum" if reason else "optimize"), reason


def _in_the_way(session: Any, run: Run) -> str:
    """Name runs that a copy would disturb: on PostgreSQL their rows would look changed. Empty without any."""
    others = ", ".join(Ledger(session).deleting_beside(run))
    return f"of the same table the runs {others} are between archive and purge" if others else ""


def _too_little(session: Any, run: Run, sizes: Mapping[str, float]) -> str:
    """Say why a copy of the whole table would give back too little for what it costs; empty when it is worth it."""
    purged = Ledger(session).figures(run.run_id)["rows_purged"] / max(run.plan["row_estimate"] or 0, 1)
    free = max(sizes.get("free_bytes", 0) - _SPARE_BYTES, 0) / max(sizes.get("disk_bytes", 0), 1)
    if max(purged, free) >= _LEAST_GAIN:
        return ""
    return f"{purged:.0%} of the rows were purged and {free:.0%} of the files is free: less than {_LEAST_GAIN:.0%}"


def _figures(site: Site, session: Any, table: TableName) -> dict[str, float]:
    """Measure what can be measured: a table without a file of its own has no size."""
    asked = [name for name in _TOLD if name in site.database.measures]
    try:
        return site.database.measure(session, table, asked)
    except PlanRefused:
        return {}
