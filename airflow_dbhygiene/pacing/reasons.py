"""Why a purge must pause: a reason that a person can act on, or None."""

from __future__ import annotations

import datetime as dt
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import pendulum

from airflow_dbhygiene.ledger import Ledger
from airflow_dbhygiene.pacing.replicas import behind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_dbhygiene.databases.protocol import Database
    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.pacing.replicas import Replica
    from airflow_dbhygiene.policy import Pace

_LIMITS: Final = (
    *("max_replica_lag_seconds", "max_wal_kept_bytes", "max_wal_fraction"),
    *("max_history_list_length", "max_active_sessions"),
)
_LEAVE_OUT: Final = "Leave the limit out, and hold the pace down by rest_fraction or hours."
_INSTEAD: Final = {"max_replica_lag_seconds": "Name the replicas' connections in pace.replica_conn_ids, to ask them."}


def pause_reason(database: Database, session: Any, run: Run, replicas: Sequence[Replica] = ()) -> str | None:
    """Ask the ledger, the clock, the server and its replicas, in this order; the first reason counts."""
    pace = run.policy.pace
    known = Ledger(session).pause_reason(database, run) or _hours(database, session, pace)
    return known or next(chain(database.busy(session, run.selection.table, pace), behind(replicas, pace)), None)


def unobservable(database: Database, pace: Pace) -> Iterator[str]:
    """Name the limits that the engine cannot observe: a purge would keep to none of them."""
    asked = {"max_replica_lag_seconds"} if pace.replica_conn_ids else set()
    for limit in _LIMITS:
        if getattr(pace, limit) is not None and limit not in {*database.limits, *asked}:
            yield (f"pace.{limit}: a server of this kind cannot tell. {_INSTEAD.get(limit, _LEAVE_OUT)}")
    if pace.replica_conn_ids and "max_replica_lag_seconds" in database.limits:
        yield "pace.replica_conn_ids: this server tells of its standbys itself. Leave the connections out."
    if pace.replica_conn_ids and pace.max_replica_lag_seconds is None:
        yield "pace.replica_conn_ids: say in pace.max_replica_lag_seconds how far behind they may be."


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
