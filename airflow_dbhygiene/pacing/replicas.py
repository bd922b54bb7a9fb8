"""Replicas that must be asked themselves how far behind they are: their primary cannot tell."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_dbhygiene.databases.protocol import Database
    from airflow_dbhygiene.policy import Pace


@dataclass(frozen=True)
class Replica:
    """A replica, by its connection's name, and a session on it that lasts as long as the purge."""

    conn_id: str
    database: Database
    session: Any


@contextmanager
def following(pace: Pace, open_database: Callable[[str], Database]) -> Iterator[tuple[Replica, ...]]:
    """Connect to the replicas that a pace names.

    :raises HygieneError: when one cannot be reached: without it nothing may be deleted
    """
    with ExitStack() as stack:
        found = []
        for conn_id in pace.replica_conn_ids:
            database = open_database(conn_id)
            found.append(Replica(conn_id, database, stack.enter_context(database.session())))
        yield tuple(found)


def check_replicas(pace: Pace, open_database: Callable[[str], Database]) -> None:
    """See, before anything is planned, that all replicas can be asked.

    :raises HygieneError: when one cannot be reached, is no replica, or does not tell
    """
    with following(pace, open_database) as replicas:
        tuple(behind(replicas, pace))


def behind(replicas: Sequence[Replica], pace: Pace) -> Iterator[str]:
    """Give a reason for each replica that is too far behind, or stands still.

    :raises NotFound: when a server is no replica at all
    """
    for replica in replicas:
        lags = replica.database.replica_lags(replica.session)
        if not lags:
            raise NotFound(
                f"pace.replica_conn_ids: {replica.conn_id!r} is no replica. Name the replicas of the server."
            )
        known = [lag for lag in lags if lag is not None]
        if len(known) < len(lags):
            yield f"replica {replica.conn_id} does not replicate"
        elif pace.max_replica_lag_seconds is not None and max(known) > pace.max_replica_lag_seconds:
            yield f"replica {replica.conn_id} is {max(known):g} s behind, more than {pace.max_replica_lag_seconds:g} s"
