"""Invariant 4: a step that is killed anywhere, and retried, ends as if nothing had happened.

Points are enumerated: a first child notes all that the step passes, then one child for each point kills itself there.
Without FAULTS_SHARE=1 a share of them is taken, chosen by FAULTS_SEED.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults.kill_points import Forge, Point
from tests.faults.share import NOTE, chosen
from tests.faults.stage import (
    BATCH_ROWS,
    CHUNK_ROWS,
    OBJECT_ROWS,
    RUN,
    STALE_ROWS,
    EndState,
    Stage,
    assert_every_row_is_accounted_for,
    end_state,
    keys_of,
    place_hold,
    strangers,
)
from tests.faults.theatre import VARIANTS, Theatre, opened

# Chunk 2 is done before chunk 1 begins, as it may be where each chunk has a worker of its own.
ORDER = ("plan", "archive 2", "verify 2", "purge 2", "archive 1", "verify 1", "purge 1", "reclaim", "report")

_TRIES = 3

DRIFTED, VANISHED, HELD, LOCKED, DRIFTED_LATER = 10, 20, 30, 40, OBJECT_ROWS + 50


@dataclass(frozen=True)
class Rehearsal:
    """What an undisturbed run left, and databases and folder as they were before each of its steps.

    :param restored: the table's rows after the run was restored
    """

    variant: str
    theatre: Theatre
    forge: Forge
    locked_row: int
    keys: set[int]
    planned: list[tuple[Any, ...]]
    end: EndState
    restored: bytes
    changes: tuple[str, ...]

    @property
    def part(self) -> float:
        """Of the share of the points, where the first variant has taken a whole one."""
        return 1 if self.variant == VARIANTS[0] else 0.1

    def before(self, step: str) -> Stage:
        """Set databases and folder back to where they were before a step."""
        return self.theatre.put_back(_slug(step))

    def finish(self, stage: Stage, step: str) -> None:
        """Retry a step and go on to the run's end, the application's changes included."""
        left = ORDER[ORDER.index(step) :]
        if "purge 1" in left and step != "purge 1":
            self.forge.run(stage, *left[: left.index("purge 1")]).succeeded()
            apply(stage, self.changes)
            left = left[left.index("purge 1") :]
        self.forge.run(stage, *left, locked_row=self.locked_row).succeeded()


@dataclass
class Tally:
    """How many children were killed at points of each kind."""

    step: str
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)

    def table(self) -> str:
        """Write it for a person."""
        moments = ("before", "amid", "after")
        kinds = sorted({kind for kind, _ in self.hits})
        width = max(map(len, kinds))
        title = f"killed in {self.step} {self.hits.total()} times ({NOTE})"
        lines = [title, " " * (width + 4) + "  before  amid  after"]
        for kind in kinds:
            before, amid, after = (self.hits[kind, moment] or "" for moment in moments)
            lines.append(f"    {kind:<{width}}  {before:>6}  {amid:>4}  {after:>5}")
        return "\n".join(lines)


def _slug(step: str) -> str:
    return f"before_{step.replace(' ', '_')}"


def apply(stage: Stage, changes: Iterable[str]) -> None:
    """Change rows as the application does."""
    for change in changes:
        stage.execute(change)


def changes_of(stage: Stage) -> tuple[str, ...]:
    """Write what the application does to archived rows before their purge."""
    drift = "UPDATE flights SET dep_delay = 1000 WHERE id = {}"
    return (
        drift.format(stage.id_at(DRIFTED)),
        drift.format(stage.id_at(DRIFTED_LATER)),
        f"DELETE FROM flights WHERE id = {stage.id_at(VANISHED)}",
    )


def planned(stage: Stage) -> list[tuple[Any, ...]]:
    """Read all that a plan has frozen, but how far the server's transactions had come, and its own guesses."""
    ((*run, text),) = stage.execute("SELECT run_id, state, since, cutoff, origin, plan FROM dbhygiene.run")
    plan = {name: value for name, value in json.loads(text).items() if name not in ("server", *_GUESSES)}
    chunks = stage.execute(
        "SELECT chunk, state, label, lower_bound, upper_bound, planned_rows FROM dbhygiene.chunk ORDER BY chunk"
    )
    return [(*run, plan), *chunks]


