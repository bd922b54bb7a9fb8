"""Invariant 4 where nothing is archived: a purge that is killed anywhere counts each row once, and takes no others."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from airflow_dbhygiene.policy import Discard
from tests.faults.kill_points import Forge
from tests.faults.share import NOTE, chosen
from tests.faults.stage import STALE_ROWS, Stage, place_hold
from tests.faults.theatre import Theatre, opened

HELD = 30


@dataclass(frozen=True)
class Planned:
    """A run that is planned, with a copy of everything as it was then."""

    engine: str
    theatre: Theatre
    forge: Forge


@pytest.fixture(params=["postgresql", "mariadb", "mysql"])
def planned(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Planned]:
    """Plan a run that discards, and hold one of its rows."""
    with opened(f"{request.param}, parquet", request, tmp_path) as archiving, Forge(tmp_path) as forge:
        policy = archiving.stage.policy.model_copy(update={"archive": Discard(reason="a cache")})
        theatre = replace(archiving, stage=replace(archiving.stage, policy=policy))  # type: ignore[type-var]
        held = theatre.stage.id_at(HELD)
        forge.run(theatre.stage, "plan").succeeded()
        place_hold(theatre.stage, f"id = {held}")
        theatre.keep("before_purge")
        yield Planned(request.param, theatre, forge)


def what_is_left(stage: Stage) -> tuple[object, ...]:
    """Give the table's rows, and what chunks and batches say of those that went."""
    chunks = stage.execute("SELECT chunk, state, purged, purged_through FROM dbhygiene.chunk ORDER BY chunk")
    batches = stage.execute("SELECT chunk, sum(purged) FROM dbhygiene.batch GROUP BY chunk ORDER BY chunk")
    return stage.hot_rows(), chunks, [(chunk, int(purged)) for chunk, purged in batches]


def test_a_killed_discard_is_made_good_by_its_retry(planned: Planned) -> None:
    """The retry leaves the rows and the counts of the undisturbed run."""
    theatre, forge = planned.theatre, planned.forge
    undisturbed = theatre.put_back("before_purge")
    points = forge.run(undisturbed, "purge 1").succeeded().points
    forge.run(undisturbed, "purge 2", "report").succeeded()
    wanted = what_is_left(undisturbed)
    assert undisturbed.one("SELECT sum(purged) FROM dbhygiene.chunk") == STALE_ROWS - 1
    faults = []
    for point in chosen(points, f"discard, {planned.engine}"):
        stage = theatre.put_back("before_purge")
        assert forge.run(stage, "purge 1", at=point).signal == signal.SIGKILL, f"{point} was not met"
        forge.run(stage, "purge 1", "purge 2", "report").succeeded()
        if what_is_left(stage) != wanted:
            faults.append(f"killed {point}: {what_is_left(stage)[1:]}, not {wanted[1:]}")
    assert not faults, f"{len(faults)} faults ({NOTE}):\n" + "\n".join(faults[:20])
