"""Invariant 4: a step that is killed anywhere, and retried, ends as if nothing had happened.

Points are enumerated: a first child notes all that the step passes, then one child for each point kills itself there.
Without FAULTS_SHARE=1 a share of them is taken, chosen by FAULTS_SEED.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_dbhygiene.policy import Policy
from tests.faults.kill_points import Forge
from tests.faults.share import NOTE, SHARE, chosen
from tests.faults.stage import (
    BATCH_ROWS,
    CHUNK_ROWS,
    COLD_POLICY,
    OBJECT_ROWS,
    POLICY,
    STALE_ROWS,
    EndState,
    Stage,
    assert_every_row_is_accounted_for,
    certificate,
    drop_and_copy,
    end_state,
    keys_of,
    place_hold,
    strangers,
)
from tests.servers.postgres import PostgresServer

# Chunk 2 is done before chunk 1 begins, as it may be where each chunk has a worker of its own.
ORDER = ("plan", "archive 2", "verify 2", "purge 2", "archive 1", "verify 1", "purge 1", "reclaim", "report")

DRIFTED, VANISHED, HELD, LOCKED, DRIFTED_LATER = 10, 20, 30, 40, OBJECT_ROWS + 50


@dataclass(frozen=True)
class Rehearsal:
    """What an undisturbed run left, and database and folder as they were before each of its steps."""

    server: PostgresServer
    forge: Forge
    folder: Path
    locked_row: int
    keys: set[int]
    planned: list[tuple[Any, ...]]
    end: EndState
    changes: tuple[str, ...]
    policy: Policy

    def before(self, step: str, name: str) -> Stage:
        """Set database and folder back to where they were before a step."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder / _slug(step), folder)
        return Stage(drop_and_copy(self.server, name, _slug(step)), folder, self.policy)

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
    """Read all that a plan has frozen, but how far the server's transactions had come."""
    runs = stage.execute("SELECT run_id, state, since, cutoff, plan::jsonb - 'server', origin FROM dbhygiene.run")
    chunks = stage.execute(
        "SELECT chunk, state, label, lower_bound, upper_bound, planned_rows FROM dbhygiene.chunk ORDER BY chunk"
    )
    return [*runs, *chunks]


@pytest.fixture(scope="module")
def rehearsal(
    request: pytest.FixtureRequest, postgres: PostgresServer, few_flights: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rehearsal]:
    """Run once without any disturbance, and keep a copy of everything before each step."""
    folder, policy = tmp_path_factory.mktemp("killed"), COLD_POLICY if request.param == "cold" else POLICY
    (folder / "rehearsal").mkdir()
    stage = Stage(drop_and_copy(postgres, "rehearsal", few_flights), folder / "rehearsal", policy)
    keys, changes, locked = keys_of(stage), changes_of(stage), stage.id_at(LOCKED)
    keys.remove(stage.id_at(VANISHED))
    held = stage.id_at(HELD)
    frozen: list[tuple[Any, ...]] = []
    with Forge(folder) as forge:
        for step in ORDER:
            if step == "archive 2":
                frozen = planned(stage)
            if step == "purge 1":
                place_hold(stage, f"id = {held}")
                apply(stage, changes)
            drop_and_copy(postgres, _slug(step), "rehearsal")
            shutil.copytree(stage.folder, folder / _slug(step))
            forge.run(stage, step, locked_row=locked if step == "purge 1" else None).succeeded()
        hold = (
            "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
            f" VALUES ('case', 'public.flights', 'id = {held}', 'case 4711', 'legal')"
        )
        end = end_state(stage)
        yield Rehearsal(postgres, forge, folder, locked, keys, frozen, end, (*changes, hold), policy)
    for name in ("rehearsal", "killed", *map(_slug, ORDER)):
        postgres.drop_database(name)