_GUESSES = ("row_estimate", "table_bytes")


@pytest.fixture(scope="module", params=VARIANTS)
def rehearsal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """Run once without any disturbance, and keep a copy of everything before each step."""
    folder = tmp_path_factory.mktemp("killed")
    with opened(request.param, request, folder) as theatre, Forge(folder) as forge:
        yield _rehearse(request.param, theatre, forge)


def _rehearse(variant: str, theatre: Theatre, forge: Forge) -> Rehearsal:
    stage = theatre.stage
    keys, changes, locked = keys_of(stage), changes_of(stage), stage.id_at(LOCKED)
    keys.remove(stage.id_at(VANISHED))
    held = stage.id_at(HELD)
    frozen: list[tuple[Any, ...]] = []
    for step in ORDER:
        if step == "archive 2":
            frozen = planned(stage)
        if step == "purge 1":
            place_hold(stage, f"id = {held}")
            apply(stage, changes)
        theatre.keep(_slug(step))
        forge.run(stage, step, locked_row=locked if step == "purge 1" else None).succeeded()
    theatre.keep(_slug("restore"))
    hold = (
        "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
        f" VALUES ('case', '{stage.policy.table}', 'id = {held}', 'case 4711', 'legal')"
    )
    end = end_state(stage)
    forge.run(stage, "restore").succeeded()
    return Rehearsal(variant, theatre, forge, locked, keys, frozen, end, stage.hot_rows(), (*changes, hold))


def test_the_undisturbed_run_takes_every_path(rehearsal: Rehearsal) -> None:
    """What the killed ones are compared with is right in itself, and has drifted, held, vanished and locked rows."""
    stage = rehearsal.before("restore")
    assert_every_row_is_accounted_for(stage, rehearsal.keys)
    purged = CHUNK_ROWS - 4
    assert rehearsal.end.account == (
        (1, "purged", CHUNK_ROWS, CHUNK_ROWS, purged, 2, 1, 1, 0),
        (2, "purged", STALE_ROWS - CHUNK_ROWS, STALE_ROWS - CHUNK_ROWS, STALE_ROWS - CHUNK_ROWS, 0, 0, 0, 0),
    )
    batches = stage.execute("SELECT end_ordinal, careful, locked FROM dbhygiene.batch WHERE chunk = 1 ORDER BY batch")
    assert batches == [(BATCH_ROWS, True, 1), (2 * BATCH_ROWS, False, 0), (CHUNK_ROWS, True, 0)]
    assert stage.execute("SELECT chunk, count(*) FROM dbhygiene.object GROUP BY chunk ORDER BY 1") == [(1, 2), (2, 2)]
    assert (rehearsal.end.run_state, rehearsal.end.strangers) == ("done", ())


