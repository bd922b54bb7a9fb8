"""Traffic and runs in any order, as a state machine with an oracle that keeps every row as it last was.

Invariants 1, 2, 3, 6, 7, 8 and 10: no row may vanish that is not in the archive exactly as it last was, unless the
application deleted it; none goes that is held; ledger, archive and certificates agree with what really happened; each
refusal is one of our own errors and has a reason, and without that reason the run ends, or a new one does.

A failure prints the rules that lead to it, as few as hypothesis could find, and the seed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.conftest import MySqlByFlavour
from tests.faults.share import SEED, SHARE
from tests.faults.traffic.disturbances import ROW_ACTIONS, SCHEMA_ACTIONS, met
from tests.faults.traffic.hygiene import Point, Run, Stopped
from tests.faults.traffic.shop import MySqlShop, PostgresShop, Shop
from tests.faults.traffic.world import SECOND, Event, World
from tests.servers.postgres import PostgresServer

EXAMPLES: Final = {"postgresql": 5, "mariadb": 4, "mysql": 3}
"""How many sequences of rules are tried on each engine with each archive: TRAFFIC_EXAMPLES, or these; 100 of all."""
STEPS: Final = 30

POINTS: Final = {
    "archive": [Point("read", 1), Point("read", 1, after=True), Point("copy", 1), Point("copy", 2, after=True)],
    "verify": [Point("differing", 1), Point("differing", 1, after=True)],
    "purge": [Point("share_gate", nth) for nth in (1, 2, 3, 4)],
}
"""Where anything may happen in a step."""
STOPS: Final = {
    "archive": POINTS["archive"],
    "verify": POINTS["verify"],
    "purge": [
        *POINTS["purge"],
        *(Point(call, nth, after=True) for call in ("delete", "delete_stale") for nth in (1, 2)),
        *(Point("delete_carefully", 1, after=after) for after in (False, True)),
    ],
}
"""Where a worker may be killed, with rows deleted and not committed."""

numbers = st.integers(0, 999)
row_actions = st.tuples(st.sampled_from(ROW_ACTIONS), numbers)


class Traffic(RuleBasedStateMachine):
    """Rules; what they do is in ``World``."""

    shop: Shop
    kind: str
    folder: Path

    @initialize()
    def begin(self) -> None:
        """Make everything anew."""
        self.world = World(self.shop, self.kind, self.folder)

    def chosen(self, number: int) -> Run:
        """Choose a run."""
        return self.world.runs[number % len(self.world.runs)]

    @rule(actions=st.lists(row_actions, min_size=3, max_size=9))
    def traffic(self, actions: list[tuple[str, int]]) -> None:
        """Let the application change rows."""
        for action in actions:
            self.world.traffic(*action)

    @rule(second=st.booleans(), later_days=st.sampled_from([0, 60]))
    def plan(self, second: bool, later_days: int) -> None:  # noqa: FBT001 - hypothesis gives it by name
        """Plan one more run: of the same policy, or of the other."""
        if len(self.world.runs) < 5:  # more would leave each unfinished
            self.world.plan(second=second, later_days=later_days)

    @rule(which=numbers, steps=st.integers(1, 4))
    def go_on(self, which: int, steps: int) -> None:
        """Do a run's next steps."""
        run = self.chosen(which)
        for _ in range(steps):
            if due := self.world.due(run):
                self.world.step(run, *due)

    @rule(which=numbers, place=numbers)
    def be_stopped(self, which: int, place: int) -> None:
        """Kill the worker in the midst of a run's next step."""
        run = self.chosen(which)
        if due := self.world.due(run):
            points = STOPS[due[0]]
            self.world.step(run, *due, points[place % len(points)], _stop)

    @rule(which=numbers, place=numbers, event=st.one_of(
        st.tuples(st.just("rows"), st.lists(row_actions, min_size=3, max_size=9)),
        st.tuples(st.just("twin"), numbers),
        st.tuples(st.just("step"), numbers),
        st.tuples(st.just("hold"), numbers),
        st.tuples(st.just("other"), numbers),
        st.tuples(st.just("schema"), st.sampled_from(SCHEMA_ACTIONS)),
    ))  # fmt: skip
    def be_overtaken(self, which: int, place: int, event: tuple[str, Any]) -> None:
        """Let something happen in the midst of a run's next step."""
        run = self.chosen(which)
        if due := self.world.due(run):
            points = POINTS[due[0]]
            self.world.step(run, *due, points[place % len(points)], self.event(run, due, event))

    def event(self, run: Run, due: tuple[str, int], event: tuple[str, Any]) -> Event:
        """Spell what happens."""
        kind, detail = event
        world = self.world
        if kind == "rows":
            return lambda: [world.traffic(*action) for action in detail]
        if kind == "schema":
            return lambda: world.alter(detail)
        if kind == "hold":
            return lambda: world.hold(detail, listed=detail % 2 == 0)
        if kind == "twin":
            return lambda: world.twin(run, *due)
        if kind == "step":
            other = self.chosen(detail)
            return lambda: world.twin(other, *found) if (found := world.due(other)) else None
        others = (
            lambda: world.end_change(commit=detail % 3 == 0),
            lambda: world.close(run),
            world.pause,
            world.resume,
            lambda: world.release(detail),
        )
        return others[detail % len(others)]

    @rule(which=numbers, step=st.sampled_from(["archive", "verify", "purge"]), chunk=numbers)
    def any_step(self, which: int, step: str, chunk: int) -> None:
        """Do a step out of its turn, or again."""
        run = self.chosen(which)
        if run.chunks:
            self.world.step(run, step, run.chunks[chunk % len(run.chunks)])

    @rule(which=numbers)
    def finish(self, which: int) -> None:
        """Do all that is left of a run."""
        self.world.finish(self.chosen(which))

    @rule(which=numbers)
    def report(self, which: int) -> None:
        """Reclaim and report, whatever is done."""
        self.world.close(self.chosen(which))

    @rule(which=numbers)
    def restore(self, which: int) -> None:
        """Put back a run that has taken something."""
        if begun := [run for run in self.world.runs if run.taken]:
            self.world.restore(begun[which % len(begun)])

    @rule(change=st.sampled_from(SCHEMA_ACTIONS))
    def alter(self, change: str) -> None:
        """Change the schema, or empty the table."""
        self.world.alter(change)

    @rule()
    def undo(self) -> None:
        """Take such changes back."""
        self.world.undo_all()

    @rule(number=numbers, deletes=st.booleans())
    def begin_change(self, number: int, deletes: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        """Leave a transaction of the application's open."""
        self.world.begin_change(number, deletes=deletes)

    @rule(commit=st.booleans())
    def end_change(self, commit: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        """End it."""
        self.world.end_change(commit=commit)

    @rule(number=numbers, listed=st.booleans())
    def hold(self, number: int, listed: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        """Place a hold."""
        self.world.hold(number, listed=listed)

    @rule(number=numbers)
    def release(self, number: int) -> None:
        """Release one."""
        self.world.release(number)

    @rule(pauses=st.booleans())
    def pause(self, pauses: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        """Pause all, or let all go on."""
        (self.world.pause if pauses else self.world.resume)()

    @invariant()
    def nothing_is_lost(self) -> None:
        """Between steps, nothing changes but by the application."""
        self.world.oracle.notice()

    def teardown(self) -> None:
        """Bring everything to its end, unless something is wrong already."""
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.world.come_to_an_end()
        finally:
            self.world.leave()


def _stop() -> None:
    raise Stopped


@pytest.mark.parametrize("kind", SECOND)
@pytest.mark.parametrize("engine", ["postgresql", "mariadb", "mysql"])
def test_no_sequence_of_changes_and_steps_loses_a_row(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str, kind: str
) -> None:
    """Whatever order they come in: rules above, oracle in ``traffic/oracle.py``."""
    shop: PostgresShop | MySqlShop
    if engine == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        shop = PostgresShop(server, f"traffic_{os.getpid()}")
    else:
        by_flavour: MySqlByFlavour = request.getfixturevalue("mysql_by_flavour")
        shop = MySqlShop(by_flavour(engine))
    machine = type("Traffic", (Traffic,), {"shop": shop, "kind": kind, "folder": tmp_path})
    met.clear()
    examples = int(os.environ.get("TRAFFIC_EXAMPLES") or (EXAMPLES[engine] if SHARE < 1 else 100))
    try:
        run_state_machine_as_test(
            seed(f"{SEED}/{engine}/{kind}")(machine),  # type: ignore[arg-type]
            settings=settings(
                max_examples=examples,
                stateful_step_count=STEPS,
                database=None,
                print_blob=False,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    except BaseException as error:
        error.add_note(f"{engine}, {kind}: TRAFFIC_EXAMPLES={examples} FAULTS_SEED={SEED} repeats it")
        raise
    finally:
        shop.remove()
        print("\n".join(f"{count:5} {name}" for name, count in sorted(met.items())))  # noqa: T201
