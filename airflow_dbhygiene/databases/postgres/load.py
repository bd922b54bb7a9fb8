"""How busy is it? What the server itself shows of its load, each sign asked for only where the policy limits it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from airflow_dbhygiene.errors import PrivilegeMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.policy import Pace
    from airflow_dbhygiene.policy.names import TableName

LIMITS: Final = frozenset({"max_replica_lag_seconds", "max_wal_kept_bytes", "max_wal_fraction", "max_active_sessions"})
"""Limits of a pace that this engine can observe."""

_IN_THE_WAY: Final[LiteralString] = """
WITH RECURSIVE tree(oid, is_part) AS (
    SELECT c.oid, false FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s
    UNION ALL
    SELECT i.inhrelid, true FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
)
SELECT CASE WHEN granted THEN 'holds' ELSE 'waits for' END, mode, pid,
       CASE WHEN is_part THEN 'partition ' || tree.oid::pg_catalog.regclass::text || ' of ' ELSE '' END
FROM pg_catalog.pg_locks JOIN tree ON relation = tree.oid
WHERE (NOT granted OR mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
  AND locktype = 'relation' AND pid <> pg_catalog.pg_backend_pid()
  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
ORDER BY granted
LIMIT 1
"""

_WAITERS: Final[LiteralString] = """
SELECT count(*) FROM pg_catalog.pg_locks
WHERE NOT granted AND locktype = 'transactionid'
  AND transactionid = pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid
"""

_REPLICA_LAG: Final[LiteralString] = """
SELECT application_name, state IS NULL, extract(epoch FROM coalesce(replay_lag, '0'))::float8
FROM pg_catalog.pg_stat_replication
WHERE state IS NULL OR state IN ('streaming', 'catchup')
ORDER BY 2 DESC, 3 DESC
LIMIT 1
"""

_WAL_KEPT: Final[LiteralString] = """
SELECT slot_name, pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::bigint
FROM pg_catalog.pg_replication_slots
WHERE restart_lsn IS NOT NULL
ORDER BY 2 DESC
LIMIT 1
"""

_WAL_SINCE_CHECKPOINT: Final[LiteralString] = """
SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), redo_lsn)::float8
    / pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size'))
FROM pg_catalog.pg_control_checkpoint()
"""

_ACTIVE: Final[LiteralString] = """
SELECT count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE backend_type IS NULL)
FROM pg_catalog.pg_stat_activity
WHERE coalesce(backend_type, 'client backend') = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
"""
"""Of a session that the role may not see even its type is hidden. One that just begins has no state yet, either."""


def busy(session: PostgresSession, table: TableName, pace: Pace) -> Iterator[str]:
    """Give every reason to pause that the server shows.

    :raises PrivilegeMissing: when the role may not see what the policy limits
    """
    yield from _in_the_way(session, table)
    if pace.max_replica_lag_seconds is not None:
        yield from _replica_lag(session, pace.max_replica_lag_seconds)
    if pace.max_wal_kept_bytes is not None:
        yield from _wal_kept(session, pace.max_wal_kept_bytes)
    if pace.max_wal_fraction is not None:
        yield from _wal_written(session, pace.max_wal_fraction)
    if pace.max_active_sessions is not None:
        yield from _active(session, pace.max_active_sessions)


def waiters(session: PostgresSession) -> int:
    """Count who waits for this transaction to end."""
    return int(session.execute(_WAITERS)[0][0])


def replica_lags(session: PostgresSession) -> list[float | None]:  # noqa: ARG001 - the protocol's
    """Ask no standby: its primary tells, and plans refuse connections to it."""
    return []


def clock(session: PostgresSession) -> float:
    """Give the database's own clock, in seconds since 1970."""
    return float(session.execute("SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8")[0][0])


def _in_the_way(session: PostgresSession, table: TableName) -> Iterator[str]:
    """Let whoever wants to lock the table, or a partition, go first, and come to its end: others would queue behind."""
    for has, mode, pid, part in session.execute(_IN_THE_WAY, {"schema": table.schema, "table": table.table}):
        yield f"session {pid} {has} {mode} on {part}{table}"


def _replica_lag(session: PostgresSession, most: float) -> Iterator[str]:
    for name, hidden, seconds in session.execute(_REPLICA_LAG):
        _refuse_hidden(session, hidden, "the standbys' lag")
        if seconds > most:
            yield f"standby {name} is {seconds:.1f} s behind, more than {most:g} s"


def _wal_kept(session: PostgresSession, most: int) -> Iterator[str]:
    for name, kept in session.execute(_WAL_KEPT):
        if kept > most:
            yield f"replication slot {name} keeps {kept:,} bytes of WAL, more than {most:,}"


def _wal_written(session: PostgresSession, most: float) -> Iterator[str]:
    """Leave it to the clock when the next checkpoint comes: one that the WAL's volume forces slows everybody down."""
    ((part,),) = session.execute(_WAL_SINCE_CHECKPOINT)
    if part > most:
        yield f"{part:.0%} of max_wal_size was written since the last checkpoint began, more than {most:.0%}"


def _active(session: PostgresSession, most: int) -> Iterator[str]:
    ((active, hidden),) = session.execute(_ACTIVE)
    _refuse_hidden(session, bool(hidden), "other sessions' state")
    if active > most:
        yield f"{active} sessions are active, more than {most}"


def _refuse_hidden(session: PostgresSession, hidden: bool, what: str) -> None:  # noqa: FBT001 - what was found
    if hidden:
        role = session.connection.info.user
        raise PrivilegeMissing(f"role {role} may not see {what}: GRANT pg_monitor TO {role};")
