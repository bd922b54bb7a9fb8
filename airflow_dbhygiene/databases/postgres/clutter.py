"""How much clutter is there? Dead tuples and sizes of a table, its partitions included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql

from airflow_dbhygiene.errors import NotFound, PlanRefused

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.policy.names import TableName
    from airflow_dbhygiene.policy.stale import Expired, OlderThan

COUNTED: Final = frozenset({"dead_tuples", "dead_ratio"})
"""Figures of the server's cumulative statistics, which a crash or pg_stat_reset() sets to zero."""

MEASURES: Final = COUNTED | {"table_bytes", "index_bytes", "disk_bytes"}

# The statistics of a table are lost when nobody has vacuumed or analyzed it since they began, and they know of far
# fewer tuples than its last VACUUM or ANALYZE found, or of none where there are pages.
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
       count(*),
       coalesce(bool_or(
           coalesce(s.last_vacuum, s.last_autovacuum, s.last_analyze, s.last_autoanalyze) IS NULL
           AND pg_catalog.pg_relation_size(tree.oid) > 0
           AND coalesce(s.n_live_tup + s.n_dead_tup, 0) <= greatest(c.reltuples, 1) / 2
       ), false)
FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid
    LEFT JOIN pg_catalog.pg_stat_user_tables s ON s.relid = tree.oid
"""


def measure(session: PostgresSession, table: TableName, names: Collection[str]) -> dict[str, float]:
    """Measure a table: dead tuples as the server's statistics count them, and bytes of table and indexes.

    :param names: some of MEASURES
    :raises NotFound: when there is no such table: nothing there is not nothing to do
    :raises PlanRefused: when dead tuples are asked for, and their statistics are lost
    :raises StatementTimedOut: when somebody keeps the table locked: its size is unknown as long
    """
    with session.transaction():
        sizes = session.execute(_SIZES, {"schema": table.schema, "table": table.table})[0]
    live, dead, table_bytes, index_bytes, relations, lost = sizes
    if not relations:
        raise NotFound(f"table {table} does not exist, or the role may not see its schema.")
    if lost and COUNTED & {*names}:
        fault = "its statistics are lost, as after a crash, so that dead tuples are unknown: run ANALYZE on it."
        raise PlanRefused(str(table), (fault,))
    found = {
        "dead_tuples": dead,
        "dead_ratio": dead / (live + dead) if live + dead else 0.0,
        "table_bytes": table_bytes,
        "index_bytes": index_bytes,
        "disk_bytes": table_bytes + index_bytes,
    }
    return {name: float(found[name]) for name in names}


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


def _seconds(session: PostgresSession, stale: OlderThan | Expired, age: object, kind: str, now: float) -> float:
    if isinstance(age, int | float):
        return now - (age / 1000 if stale.epoch == "ms" else age)
    if kind == "timestamp with time zone":
        rows = session.execute("SELECT extract(epoch FROM %s::timestamptz)::float8", (age,))
    else:
        rows = session.execute("SELECT extract(epoch FROM %s::timestamp AT TIME ZONE %s)::float8", (age, stale.zone))
    return now - float(rows[0][0])
