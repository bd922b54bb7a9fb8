"""One shop, one application, and our runs on its table: what may happen, each as one call, checked by the oracle."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from airflow_dbhygiene.errors import HygieneError, IllegalMove, Paused, PlanRefused, Transient
from airflow_dbhygiene.steps.hold import HoldWish, place_hold, release_hold
from airflow_dbhygiene.steps.pause import pause, resume
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify_archive import verify_archive
from tests.faults.traffic.disturbances import Disturbances, met
from tests.faults.traffic.hygiene import Hygiene, Point, Run, Stopped, no_waiting
from tests.faults.traffic.oracle import Oracle
from tests.faults.traffic.shop import Application, Row, Shop

SECOND: Final = {"parquet": "cold table", "cold table": "parquet", "discard": "parquet"}
"""Where the second policy's rows go, by where the first one's go."""

_DUE: Final = {
    "planned": "archive",
    "damaged": "archive",
    "archived": "verify",
    "verified": "purge",
    "purging": "purge",
}
_FIT: Final = {"archive": tuple(_DUE), "verify": ("archived", "verified", "purging"), "purge": ("verified", "purging")}

Event = Callable[[], object]


class World(Disturbances):
    """What rules call. A number chooses a row, a run or a chunk among those that there are."""

    def __init__(self, shop: Shop, kind: str, folder: Path) -> None:
        shop.reset()
        application = Application(shop)
        self.hygiene = Hygiene(shop, folder)
        super().__init__(application, Oracle(application, self.hygiene))
        self.paused = False
        self._kinds = {False: kind, True: SECOND[kind]}
        self._cold_number = 0
        self._at_work: list[Run] = []
        self._restores = 0
        self.plan(second=False, later_days=0)

    # we

    def plan(self, *, second: bool, later_days: int) -> Run | None:
        """Plan a run of one of the policies; give it unless the plan was refused."""
        if not self.hidden:
            self.application.alter("analyze")
        run = self._new_run(second=second, later_days=later_days)
        error = self._planned(run)
        if isinstance(error, PlanRefused) and "cold table" in str(error) and not self.undo:
            self._cold_number += 1  # as the refusal says: name another
            run = self._new_run(second=second, later_days=later_days)
            error = self._planned(run)
        reason = self.undo or self.leaves_a_row_locked
        assert error is None or reason, f"the plan was refused without a reason: {error!r}"
        if error is not None:
            return None
        self.runs.append(run)
        return run

    def step(self, run: Run, name: str, chunk: int, point: Point | None = None, event: Event | None = None) -> None:
        """Do a step of a chunk, perhaps disturbed; a refusal must be one of ours, and have a reason."""
        state = self.hygiene.states(run)[chunk]
        self.excuses = {"locks"} if self.leaves_a_row_locked else set()
        self.oracle.notice()
        error = self._at(run, lambda: self.hygiene.step(run, name, chunk, point, self._in_midst(run, event)))
        self.oracle.audit(run)
        met[f"{name}: {type(error).__name__ if error else 'done'}"] += 1
        unfit = run.policy.archives and state != "purged" and state not in _FIT[name]
        assert error is None or self._excused(run, error, unfit=unfit), (
            f"{name} {chunk} of {run.run_id}, which was {state}, was refused without a reason: {error!r}"
        )

    def twin(self, run: Run, name: str, chunk: int) -> None:
        """Let another worker do a step in the midst of one."""
        excuses = {*self.excuses, "twin"}
        self.step(run, name, chunk)
        self.excuses |= excuses

    def due(self, run: Run) -> tuple[str, int] | None:
        """Give the next step of a run."""
        for chunk, state in self.hygiene.states(run).items():
            if state != "purged":
                return (_DUE[state] if run.policy.archives else "purge"), chunk
        return None

    def finish(self, run: Run) -> None:
        """Do all that is left of a run, as far as it goes."""
        names = ("archive", "verify", "purge") if run.policy.archives else ("purge",)
        for chunk, state in self.hygiene.states(run).items():
            for name in names if state != "purged" else ():
                self.step(run, name, chunk)
        self.close(run)

    def close(self, run: Run) -> None:
        """Reclaim and report; the certificate tells what really went."""
        try:
            with no_waiting():
                certificate = self.hygiene.close(run)
        except HygieneError as error:
            if not (run.altered or self.undo or self.leaves_a_row_locked):
                raise AssertionError(f"no report of {run.run_id}: {error!r}") from error
            return
        done = all(state == "purged" for state in self.hygiene.states(run).values())
        assert (certificate["state"], certificate["rows_purged"]) == ("done" if done else "failed", len(run.taken))
        self.excuses.add("reported")
        met[f"report: {certificate['state']}"] += 1

    def restore(self, run: Run) -> None:
        """Put a run's rows back."""
        if self._at_work:
            return
        self._restores += 1
        name, error, restored = f"restore {self._restores}", None, 0
        self.oracle.notice()
        try:
            restored = restore(self.hygiene.site(), Wish(run.run_id, name)).restored
        except HygieneError as refusal:
            error = refusal
        back = self.oracle.notice_restored(run, self.complete)
        if self.application.query("SELECT 1 FROM dbhygiene.hold WHERE hold_id = %s", (f"restored {name}",)):
            self.oracle.holds[f"restored {name}"] = run.takes
        met[f"restore: {type(error).__name__ if error else 'done'}"] += 1
        nothing = isinstance(error, IllegalMove) and not (run.taken and run.policy.archives)
        excused = error is None or nothing or run.altered or self.undo or self.leaves_a_row_locked
        assert excused, f"restore of {run.run_id} was refused without a reason: {error!r}"
        assert error is not None or restored == back, f"{restored} rows are said to be back, and {back} are"

    def hold(self, number: int, *, listed: bool) -> None:
        """Place a hold on some rows, by a condition or by their keys."""
        if self.hidden or len(self.oracle.holds) > 3:  # or nothing would be left to purge
            return
        keys = sorted(self.oracle.live)[number % 5 :: 7]
        name = f"hold {number} {self._restores} {len(met)} {sum(met.values())}"
        rows: Mapping[str, Any] = {"keys": tuple((str(key),) for key in keys)}
        protects: Callable[[Row], bool] = lambda row: row["id"] in keys  # noqa: E731 - one of two
        if not listed or not keys:
            rows, protects = {"where": f"note = 'note {number % 6}'"}, lambda row: row["note"] == f"note {number % 6}"
        wish = HoldWish(self.application.table, "case 4711", "legal", hold_id=name, **rows)
        place_hold(self.hygiene.site(), wish)
        self.oracle.holds[name] = protects
        met["hold"] += 1

    def release(self, number: int) -> None:
        """End a hold."""
        if self.oracle.holds:
            name = sorted(self.oracle.holds)[number % len(self.oracle.holds)]
            release_hold(self.hygiene.site(), name, "legal")
            del self.oracle.holds[name]

    def pause(self) -> None:
        """Stop all purges."""
        if not self.paused:
            pause(self.hygiene.site(), "all", "month end", "finance")
        self.paused = True
        self.excuses.add("pause")

    def resume(self) -> None:
        """Let them go on."""
        if self.paused:
            resume(self.hygiene.site(), "all")
        self.paused = False
        self.excuses.add("pause")

    # the end

    def come_to_an_end(self) -> None:
        """Take back what stands in the way: runs go on, or are left for a new one, which takes all that is stale."""
        self.end_change(commit=True)
        for _ in range(50):  # the server's own housekeeping may lock the table for a moment
            self.undo_all()
            time.sleep(0.02 if self.undo else 0)
        assert not self.undo, f"the test could not take back {[*self.undo]}"
        self.resume()
        while self.oracle.holds:
            self.release(0)
        for run in self.runs:
            self.finish(run)
        for second in (True, False):
            run = self.plan(second=second, later_days=60)
            assert run is not None
            self.finish(run)
            left = [row for row in self.oracle.live.values() if run.takes(row)]
            assert not left, f"{run.run_id} has left stale rows: {left}"
        self.oracle.notice()
        self._verify_archives()

    def leave(self) -> None:
        """Let go of all connections."""
        super().leave()
        self.hygiene.end()

    def _verify_archives(self) -> None:
        self.hygiene.forget_objects()
        for run in self.runs:
            self.oracle.audit(run)
        for policy in {run.policy.name for run in self.runs}:
            if any(run.policy.archives for run in self.runs if run.policy.name == policy):
                verified = verify_archive(self.hygiene.site(), policy=policy)
                assert not verified.findings, verified.describe()

    # what these are made of

    def _new_run(self, *, second: bool, later_days: int) -> Run:
        policy = self.hygiene.policy(self._kinds[second], second=second, number=self._cold_number)
        return self.hygiene.run(policy, later_days, len(self.runs))

    def _planned(self, run: Run) -> HygieneError | None:
        try:
            self.hygiene.plan(run)
        except HygieneError as error:
            met[f"plan: {type(error).__name__}"] += 1
            return error
        met["plan: done"] += 1
        return None

    def _at(self, run: Run, act: Event) -> HygieneError | None:
        """Let a run do something; what goes meanwhile goes on its account."""
        self._at_work.append(run)
        try:
            act()
        except HygieneError as error:
            return error
        except Stopped:
            met["stopped"] += 1
        finally:
            self._at_work.pop()
            self.oracle.notice(run)
        return None

    def _in_midst(self, run: Run, event: Event | None) -> Event:
        def happen() -> None:
            self.oracle.notice(run)
            met["in the midst"] += 1
            if event is not None:
                event()

        return happen

    def _excused(self, run: Run, error: HygieneError, *, unfit: bool) -> bool:
        excuses = self.excuses | ({"pause"} if self.paused else set())
        return bool(
            run.altered
            or self.undo
            or (isinstance(error, IllegalMove) and (unfit or "twin" in excuses))
            or (isinstance(error, Paused) and "pause" in excuses)
            or (isinstance(error, Transient) and excuses & {"locks", "reported", "twin"})
        )
