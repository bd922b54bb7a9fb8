"""Why a purge must pause: a reason that a person can act on, or None."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_dbhygiene.ledger import Ledger

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Database
    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.policy import Pace


def pause_reason(database: Database, session: Any, run: Run) -> str | None:
    """Ask the ledger, the clock and the standbys, in this order; the first reason counts."""
    pace = run.policy.pace
    return Ledger(session).pause_reason(run) or _hours(database, session, pace) or _lag(database, session, pace)


def within_hours(hours: str, time: dt.time) -> bool:
    """Tell whether a time of day lies in a span such as "22:00-06:00", its end not included."""
    start, end = (dt.time.fromisoformat(part) for part in hours.split("-"))
    return start <= time < end if start <= end else time >= start or time < end


def _hours(database: Database, session: Any, pace: Pace) -> str | None:
    if pace.hours is None:
        return None
    now = pendulum.from_timestamp(database.clock(session), pace.zone)
    if within_hours(pace.hours, now.time()):
        return None
    return f"it is {now:%H:%M} in {pace.zone}, outside the allowed hours {pace.hours}"


def _lag(database: Database, session: Any, pace: Pace) -> str | None:
    if pace.max_replica_lag_seconds is None:
        return None
    lag = database.replica_lag_seconds(session)
    if lag is None or lag[1] <= pace.max_replica_lag_seconds:
        return None
    return f"standby {lag[0]} is {lag[1]:.1f} s behind, more than {pace.max_replica_lag_seconds:g} s"
