"""Invariant 4 where a run is given up: killed anywhere, and tried again, that leaves what an undisturbed try leaves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.between import before_batch
from tests.faults.kill_points import Forge
from tests.faults.share import NOTE, chosen
from tests.faults.stage import BATCH_ROWS, CHUNK_ROWS, EndState, Stage, end_state
from tests.faults.theatre import VARIANTS, Theatre, opened


class _Stopped(Exception):
    """The worker is gone."""


@dataclass(frozen=True)
class Halfway:
    """A run whose first chunk is purged in part and whose second is verified, with a copy of everything."""

    variant: str
    theatre: Theatre
    forge: Forge


@pytest.fixture(params=VARIANTS)
def halfway(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Halfway]:
    """Purge one batch, and no more."""
    with opened(request.param, request, tmp_path) as theatre, Forge(tmp_path) as forge:
        forge.run(theatre.stage, "plan", "archive 1", "verify 1", "archive 2", "verify 2").succeeded()
        with pytest.raises(_Stopped):
            theatre.stage.perform("purge 1", site=before_batch(theatre.stage, 2, _stop))
        theatre.keep("before_abandon")
        yield Halfway(request.param, theatre, forge)


def _stop() -> None:
    raise _Stopped


def what_is_left(stage: Stage) -> tuple[EndState, list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Give the ends of table, archive and books, why the run was given up, and what became of each object."""
    why = stage.execute("SELECT run_id, reason, abandoned_by FROM dbhygiene.abandonment")
    objects = stage.execute("SELECT chunk, part, state FROM dbhygiene.object ORDER BY chunk, part")
    return end_state(stage), why, objects


def test_a_killed_abandonment_is_made_good_by_its_retry(halfway: Halfway) -> None:
    """The objects of the chunk of which nothing was purged are gone, those of the other are there; no row is lost."""
    _kill_at_points(halfway)


@pytest.mark.parametrize("halfway", VARIANTS[:1], indirect=True)
def test_a_killed_removal_is_made_good_by_its_retry(halfway: Halfway) -> None:
    """The same with a store that is far away, as S3 is."""
    _kill_at_points(halfway, remote=True)


def _kill_at_points(halfway: Halfway, *, remote: bool = False) -> None:
    theatre, forge = halfway.theatre, halfway.forge
    undisturbed = theatre.put_back("before_abandon")
    hot = undisturbed.hot_rows()
    points = forge.run(undisturbed, "abandon", remote=remote).succeeded().points
    wanted = what_is_left(undisturbed)
    account = [(row[0], row[1], row[2], row[4]) for row in wanted[0].account]
    assert account == [(1, "purging", CHUNK_ROWS, BATCH_ROWS), (2, "planned", None, 0)]
    assert [state for *_, state in wanted[2]] == ["written", "written", "discarded", "discarded"]
    assert (wanted[0].run_state, wanted[0].strangers) == ("failed", ())
    faults = []
    for point in chosen(points, f"abandon, {halfway.variant}, {'remote' if remote else 'local'}"):
        stage = theatre.put_back("before_abandon")
        assert forge.run(stage, "abandon", at=point, remote=remote).signal == signal.SIGKILL, f"{point} was not met"
        assert stage.hot_rows() == hot
        forge.run(stage, "abandon").succeeded()
        if (found := what_is_left(stage)) != wanted:
            faults.append(f"killed {point}: {found}, not {wanted}")
    assert not faults, f"{len(faults)} faults ({NOTE}):\n" + "\n".join(faults[:20])
