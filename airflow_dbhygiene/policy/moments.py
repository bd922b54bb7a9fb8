"""From what a scheduler knows of a run to the two moments between which rows are stale."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pendulum

from airflow_dbhygiene.errors import CutoffRefused
from airflow_dbhygiene.policy.keep import cutoff_at, parse_keep
from airflow_dbhygiene.policy.stale import Expired, Matching

if TYPE_CHECKING:
    from pendulum import DateTime

    from airflow_dbhygiene.policy.model import Policy


@dataclass(frozen=True)
class Moments:
    """What a scheduler knows of a run's time; all aware, any may be missing.

    :param explicit: a moment that the caller names; it comes before all others
    :param interval_start: where the data interval begins
    :param interval_end: where the data interval ends
    :param partition: the partition's date
    :param run_after: when the run was due; every run has one
    """

    explicit: DateTime | None = None
    interval_start: DateTime | None = None
    interval_end: DateTime | None = None
    partition: DateTime | None = None
    run_after: DateTime | None = None


@dataclass(frozen=True)
class Window:
    """Rows are stale from ``since`` (None: from the beginning) until before ``cutoff`` (None: no age matters).

    ``as_of`` is the moment from which the policy's keep was counted back.
    """

    since: DateTime | None
    cutoff: DateTime | None
    as_of: DateTime


def resolve_window(policy: Policy, moments: Moments) -> Window:
    """Choose the cutoff: explicit moment, data interval, partition date, then the moment when the run was due.

    :raises CutoffRefused: when a windowed policy has no interval, or one of no width
    """
    if policy.window == "interval":
        return _interval(policy, moments)
    choices = (moments.explicit, moments.interval_end, moments.partition, moments.run_after)
    as_of = next((moment for moment in choices if moment is not None), None)
    if as_of is None:
        raise CutoffRefused(f"policy {policy.name!r}: the run has no date at all to count keep back from.")
    return Window(None, _back(policy, as_of), as_of)


def origin_digest(policy: str, origin: str) -> str:
    """Name the run of a policy by who asked for it: the same origin gives the same run."""
    return hashlib.sha256(f"{policy}\n{origin}".encode()).hexdigest()[:10]


def _interval(policy: Policy, moments: Moments) -> Window:
    if moments.explicit is not None:
        message = f"policy {policy.name!r} has window 'interval': its runs take their data interval, and no as_of."
        raise CutoffRefused(message)
    start, end = moments.interval_start, moments.interval_end
    if start is None or end is None:
        message = (
            f"policy {policy.name!r} has window 'interval', and this run has no data interval. Schedule it with "
            f"CronDataIntervalTimetable (hygiene_dag does), backfill it, or use window 'cumulative'."
        )
        raise CutoffRefused(message)
    if start >= end:
        message = (
            f"policy {policy.name!r} has window 'interval', and this run's data interval has no width ({start} to "
            f"{end}). Schedule it with CronDataIntervalTimetable instead of a bare cron string."
        )
        raise CutoffRefused(message)
    return Window(_back(policy, start), _back(policy, end), end)


def _back(policy: Policy, moment: DateTime) -> DateTime | None:
    stale = policy.stale
    if isinstance(stale, Matching):
        return None
    keep = stale.grace if isinstance(stale, Expired) else stale.keep
    return pendulum.instance(cutoff_at(moment, parse_keep(keep), stale.zone or "UTC") if keep else moment, tz="UTC")
