"""Cutoffs are exact by the calendar and the zone, and a wall clock never makes a young row look old."""

import datetime as dt

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pendulum import DateTime

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.policy.keep import UNITS, cutoff_at, parse_keep, wall_time

ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"),
    *("Africa/Casablanca", "Pacific/Apia", "Pacific/Kwajalein", "America/Caracas", "Asia/Tehran"),
)
DAY = 86_400
moments = st.integers(-DAY * 365 * 60, DAY * 365 * 80).map(pendulum.from_timestamp)
zones = st.sampled_from(ZONES)
# Both clock changes of many years and zones, to the second: chance alone would miss them.
changes = st.builds(
    lambda year, zone, which, seconds: (_change(year, zone, which).add(seconds=seconds), zone),
    st.integers(1971, 2037),
    zones,
    st.integers(0, 5),
    st.integers(-2 * 3600, 2 * 3600),
)
near_changes = st.one_of(changes, st.tuples(moments, zones))


def _change(year: int, zone: str, which: int) -> DateTime:
    """Give a moment of the year when the zone's clocks were set, or its beginning when they never were."""
    start = int(pendulum.datetime(year, 1, 1).timestamp())
    days = [start + day * DAY for day in range(366)]
    offsets = [pendulum.from_timestamp(day, zone).utcoffset() for day in days]
    found = [(days[i], days[i + 1]) for i in range(365) if offsets[i] != offsets[i + 1]]
    if not found:
        return pendulum.from_timestamp(start)
    low, high = found[which % len(found)]
    before = pendulum.from_timestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if pendulum.from_timestamp(middle, zone).utcoffset() == before else (low, middle)
    return pendulum.from_timestamp(high)


def clock(moment: DateTime, zone: str) -> dt.datetime:
    """Read a clock in the zone."""
    return moment.in_timezone(zone).naive()


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("90 days", {"days": 90}),
        ("1 day", {"days": 1}),
        ("7 years", {"years": 7}),
        ("1 year 6 months", {"years": 1, "months": 6}),
        ("1 year, 6 months and 2 weeks", {"years": 1, "months": 6, "weeks": 2}),
        ("36 HOURS", {"hours": 36}),
        (" 90days ", {"days": 90}),
        ("1 hour 30 minutes", {"hours": 1, "minutes": 30}),
    ],
)
def test_durations_read_as_people_write_them(text: str, counts: dict[str, int]) -> None:
    """Units stay what they are: 36 hours are no day and a half, a month is no 30 days."""
    assert parse_keep(text) == counts


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "days", "90", "90 d", "-90 days", "90 -days", "+90 days", "1.5 days", "0 days", "0 days 0 hours"),
        *("1 day 2 days", "ninety days", "90 days ago", "1 fortnight", "90 seconds", "P90D", "90 days; DROP", "∞ days"),
        *("1e3 days", "90 days\x00", "9" * 30 + " days", "99999999999 years"),
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    """Negative, zero, fractional, unknown or endless: the message shows the text and one that works."""
    with pytest.raises(PolicyInvalid) as refused:
        parse_keep(text)
    assert repr(text) in str(refused.value)
    assert "'90 days'" in str(refused.value)


@given(st.dictionaries(st.sampled_from(UNITS), st.integers(1, 5000), min_size=1))
def test_any_mixture_of_units_is_read(counts: dict[str, int]) -> None:
    """Each unit once, in any order, singular or plural."""
    text = " ".join(f"{count} {unit.removesuffix('s') if count == 1 else unit}" for unit, count in counts.items())
    assert parse_keep(text) == counts


@given(moments, zones, st.integers(1, 4000))
def test_days_are_days_of_the_calendar(as_of: DateTime, zone: str, days: int) -> None:
    """The cutoff is the same time of day, so many dates earlier, unless the zone's clocks skip it."""
    cutoff = cutoff_at(as_of, parse_keep(f"{days} days"), zone)
    wanted = clock(as_of, zone) - dt.timedelta(days=days)
    skipped = clock(cutoff, zone) - wanted
    assert cutoff.timezone_name == "UTC"
    assert skipped == dt.timedelta(0) or _is_skipped(wanted, zone)


def _is_skipped(wall: dt.datetime, zone: str) -> bool:
    shown = dt.datetime.fromtimestamp(wall.replace(tzinfo=pendulum.timezone(zone)).timestamp(), pendulum.timezone(zone))
    return shown.replace(tzinfo=None) != wall


@given(moments, st.integers(1, 400))
def test_months_are_months_of_the_calendar(as_of: DateTime, months: int) -> None:
    """The cutoff has the same day of the month, or the month's last day where that has no such day."""
    cutoff = cutoff_at(as_of, parse_keep(f"{months} months"), "UTC")
    assert (as_of.year * 12 + as_of.month) - (cutoff.year * 12 + cutoff.month) == months
    assert cutoff.day == min(as_of.day, cutoff.days_in_month)
    assert cutoff.time() == as_of.time()


