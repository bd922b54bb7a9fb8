"""The oracle: every row as the application last left it, what became of it, and whether that may be.

Rules follow each other in one thread, and what happens in the midst of a step happens in the same thread, so that all
is known at any time: a row that is gone was taken by the step at work, or something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.faults.traffic.hygiene import Hygiene, Run

if TYPE_CHECKING:
    from tests.faults.traffic.shop import Application, Row

_OUTCOMES = ("purged", "drifted", "held", "vanished", "locked")


class Oracle:
    """Knows what must be in the table, and checks what has left it."""

    def __init__(self, application: Application, hygiene: Hygiene) -> None:
        self._application = application
        self._hygiene = hygiene
        self.live = {int(str(row["id"])): row for row in application.rows()}
        self.keys = set(self.live)
        """All keys that were ever used."""
        self.holds: dict[str, Callable[[Row], bool]] = {}

    def held(self, row: Row) -> bool:
        """Tell whether a hold protects a row."""
        return any(protects(row) for protects in self.holds.values())

    def notice(self, run: Run | None = None) -> None:
        """Look at the whole table; what is gone was taken by the run at work, rightly."""
        hot = {int(str(row["id"])): row for row in self._application.rows()}
        for key, row in hot.items():
            assert key in self.live, f"row {key} has risen again: {row}"
            assert row == self.live[key], f"row {key} is {row}, and the application left it as {self.live[key]}"
        for key in sorted(self.live.keys() - hot.keys()):
            row = self.live.pop(key)
            assert run is not None, f"row {key} is gone, and no step is at work: {row}"
            assert run.takes(row), f"row {key} was not stale, and {run.run_id} has taken it: {row}"
            assert not self.held(row), f"row {key} is under hold, and {run.run_id} has taken it: {row}"
            run.taken.append(row)

    def notice_restored(self, run: Run, complete: Callable[[Row], Row]) -> int:
        """Look for rows that a restore has put back, as their archive has them; give their number."""
        hot = {int(str(row["id"])): row for row in self._application.rows()}
        archived = {int(str(row["id"])): row for row in run.taken}
        back = hot.keys() - self.live.keys()
        for key in back:
            assert key in archived, f"row {key} was restored from {run.run_id}, which never took it: {hot[key]}"
            self.live[key] = complete(archived[key])
        self.notice()
        return len(back)

    def audit(self, run: Run) -> None:
        """Compare a run's archive and ledger with what it has really taken."""
        if run.policy.archives:
            archived = sorted(self._hygiene.archived(run), key=_key)
            assert archived == sorted(run.taken, key=_key), (
                f"{run.run_id} has taken {_told(run.taken)}, and its archive holds {_told(archived)}"
            )
        counted = self._hygiene.purged_count(run)
        assert counted == len(run.taken), f"{run.run_id} counts {counted} rows, and has taken {len(run.taken)}"
        self._ledger_adds_up(run)

    def _ledger_adds_up(self, run: Run) -> None:
        columns = ", ".join(_OUTCOMES)
        chunks = self._hygiene.ledger(
            f"SELECT chunk, purged_through, {columns} FROM dbhygiene.chunk WHERE run_id = %s", run
        )
        for chunk, through, *counts in chunks:
            assert through == sum(counts), f"chunk {chunk} of {run.run_id} lost count: {through}, {counts}"
            noted = dict(
                self._hygiene.ledger(
                    "SELECT outcome, count(*) FROM dbhygiene.outcome WHERE run_id = %s"
                    f" AND chunk = {int(chunk)} GROUP BY outcome",
                    run,
                )
            )
            wanted = {name: count for name, count in zip(_OUTCOMES[1:], counts[1:], strict=True) if count}
            assert noted == wanted, f"chunk {chunk} of {run.run_id} counts {wanted}, and names {noted}"
            batches = self._hygiene.ledger(
                "SELECT coalesce(sum(end_ordinal - first_ordinal), 0), coalesce(max(end_ordinal), 0)"
                f" FROM dbhygiene.batch WHERE run_id = %s AND chunk = {int(chunk)}",
                run,
            )
            assert tuple(map(int, batches[0])) == (through, through), f"chunk {chunk} of {run.run_id}: {batches[0]}"


def _key(row: Row) -> int:
    return int(str(row["id"]))


def _told(rows: list[Row]) -> str:
    return f"{len(rows)} rows {sorted(map(str, rows))}"