@pytest.mark.parametrize("rehearsal", ["parquet", "cold"], indirect=True)
def test_the_undisturbed_run_takes_every_path(rehearsal: Rehearsal) -> None:
    """What the killed ones are compared with is right in itself, and has drifted, held, vanished and locked rows."""
    stage = Stage(rehearsal.server.dsn("rehearsal"), rehearsal.folder / "rehearsal", rehearsal.policy)
    assert_every_row_is_accounted_for(stage, rehearsal.keys)
    purged = CHUNK_ROWS - 4
    assert rehearsal.end.account == (
        (1, "purged", CHUNK_ROWS, CHUNK_ROWS, purged, 2, 1, 1, 0),
        (2, "purged", STALE_ROWS - CHUNK_ROWS, STALE_ROWS - CHUNK_ROWS, STALE_ROWS - CHUNK_ROWS, 0, 0, 0, 0),
    )
    batches = stage.execute("SELECT end_ordinal, careful, locked FROM dbhygiene.batch WHERE chunk = 1 ORDER BY batch")
    assert batches == [(BATCH_ROWS, True, 1), (2 * BATCH_ROWS, False, 0), (CHUNK_ROWS, True, 0)]
    assert len(stage.object_paths(1)) == len(stage.object_paths(2)) == 2
    assert (rehearsal.end.run_state, rehearsal.end.strangers) == ("done", ())


@pytest.mark.parametrize(
    ("rehearsal", "step", "store"),
    [
        *(("parquet", step, "local") for step in ("plan", "archive 1", "verify 1", "purge 1", "reclaim", "report")),
        *(("parquet", step, "remote") for step in ("plan", "archive 1", "report")),
        *(("cold", step, "cold") for step in ("plan", "archive 1", "verify 1", "purge 1", "report")),
    ],
    indirect=["rehearsal"],
)
def test_a_killed_step_is_made_good_by_its_retry(
    rehearsal: Rehearsal, step: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the point, the retry leaves the rows, the archive and the counts of the undisturbed run."""
    remote = store == "remote"
    details: dict[str, Any] = {"remote": remote, "locked_row": rehearsal.locked_row if step == "purge 1" else None}
    points = rehearsal.forge.run(rehearsal.before(step, "killed"), step, **details).succeeded().points
    if remote:  # the rest is as it is with a local folder
        points = tuple(point for point in points if point.kind in ("upload", "fetch", "remove"))
    tally, faults = Tally(f"{step}, {store} store"), []
    for point in chosen(points, step)[:: 3 if store == "cold" and SHARE < 1 else 1]:  # the rest is as it is with files
        stage = rehearsal.before(step, "killed")
        assert rehearsal.forge.run(stage, step, at=point, **details).signal == signal.SIGKILL, f"{point} was not met"
        tally.hits[point.kind, point.moment] += 1
        faults += [f"killed {point}: {fault}" for fault in _faults(rehearsal, stage, step)]
    with capsys.disabled():
        print(f"\n{tally.table()}")  # noqa: T201 - a figure for whoever watches
    assert not faults, f"{len(faults)} faults ({NOTE}):\n" + "\n".join(fault[:2000] for fault in faults[:20])


def _faults(rehearsal: Rehearsal, stage: Stage, step: str) -> Iterator[str]:
    """Retry, and say in what the end differs from the undisturbed one."""
    try:
        if step == "plan":
            yield from _faults_of_plan(rehearsal, stage)
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


def _faults_of_certificate(stage: Stage) -> Iterator[str]:
    """The certificate in the store is the one of the ledger, and its figures are the chunks'."""
    in_store = certificate(stage)
    if in_store != stage.one("SELECT report FROM dbhygiene.run"):
        yield "the certificate in the store is not the ledger's"
    told = json.loads(in_store)
    counted = tuple(told[f"rows_{name}"] for name in ("archived", "purged", "drifted", "held", "vanished", "locked"))
    summed = stage.execute(
        "SELECT sum(archived_rows)::int, sum(purged)::int, sum(drifted)::int, sum(held)::int, sum(vanished)::int,"
        " sum(locked)::int FROM dbhygiene.chunk"
    )
    if [counted] != summed:
        yield f"the certificate tells {counted}, the chunks {summed}"