@pytest.mark.parametrize("step", ["plan", "archive 1", "verify 1", "purge 1", "reclaim", "report"])
def test_a_killed_step_is_made_good_by_its_retry(
    rehearsal: Rehearsal, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the point, the retry leaves the rows, the archive and the counts of the undisturbed run."""
    locked = rehearsal.locked_row if step == "purge 1" else None
    _kill_at_points(rehearsal, step, capsys, locked_row=locked)


@pytest.mark.parametrize("rehearsal", VARIANTS[:1], indirect=True)
@pytest.mark.parametrize("step", ["plan", "archive 1", "report"])
def test_a_killed_upload_is_made_good_by_its_retry(
    rehearsal: Rehearsal, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same with a store that files are put to, as to S3; all else is as it is with a local folder."""
    _kill_at_points(rehearsal, step, capsys, remote=True)


def test_a_killed_restore_is_made_good_by_its_retry(rehearsal: Rehearsal, capsys: pytest.CaptureFixture[str]) -> None:
    """All rows that were purged are back, once; what the application had changed or deleted is as it left it."""
    _kill_at_points(rehearsal, "restore", capsys)


def _kill_at_points(
    rehearsal: Rehearsal, step: str, capsys: pytest.CaptureFixture[str], *, remote: bool = False, **details: Any
) -> None:
    details = {"remote": remote, **details}
    points = rehearsal.forge.run(rehearsal.before(step), step, **details).succeeded().points
    if remote:
        points = tuple(point for point in points if point.kind in ("upload", "fetch", "remove"))
    where = f"{rehearsal.variant}, remote" if remote else rehearsal.variant
    tally, faults, started = Tally(f"{step} ({where})"), [], time.monotonic()
    for point in chosen(points, f"{where}/{step}", rehearsal.part):
        stage = _killed_at(rehearsal, step, point, details)
        tally.hits[point.kind, point.moment] += 1
        faults += [f"killed {point}: {fault}" for fault in _faults(rehearsal, stage, step)]
    with capsys.disabled():
        print(f"\n{tally.table()}, {time.monotonic() - started:.0f} s")  # noqa: T201 - a figure for whoever watches
    assert not faults, f"{len(faults)} faults ({NOTE}):\n" + "\n".join(fault[:2000] for fault in faults[:20])


def _killed_at(rehearsal: Rehearsal, step: str, point: Point, details: dict[str, Any]) -> Stage:
    """Kill a step there. Where a row was locked for a moment, its batch has gone row by row and passed other points."""
    for _ in range(_TRIES):
        stage = rehearsal.before(step)
        if rehearsal.forge.run(stage, step, at=point, **details).signal == signal.SIGKILL:
            return stage
    raise AssertionError(f"{point} was not met in {_TRIES} tries")


def _faults(rehearsal: Rehearsal, stage: Stage, step: str) -> Iterator[str]:
    """Retry, and say in what the end differs from the undisturbed one."""
    try:
        if step == "plan":
            yield from _faults_of_plan(rehearsal, stage)
            return
        if step == "restore":
            yield from _faults_of_restore(rehearsal, stage)
            return
        rehearsal.finish(stage, step)
        end = end_state(stage)
        for name, wanted in vars(rehearsal.end).items():
            if getattr(end, name) != wanted:
                yield f"{name} is {getattr(end, name)}, not {wanted}"
        assert_every_row_is_accounted_for(stage, rehearsal.keys)
        yield from _faults_of_certificate(stage)
    except AssertionError as error:
        yield str(error)


def _faults_of_plan(rehearsal: Rehearsal, stage: Stage) -> Iterator[str]:
    rehearsal.forge.run(stage, "plan").succeeded()
    for found, wanted in zip(planned(stage), rehearsal.planned, strict=True):
        if found != wanted:
            yield f"the ledger holds {found!r:.500}, not {wanted!r:.500}"
    if left := list(strangers(stage)):
        yield f"the store keeps {left}"


def _faults_of_restore(rehearsal: Rehearsal, stage: Stage) -> Iterator[str]:
    rehearsal.forge.run(stage, "restore").succeeded()
    if stage.hot_rows() != rehearsal.restored:
        yield "the table's rows are not those of the undisturbed restore"
    purged = sum(int(str(row[4])) for row in rehearsal.end.account)
    told = stage.execute("SELECT chunk, first_ordinal, end_ordinal, restored FROM dbhygiene.restore ORDER BY 1, 2")
    if sum(row[3] for row in told) != purged:
        yield f"the ledger tells {told}, where {purged} rows came back"


def _faults_of_certificate(stage: Stage) -> Iterator[str]:
    """The certificate in the store is the one of the ledger, and its figures are the chunks'."""
    in_store = stage.text(f"{stage.policy.table}/run={RUN}/certificate.json")
    if in_store != stage.one("SELECT report FROM dbhygiene.run"):
        yield "the certificate in the store is not the ledger's"
    told = json.loads(in_store)
    counted = tuple(told[f"rows_{name}"] for name in ("archived", "purged", "drifted", "held", "vanished", "locked"))
    summed = stage.execute(
        "SELECT sum(archived_rows), sum(purged), sum(drifted), sum(held), sum(vanished), sum(locked)"
        " FROM dbhygiene.chunk"
    )
    if [counted] != summed:
        yield f"the certificate tells {counted}, the chunks {summed}"
