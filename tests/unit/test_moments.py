"""The two moments between which rows are stale follow from the run, never from a worker's clock."""

import itertools
from dataclasses import replace
from typing import Any

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pendulum import DateTime

from airflow_dbhygiene.errors import CutoffRefused
from airflow_dbhygiene.operators.moments import parse_moment
from airflow_dbhygiene.policy import Expired, Matching, OlderThan, Parquet, Policy
from airflow_dbhygiene.policy.moments import Moments, Window, origin_digest, resolve_window


def policy(stale: Any = None, **fields: Any) -> Policy:
    """Give a policy that keeps 10 days unless told otherwise."""
    chosen = stale or OlderThan("at", keep="10 days")
    return Policy(name="p", conn_id="c", table="s.t", stale=chosen, archive=Parquet("file:///a"), **fields)


def day(number: int) -> DateTime:
    """Give a day of January 2024."""
    return pendulum.datetime(2024, 1, number)


ALL = Moments(day(25), day(18), day(19), day(21), day(23))


@pytest.mark.parametrize(
    ("moments", "as_of"),
    [
        (ALL, day(25)),
        (Moments(None, day(18), day(19), day(21), day(23)), day(19)),
        (Moments(partition=day(21), run_after=day(23)), day(21)),
        (Moments(run_after=day(23)), day(23)),
    ],
    ids=["explicit", "interval end", "partition", "run_after"],
)
def test_the_first_moment_that_is_known_counts(moments: Moments, as_of: DateTime) -> None:
    """Explicit before data interval before partition before the moment when the run was due."""
    assert resolve_window(policy(), moments) == Window(None, as_of.subtract(days=10), as_of)


@pytest.mark.parametrize("text", ["now", "12:00", "T12:00", "2024-01-01/2024-01-02", "P1D", "soon"])
def test_a_text_that_means_another_moment_in_each_try_is_refused(text: str) -> None:
    """Or a retry would be another run than the first try."""
    with pytest.raises(CutoffRefused, match=f"as_of {text!r} is not (a|one) moment: write it like 2026-01-31"):
        parse_moment(text, "as_of")
    assert parse_moment("2024-01-31", "as_of") == parse_moment("2024-01-31T01:00+01:00", "as_of") == day(31)


def test_a_run_without_any_date_is_refused() -> None:
    """There is no falling back to the clock."""
    with pytest.raises(CutoffRefused, match="policy 'p': the run has no date"):
        resolve_window(policy(), Moments())


def test_expired_rows_count_from_their_grace() -> None:
    """Without a grace the cutoff is the moment itself."""
    at = Moments(explicit=day(20))
    assert resolve_window(policy(Expired("at")), at).cutoff == day(20)
    assert resolve_window(policy(Expired("at", grace="2 days")), at).cutoff == day(18)


def test_an_expression_has_no_cutoff() -> None:
    """Matching selects by no age; the run is still named by its moment."""
    assert resolve_window(policy(Matching("void")), Moments(run_after=day(20))) == Window(None, None, day(20))


def test_a_windowed_policy_takes_the_interval_and_nothing_else() -> None:
    """Both ends of the data interval, each keep earlier; an explicit moment is refused, not ignored."""
    window = resolve_window(policy(window="interval"), replace(ALL, explicit=None))
    assert window == Window(day(8), day(9), day(19))
    with pytest.raises(CutoffRefused, match="and no as_of"):
        resolve_window(policy(window="interval"), ALL)


@pytest.mark.parametrize(
    "moments",
    [Moments(run_after=day(9)), Moments(interval_end=day(9)), Moments(interval_start=day(9))],
    ids=["only due", "no start", "no end"],
)
def test_a_windowed_policy_without_interval_is_refused(moments: Moments) -> None:
    """The message names the timetable that brings one."""
    with pytest.raises(CutoffRefused, match=r"no data interval.*CronDataIntervalTimetable"):
        resolve_window(policy(window="interval"), moments)


@pytest.mark.parametrize("end", [day(9), day(8)], ids=["zero width", "backwards"])
def test_an_interval_without_width_is_refused(end: DateTime) -> None:
    """A bare cron string gives intervals of no width: they would purge nothing, for ever, in green."""
    with pytest.raises(CutoffRefused, match=r"no width.*CronDataIntervalTimetable"):
        resolve_window(policy(window="interval"), Moments(interval_start=day(9), interval_end=end))


@given(
    st.lists(st.integers(0, 4000), min_size=2, max_size=30, unique=True).map(sorted),
    st.sampled_from(["90 days", "1 month", "7 years", "5 hours", "1 year 1 month"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
def test_consecutive_windows_tile(days: list[int], keep: str, zone: str) -> None:
    """Each window begins where the last one ended: every row belongs to one of them, and to one only."""
    chosen = policy(OlderThan("at", keep=keep, zone=zone), window="interval")
    ends = [pendulum.datetime(2014, 1, 1, tz=zone).add(days=each) for each in days]
    windows = [
        resolve_window(chosen, Moments(interval_start=start, interval_end=end))
        for start, end in itertools.pairwise(ends)
    ]
    assert all(earlier.cutoff == later.since for earlier, later in itertools.pairwise(windows))
    assert all(window.since <= window.cutoff for window in windows)


def test_an_origin_names_the_same_run_each_time() -> None:
    """A retry finds the run that the first try planned; another policy or origin never does."""
    names = {origin_digest(policy, origin) for policy in ("a", "b") for origin in ("1", "2")}
    assert len(names) == 4
    assert origin_digest("a", "1") == origin_digest("a", "1")
