"""How busy is it? The clutter of a table, and the load of its server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql

from airflow_dbhygiene.databases.postgres.session import translated
from airflow_dbhygiene.errors import NotFound, PrivilegeMissing

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.policy.model import Expired, OlderThan
    from airflow_dbhygiene.policy.names import TableName

_SIZES: Final[LiteralString] = """
WITH RECURSIVE root AS (
    SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s
), tree(oid) AS (
    SELECT oid FROM root
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON i.inhparent = t.oid
)
SELECT coalesce(sum(s.n_live_tup), 0)::bigint, coalesce(sum(s.n_dead_tup), 0)::bigint,
       coalesce(sum(pg_catalog.pg_table_size(tree.oid)), 0)::bigint,
       coalesce(sum(pg_catalog.pg_indexes_size(tree.oid)), 0)::bigint,
       count(*)
FROM tree LEFT JOIN pg_catalog.pg_stat_user_tables s ON s.relid = tree.oid
"""

_REPLICA_LAG: Final[LiteralString] = """
SELECT application_name, state IS NULL, extract(epoch FROM coalesce(replay_lag, '0'))::float8
FROM pg_catalog.pg_stat_replication
WHERE state IS NULL OR state = 'streaming'
ORDER BY 2 DESC, 3 DESC
LIMIT 1
"""


def table_sizes(session: PostgresSession, table: TableName) -> dict[str, int]:
    """Give live and dead tuples as the server's statistics count them, and bytes of table and indexes.

    :raises NotFound: when there is no such table: nothing there is not nothing to do
    """
    sizes = session.execute(_SIZES, {"schema": table.schema, "table": table.table})[0]
    live, dead, table_bytes, index_bytes, relations = sizes
    if not relations:
        raise NotFound(f"table {table} does not exist, or the role may not see its schema.")
    return {"live_tuples": live, "dead_tuples": dead, "table_bytes": table_bytes, "index_bytes": index_bytes}


def oldest_age_seconds(
    session: PostgresSession, table: TableName, stale: OlderThan | Expired, condition: str
) -> float | None:
    """Give the seconds since the oldest stale row's age, by the database's clock; None when no row is stale.

    The age column is a timestamp, a date or an epoch: the server's own types tell which.
    """
    statement = sql.SQL(
        "SELECT pg_catalog.to_jsonb(age), pg_typeof(age)::text, extract(epoch FROM clock_timestamp())::float8"
        " FROM (SELECT {column} AS age FROM {table} WHERE {condition} ORDER BY {column} LIMIT 1) AS oldest"
    ).format(
        column=sql.Identifier(stale.column),
        table=sql.Identifier(table.schema, table.table),
        condition=sql.SQL(condition),
    )
    rows = session.execute(statement)
    return None if not rows else _seconds(session, stale, *rows[0])


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


def vacuum(session: PostgresSession, table: TableName) -> None:
    """Give dead rows' space back to the table, without truncating it, and renew its statistics.

    :raises PrivilegeMissing: when the server only warned that it skipped the table
    """
    _maintain(session, table, "VACUUM (ANALYZE, TRUNCATE false) {}")


def analyze(session: PostgresSession, table: TableName) -> None:
    """Renew the table's statistics."""
    _maintain(session, table, "ANALYZE {}")


def _maintain(session: PostgresSession, table: TableName, statement: LiteralString) -> None:
    session.notices.clear()
    with translated():
        session.connection.execute("SET vacuum_cost_delay = '2ms'")
        session.connection.execute(sql.SQL(statement).format(sql.Identifier(table.schema, table.table)))
    if session.notices:
        message = (
            f"the server skipped {table}: {session.notices[0]}. Run as the table's owner, grant MAINTAIN "
            f"(PostgreSQL 17), or set the policy's reclaim to 'none'."
        )
        raise PrivilegeMissing(message)


def _seconds(session: PostgresSession, stale: OlderThan | Expired, age: object, kind: str, now: float) -> float:
    if isinstance(age, int | float):
        return now - (age / 1000 if stale.epoch == "ms" else age)
    if kind == "timestamp with time zone":
        rows = session.execute("SELECT extract(epoch FROM %s::timestamptz)::float8", (age,))
    else:
        rows = session.execute("SELECT extract(epoch FROM %s::timestamp AT TIME ZONE %s)::float8", (age, stale.zone))
    return now - float(rows[0][0])
