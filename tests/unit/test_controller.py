"""The rhythm of a purge on a simulated server: it follows the load, neither swings nor starves, and recovers."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from statistics import mean

import pytest

from airflow_dbhygiene.errors import DatabaseUnavailable, Idle, Paused
from airflow_dbhygiene.pacing.controller import next_tempo
from airflow_dbhygiene.policy import Pace
from benchmarks.simulation import FULL_SPEED, SCENARIOS, Batch, Scenario, Simulation


@cache
def simulated(name: str) -> Simulation:
    """Run a scenario once."""
    return Simulation(SCENARIOS[name]).run()


def busy(batches: list[Batch], seconds: float) -> float:
    """Tell for which part of a time batches ran."""
    return sum(batch.seconds for batch in batches) / seconds


def test_on_a_quiet_server_it_loses_no_time() -> None:
    """Batches of the policy's length, one after the other, and no rest."""
    quiet = simulated("step").between(10, 60)
    assert busy(quiet, 50) == pytest.approx(1, abs=0.02)
    assert {batch.rows for batch in quiet} == {24_499}
    assert all(batch.seconds == pytest.approx(0.25, rel=0.01) for batch in quiet)


def test_load_that_comes_at_once_is_answered_by_the_next_batch() -> None:
    """One batch meets the load unprepared; those after it are short again, and rests between them are long."""
    loaded = simulated("step").between(60, 120)
    assert [batch.seconds < 0.3 for batch in loaded] == [batch.rows < 24_499 for batch in loaded]
    assert sum(batch.seconds > 0.3 for batch in loaded) == 1
    assert busy(loaded, 60) < 0.25
    assert simulated("step").speed(65, 120) < 0.02 * FULL_SPEED


def test_it_is_fast_again_once_the_load_is_gone() -> None:
    """Ten seconds later it is as fast as before; after a minute of load as after bursts."""
    step, burst, ramp = simulated("step"), simulated("burst"), simulated("ramp")
    assert step.speed(130, 180) == pytest.approx(step.speed(10, 60), rel=0.01)
    assert step.speed(120, 130) > 0.8 * step.speed(10, 60)
    assert ramp.speed(140, 180) == pytest.approx(step.speed(10, 60), rel=0.01)
    assert all(burst.speed(at + 10, at + 20) > 0.95 * FULL_SPEED for at in range(0, 180, 20))


def test_it_does_not_swing() -> None:
    """Under a steady load all batches are alike; under a rising one each is smaller than the one before."""
    steady, rising = simulated("step").between(65, 120), simulated("ramp").between(30, 120)
    assert max(batch.rows for batch in steady) <= 1.01 * min(batch.rows for batch in steady)
    assert all(after.rows <= before.rows for before, after in pairwise(rising))


def test_it_never_starves() -> None:
    """However the load is, no ten seconds pass without a batch, unless there is a reason to pause."""
    for name in ("step", "ramp", "burst", "noise", "replica"):
        done = simulated(name)
        assert all(done.between(at, at + 10) for at in range(0, 180, 10)), name


def test_a_load_that_stays_is_taken_for_the_servers_own_speed() -> None:
    """What is slow for good, such as rows that are not cached, is not slowed down further for long."""
    done = Simulation(Scenario(load=lambda now: 0.0 if now < 20 else 0.8, seconds=600)).run()
    assert busy(done.between(30, 60), 30) < 0.5
    assert busy(done.between(400, 600), 200) == pytest.approx(1, abs=0.02)


def test_chance_costs_little() -> None:
    """Batches that take now half, now twice as long: more than half of what others leave is used, gently."""
    done = simulated("noise")
    assert done.speed(10, 180) > 0.5 * 0.7 * FULL_SPEED
    lasting = [batch.seconds for batch in done.between(10, 180)]
    assert mean(lasting) < 0.25
    assert sum(seconds > 0.5 for seconds in lasting) < 0.05 * len(lasting)


def test_a_replica_is_followed_at_its_own_speed() -> None:
    """The lag stays near its limit, and the replica is never left without work."""
    done = simulated("replica")
    assert done.speed(10, 180) == pytest.approx(40_000, rel=0.05)
    lags = [lag for at, lag in done.lags if at > 10]
    assert max(lags) < 2.7
    assert min(lags) > 0.5


def test_nothing_is_deleted_during_a_pause_and_little_at_its_end() -> None:
    """After a long pause the first batches are small: what made us pause was perhaps ourselves."""
    done = simulated("stuck signal")
    assert done.between(60.3, 100) == []
    assert done.between(100, 101.1)[0].rows == 100
    assert done.speed(103, 180) > 0.95 * FULL_SPEED


def test_a_signal_that_cannot_be_read_ends_the_purge() -> None:
    """At once, with its own error: without the signal nothing more is deleted."""
    done = simulated("dead signal")
    assert isinstance(done.ended_by, DatabaseUnavailable)
    assert done.batches[-1].began < 60


@pytest.mark.parametrize(
    ("pace", "error", "seconds"),
    [(Pace(max_pause_seconds=30), Paused, 30), (Pace(max_pause_seconds=1e6, max_idle_seconds=50), Idle, 50)],
)
def test_a_pause_ends_as_the_policy_says(pace: Pace, error: type[Exception], seconds: float) -> None:
    """A pause that lasts too long defers the task, one that lasts far too long fails it."""
    done = Simulation(Scenario(signal=lambda now, _: "no" if now > 10 else None, seconds=1e6, pace=pace)).run()
    assert isinstance(done.ended_by, error)
    assert done.now == pytest.approx(10 + seconds, abs=2)


def test_the_rest_that_the_policy_asks_for() -> None:
    """Three times as long as the batch: a quarter of the time is used."""
    done = Simulation(Scenario(pace=Pace(rest_fraction=3))).run()
    assert busy(done.between(10, 180), 170) == pytest.approx(0.25, abs=0.01)


def test_a_batch_that_others_waited_for_makes_the_next_one_half_as_large() -> None:
    """However quick it was; and it grows again by half at most."""
    tempo = next_tempo(0.25, 50_000, 20_000, 80_000)
    smaller = tempo.after(20_000, 0.2, waited_for=True)
    assert smaller.rows == 10_000
    assert smaller.after(10_000, 0.1).rows == 15_000
    assert next_tempo(0.25, 50_000, 150, 80_000).after(150, 0.1, waited_for=True).rows == 100
