"""The size of batches follows the server's speed: it grows slowly, shrinks at once, and never passes its limit."""

import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dbhygiene.pacing.controller import Tempo, first_tempo, next_tempo
from airflow_dbhygiene.pacing.reasons import within_hours

speeds = st.lists(st.floats(1, 1e7), min_size=1, max_size=60)


def simulate(tempo: Tempo, speeds: list[float]) -> list[Tempo]:
    """Let a server delete batch after batch at the given rows per second."""
    return list(itertools.accumulate(speeds, lambda at, speed: at.after(at.rows, at.rows / speed), initial=tempo))


@given(st.floats(0.01, 10), st.integers(1, 100_000), speeds)
def test_a_batch_stays_within_its_limits(target: float, most: int, speeds: list[float]) -> None:
    """Never more than the policy allows, never nothing."""
    assert all(1 <= tempo.rows <= most for tempo in simulate(first_tempo(target, most), speeds))


@given(st.floats(0.01, 10), st.integers(1, 100_000), speeds)
def test_a_batch_grows_by_half_at_most(target: float, most: int, speeds: list[float]) -> None:
    """One fast batch proves little."""
    steps = itertools.pairwise(simulate(first_tempo(target, most), speeds))
    assert all(after.rows <= before.rows * 1.5 for before, after in steps)


@given(st.floats(0.05, 1), st.lists(st.floats(1e3, 1e6), max_size=30), st.floats(1e3, 1e6))
def test_a_slow_batch_shrinks_the_next_one_at_once(target: float, before: list[float], slow: float) -> None:
    """After a batch that took too long the next one is reckoned by that speed, not by a mean of better days."""
    tempo = simulate(first_tempo(target, 20_000), before)[-1]
    after = tempo.after(tempo.rows, tempo.rows / slow)
    if tempo.rows / slow > target:
        assert after.rows <= max(slow * target, 100) + 1e-6  # the last digit is rounding


def test_it_settles_at_its_target() -> None:
    """At a steady 40,000 rows a second a batch comes to last its quarter second."""
    last = simulate(first_tempo(0.25, 20_000), [40_000.0] * 20)[-1]
    assert last.rows == pytest.approx(10_000, rel=0.01)


def test_it_recovers_after_a_storm() -> None:
    """Slow while the server is busy, back at full size within a few dozen batches."""
    calm, storm = [80_000.0] * 20, [500.0] * 5
    tempos = simulate(first_tempo(0.25, 20_000), [*calm, *storm, *calm, *calm])
    assert tempos[20].rows >= 19_990
    assert tempos[21].rows <= 125
    assert tempos[25].rows <= 125
    assert tempos[-1].rows >= 19_990


def test_the_last_few_rows_of_an_object_say_nothing_of_the_server() -> None:
    """Two rows in ten milliseconds are no slow server: the next object begins at the tempo of this one."""
    steady = simulate(first_tempo(0.25, 20_000), [80_000.0] * 20)[-1]
    after = steady.after(2, 0.01)
    assert (after.rows, after.rate, after.rest_seconds) == (steady.rows, steady.rate, 0)
    assert steady.after(2, 5.0).rows == 100, "as few rows that take seconds do"


def test_a_batch_in_no_time_is_no_fault() -> None:
    """The clock may not move between two readings."""
    assert first_tempo(0.25, 1000).after(250, 0.0).rows == 375


@given(st.floats(0.01, 10), st.integers(1, 100_000), st.integers(1, 200_000), st.floats(1, 1e7))
def test_a_chunk_goes_on_at_the_tempo_of_the_one_before(target: float, most: int, rows: int, rate: float) -> None:
    """Neither larger than any batch was, nor longer than one should last, nor beyond a limit that is new."""
    tempo = next_tempo(target, most, rows, rate)
    assert 1 <= tempo.rows <= min(rows, most)
    assert tempo.rows <= max(rate * target, 1)


@pytest.mark.parametrize(
    ("hours", "time", "inside"),
    [
        ("22:00-06:00", "22:00", True),
        ("22:00-06:00", "23:59", True),
        ("22:00-06:00", "00:00", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "06:00", False),
        ("22:00-06:00", "21:59", False),
        ("09:00-17:00", "09:00", True),
        ("09:00-17:00", "16:59", True),
        ("09:00-17:00", "17:00", False),
        ("09:00-17:00", "08:59", False),
        ("00:00-23:59", "12:00", True),
    ],
)
def test_hours_hold_their_start_and_not_their_end(hours: str, time: str, inside: bool) -> None:  # noqa: FBT001 - a case
    """Also over midnight."""
    assert within_hours(hours, dt.time.fromisoformat(time)) is inside


@given(st.times(), st.times(), st.times())
def test_a_span_and_its_opposite_share_the_day(start: dt.time, end: dt.time, time: dt.time) -> None:
    """Every minute lies in a span or in the one that goes from its end to its start, never in both."""
    if start.strftime("%H:%M") != end.strftime("%H:%M"):
        there, back = f"{start:%H:%M}-{end:%H:%M}", f"{end:%H:%M}-{start:%H:%M}"
        assert within_hours(there, time) is not within_hours(back, time)
