"""How busy is it? The clutter of a table, and the load of its server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pendulum

from airflow_dbhygiene.databases.mysql.writing import quoted, spelled
from airflow_dbhygiene.errors import NotFound, PolicyInvalid, PrivilegeMissing

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.policy import Expired, OlderThan
    from airflow_dbhygiene.policy.names import TableName

_SIZES: Final = """
SELECT coalesce(table_rows, 0), coalesce(data_length, 0), coalesce(index_length, 0), coalesce(data_free, 0)
FROM information_schema.tables WHERE table_schema = %s AND table_name = %s
"""
_HISTORY: Final = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'"


def table_sizes(session: MySqlSession, table: TableName) -> dict[str, int]:
    """Give rows as the server's statistics estimate them, and bytes of table and indexes.

    InnoDB has no dead tuples to count: purged versions leave free space in the table, and those still to be purged
    stand in a history that all tables share.

    :raises NotFound: when there is no such table
    """
    rows = session.execute(_SIZES, (table.schema, table.table))
    if not rows:
        raise NotFound(f"table {table} does not exist, or the user may not see it.")
    live, table_bytes, index_bytes, free_bytes = map(int, rows[0])
    history = session.execute(_HISTORY)
    return {
        "live_tuples": live,
        "dead_tuples": 0,
        "table_bytes": table_bytes,
        "index_bytes": index_bytes,
        "free_bytes": free_bytes,
        "history_list_length": int(history[0][0]) if history else 0,
    }


def oldest_age_seconds(
    session: MySqlSession, table: TableName, stale: OlderThan | Expired, condition: str
) -> float | None:
    """Give the seconds since the oldest stale row's age, by the database's clock; None when no row is stale.

    The age column is a timestamp, a date or an epoch.
    """
    name = quoted(stale.column)
    rows = session.execute(
        f"SELECT CAST({name} AS CHAR) FROM {spelled(table)} WHERE {condition} ORDER BY {name} LIMIT 1"
    )
    if not rows:
        return None
    if stale.epoch:
        return clock(session) - int(rows[0][0]) / (1000 if stale.epoch == "ms" else 1)
    moment = pendulum.parse(str(rows[0][0]), tz=stale.zone or "UTC")
    assert isinstance(moment, pendulum.DateTime)  # noqa: S101 - the server's own spelling of one
    return clock(session) - moment.timestamp()


def replica_lag_seconds(session: MySqlSession) -> tuple[str, float] | None:
    """Give None without a replica.

    :raises PolicyInvalid: with one, since a primary of this family does not know how far behind its replicas are
    """
    if session.execute("SELECT 1 FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%' LIMIT 1"):
        message = (
            "pace.max_replica_lag_seconds: this server has replicas, and a primary of MySQL or MariaDB cannot tell how "
            "far behind they are. Leave the limit out."
        )
        raise PolicyInvalid(message)
    return None


def clock(session: MySqlSession) -> float:
    """Give the database's own clock, in seconds since 1970."""
    return float(session.execute("SELECT CAST(unix_timestamp(now(6)) AS CHAR)")[0][0])


def vacuum(session: MySqlSession, table: TableName) -> None:
    """Renew the table's statistics: InnoDB reuses the space of deleted rows by itself.

    To give it back to the disk would copy the whole table (OPTIMIZE TABLE), which nobody should meet unasked.
    """
    analyze(session, table)


def analyze(session: MySqlSession, table: TableName) -> None:
    """Renew the table's statistics, on this server alone.

    :raises PrivilegeMissing: when the server did not do it
    """
    told = session.execute(f"ANALYZE NO_WRITE_TO_BINLOG TABLE {spelled(table)}")
    if failed := [str(row[3]) for row in told if str(row[2]).lower() == "error"]:
        message = f"the server skipped {table}: {failed[0]}. Grant INSERT on it, or set the policy's reclaim to 'none'."
        raise PrivilegeMissing(message)
