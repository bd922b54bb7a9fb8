"""How busy is it? What the server itself shows of its load, each sign asked for only where the policy limits it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.errors import PlanRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.policy import Pace
    from airflow_dbhygiene.policy.names import TableName

LIMITS: Final = frozenset({"max_active_sessions", "max_history_list_length"})
"""Limits of a pace that this engine can observe: a primary cannot tell how far behind its replicas are."""


_HISTORY_MYSQL: Final = """
SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len' AND status = 'enabled'
"""
_HISTORY_MARIADB: Final = """
SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_HISTORY_LIST_LENGTH'
"""


def busy(session: MySqlSession, table: TableName, pace: Pace) -> Iterator[str]:
    """Give every reason to pause that the server shows.

    :raises PlanRefused: when the server does not count what the policy limits
    """
    if pace.max_active_sessions is not None:
        active = int(session.execute("SHOW GLOBAL STATUS LIKE 'Threads_running'")[0][1]) - 1  # but for this one
        if active > pace.max_active_sessions:
            yield f"{active} sessions are active, more than {pace.max_active_sessions}"
    if pace.max_history_list_length is not None:
        length = int(history_list_length(session, table))
        if length > pace.max_history_list_length:
            yield f"InnoDB's history list has {length:,} entries, more than {pace.max_history_list_length:,}"


def waiters(session: MySqlSession) -> int:
    """Count who waits for a row, whoever has locked it: for whom is told to administrators alone."""
    return int(session.execute("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")[0][1])


def replica_lags(session: MySqlSession) -> list[float | None]:
    """Give how many seconds this replica is behind each of its primaries; None where a thread of it stands still.

    :raises PrivilegeMissing: when the user may not see it
    """
    if session.flavour.mariadb:
        return [row["Seconds_Behind_Master"] for row in session.execute_named("SHOW ALL SLAVES STATUS")]
    return [row["Seconds_Behind_Source"] for row in session.execute_named("SHOW REPLICA STATUS")]


def clock(session: MySqlSession) -> float:
    """Give the database's own clock, in seconds since 1970."""
    return float(session.execute("SELECT CAST(unix_timestamp(now(6)) AS CHAR)")[0][0])


def history_list_length(session: MySqlSession, table: TableName) -> float:
    """Give the number of old row versions that InnoDB has not cleared away yet.

    :raises PlanRefused: when the server does not count them
    """
    rows = session.execute(_HISTORY_MARIADB if session.flavour.mariadb else _HISTORY_MYSQL)
    if not rows:
        fault = (
            "the server does not count its history list: SET GLOBAL innodb_monitor_enable = 'trx_rseg_history_len', or "
            "leave history_list_length out."
        )
        raise PlanRefused(str(table), (fault,))
    return float(rows[0][0])
