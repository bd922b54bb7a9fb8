"""How long rows are kept, and the cutoff that follows: exact by the calendar and the time zone."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import pendulum

from airflow_dbhygiene.errors import PolicyInvalid

if TYPE_CHECKING:
    from pendulum import DateTime

DATE_UNITS: Final = ("years", "months", "weeks", "days")
TIME_UNITS: Final = ("hours", "minutes")
UNITS: Final = (*DATE_UNITS, *TIME_UNITS)
_MOST_DIGITS: Final = 9  # more would reach back before the year 1 in any unit
_PART = re.compile(r"(?P<count>\d+)\s*(?P<unit>[a-z]+)")
_WHOLE = re.compile(r"\s*\d+\s*[a-z]+(\s*(,|and)?\s*\d+\s*[a-z]+)*\s*")


def parse_keep(text: str) -> Mapping[str, int]:
    """Read "90 days", "7 years" or "1 year 6 months".

    :param text: counts and units; units are years, months, weeks, days, hours, minutes
    :returns: unit → count. Not pendulum's Duration, which counts 36 hours as a day and a half
    :raises PolicyInvalid: when the text cannot be read, or is zero or negative
    """
    lowered = text.lower()
    if not _WHOLE.fullmatch(lowered):
        raise PolicyInvalid(_unreadable(text))
    counts: dict[str, int] = {}
    for part in _PART.finditer(lowered):
        unit = part["unit"] if part["unit"].endswith("s") else part["unit"] + "s"
        if unit not in UNITS or unit in counts:
            raise PolicyInvalid(_unreadable(text))
        if len(part["count"]) > _MOST_DIGITS:
            raise PolicyInvalid(f"keep {text!r} reaches back before the year 1: give a shorter one, such as '90 days'.")
        counts[unit] = int(part["count"])
    if not any(counts.values()):
        raise PolicyInvalid(f"keep {text!r} is zero: every row would be stale. Give a duration such as '90 days'.")
    return counts


def _unreadable(text: str) -> str:
    return f"keep {text!r} is not a duration. Write counts and units, such as '90 days', '7 years', '1 year 6 months'."


def cutoff_at(as_of: DateTime, keep: Mapping[str, int], zone: str) -> DateTime:
    """Subtract on the zone's own calendar, so that a day across a clock change is still a day, and an hour an hour.

    :param as_of: the moment that ``keep`` counts back from; aware
    :param zone: name of the IANA time zone whose calendar counts
    :returns: the cutoff in UTC
    """
    try:
        # pendulum's own `-` would turn days into hours; and hours with days into hours of the wall clock.
        day = as_of.in_timezone(zone).subtract(**{unit: keep.get(unit, 0) for unit in DATE_UNITS})
        return day.subtract(**{unit: keep.get(unit, 0) for unit in TIME_UNITS}).in_timezone("UTC")
    except (OverflowError, ValueError) as error:
        message = f"keep reaches back before the year 1 from {as_of}: give a shorter duration."
        raise PolicyInvalid(message) from error


def wall_time(moment: DateTime, zone: str) -> dt.datetime:
    """What a clock in the zone shows, never later than what any row written at or after the moment would show.

    In the hour that a clock repeats, the same digits stand for two moments. Before the second pass has begun, the
    digits of that hour are not safe to compare with; the hour's start is.
    """
    local = moment.in_timezone(zone)
    first, second = local.replace(fold=0), local.replace(fold=1)
    naive = dt.datetime(*local.timetuple()[:6], local.microsecond)  # noqa: DTZ001 - a wall clock has no zone
    if local.fold == 1 or first.utcoffset() == second.utcoffset():
        return naive
    return _start_of_repeated_hour(moment, zone)


def _start_of_repeated_hour(moment: DateTime, zone: str) -> dt.datetime:
    offset = moment.in_timezone(zone).utcoffset()
    low, high = int(moment.timestamp()), int(moment.timestamp()) + 86_400
    while high - low > 1:
        middle = (low + high) // 2
        if pendulum.from_timestamp(middle, zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    start = pendulum.from_timestamp(high, zone)
    return dt.datetime(*start.timetuple()[:6])  # noqa: DTZ001 - a wall clock has no zone
