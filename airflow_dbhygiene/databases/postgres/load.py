"""How busy is it? The load of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from airflow_dbhygiene.errors import PrivilegeMissing

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.postgres.session import PostgresSession

_REPLICA_LAG: Final[LiteralString] = """
SELECT application_name, state IS NULL, extract(epoch FROM coalesce(replay_lag, '0'))::float8
FROM pg_catalog.pg_stat_replication
WHERE state IS NULL OR state = 'streaming'
ORDER BY 2 DESC, 3 DESC
LIMIT 1
"""


def replica_lag_seconds(session: PostgresSession) -> tuple[str, float] | None:
    """Name the standby that is furthest behind, and by how many seconds; None without a standby.

    :raises PrivilegeMissing: when the role may not see how far behind a standby is
    """
    rows = session.execute(_REPLICA_LAG)
    if rows and rows[0][1]:
        role = session.connection.info.user
        raise PrivilegeMissing(f"role {role} may not see the standbys' lag: GRANT pg_monitor TO {role};")
    return (str(rows[0][0]), float(rows[0][2])) if rows else None


def clock(session: PostgresSession) -> float:
    """Give the database's own clock, in seconds since 1970."""
    return float(session.execute("SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8")[0][0])