@pytest.mark.parametrize(
    ("as_of", "keep", "zone", "cutoff"),
    [
        ("2024-03-31T12:00:00Z", "1 month", "UTC", "2024-02-29T12:00:00Z"),
        ("2023-03-31T12:00:00Z", "1 month", "UTC", "2023-02-28T12:00:00Z"),
        ("2024-02-29T00:00:00Z", "1 year", "UTC", "2023-02-28T00:00:00Z"),
        ("2024-03-31T12:00:00+02:00", "1 day", "Europe/Berlin", "2024-03-30T12:00:00+01:00"),
        ("2024-03-31T12:00:00+02:00", "1 day", "UTC", "2024-03-30T10:00:00Z"),
        ("2024-10-27T12:00:00+01:00", "1 day", "Europe/Berlin", "2024-10-26T12:00:00+02:00"),
        ("2024-10-27T12:00:00+01:00", "24 hours", "Europe/Berlin", "2024-10-26T13:00:00+02:00"),
    ],
)
def test_cutoffs_across_clock_changes(as_of: str, keep: str, zone: str, cutoff: str) -> None:
    """A day across a clock change is a day by the calendar, 24 hours are 24 hours."""
    assert cutoff_at(pendulum.parse(as_of), parse_keep(keep), zone) == pendulum.parse(cutoff)


@given(st.lists(st.integers(0, 3000), min_size=2, max_size=20).map(sorted), zones, st.sampled_from(UNITS[:4]))
def test_a_later_daily_run_never_cuts_earlier(days: list[int], zone: str, unit: str) -> None:
    """Runs at the same time of day move the cutoff forward, through clock changes and short months alike."""
    start = pendulum.datetime(2015, 1, 1, 6, tz=zone)
    cutoffs = [cutoff_at(start.add(days=day), parse_keep(f"3 {unit}"), zone) for day in days]
    assert cutoffs == sorted(cutoffs)


@given(moments, st.integers(0, 10**8), st.integers(1, 10_000))
def test_a_later_moment_never_cuts_earlier_in_utc(as_of: DateTime, later: int, days: int) -> None:
    """Without clock changes any later moment has a later cutoff."""
    keep = parse_keep(f"{days} days")
    assert cutoff_at(as_of, keep, "UTC") <= cutoff_at(as_of.add(seconds=later), keep, "UTC")


def test_a_keep_longer_than_the_calendar_is_refused() -> None:
    """It would reach back before the year 1."""
    with pytest.raises(PolicyInvalid, match="shorter duration"):
        cutoff_at(pendulum.datetime(2024, 1, 1), parse_keep("3000 years"), "UTC")


@given(near_changes, st.integers(0, 26 * 3600))
def test_the_wall_time_spares_all_later_rows(near: tuple[DateTime, str], seconds: int) -> None:
    """No row written at or after the moment shows a time before it: none of them looks stale."""
    moment, zone = near
    assert wall_time(moment, zone) <= clock(moment.add(seconds=seconds), zone)


@given(near_changes)
def test_the_wall_time_is_what_the_clock_shows_unless_it_will_show_it_again(near: tuple[DateTime, str]) -> None:
    """Rows wait no longer than they must: the digits differ only in time that the clock repeats."""
    moment, zone = near
    shown, safe = clock(moment, zone), wall_time(moment, zone)
    if shown != safe:
        repeats = [clock(moment.add(minutes=minutes), zone) for minutes in range(0, 26 * 60, 5)]
        assert any(repeat <= shown for repeat in repeats[1:])
        assert safe <= shown


@given(near_changes, st.integers(0, 3 * 3600))
def test_the_wall_time_never_goes_back(near: tuple[DateTime, str], seconds: int) -> None:
    """A later cutoff selects all that an earlier one did."""
    moment, zone = near
    assert wall_time(moment, zone) <= wall_time(moment.add(seconds=seconds), zone)


def test_the_repeated_hour_of_berlin() -> None:
    """In the first pass the hour's start counts, in the second what the clock shows."""
    first, second = pendulum.parse("2024-10-27T02:30:00+02:00"), pendulum.parse("2024-10-27T02:30:00+01:00")
    assert wall_time(first, "Europe/Berlin") == dt.datetime(2024, 10, 27, 2, 0)  # noqa: DTZ001 - a wall clock
    assert wall_time(second, "Europe/Berlin") == dt.datetime(2024, 10, 27, 2, 30)  # noqa: DTZ001 - a wall clock


def test_the_skipped_hour_of_berlin() -> None:
    """The moment after the gap shows the time after the gap."""
    moment = pendulum.parse("2024-03-31T03:00:00+02:00")
    assert wall_time(moment, "Europe/Berlin") == dt.datetime(2024, 3, 31, 3, 0)  # noqa: DTZ001 - a wall clock
    assert wall_time(moment.subtract(seconds=1), "Europe/Berlin").hour == 1
