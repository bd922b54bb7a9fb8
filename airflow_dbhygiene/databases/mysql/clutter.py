"""How much clutter is there? Sizes of a table and its files, and the server's history of old row versions.

Where the server does not know a figure, or says something that cannot be, it is refused: nothing known is not nothing
to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pendulum

from airflow_dbhygiene.databases.mysql import catalog
from airflow_dbhygiene.databases.mysql.load import clock, history_list_length
from airflow_dbhygiene.databases.mysql.writing import quoted, spelled
from airflow_dbhygiene.errors import NotFound, PlanRefused

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.policy import Expired, OlderThan
    from airflow_dbhygiene.policy.names import TableName

ESTIMATED: Final = frozenset({"table_bytes", "index_bytes"})
"""Figures of InnoDB's statistics, which a server renews when it sees fit."""

OF_FILES: Final = frozenset({"disk_bytes", "free_bytes", "free_ratio"})
"""Figures of the table's own files, as they are now."""

MEASURES: Final = ESTIMATED | OF_FILES | {"history_list_length"}

_SLACK_BYTES: Final = 16 * 2**20
"""What a file may hold beyond the table's pages without any doubt: InnoDB extends it by four megabytes at a time."""

_STATISTICS: Final = """
SELECT engine, table_rows, data_length, index_length, data_free
FROM information_schema.tables WHERE table_schema = %s AND table_name = %s
"""

# A partition's file is named shop/flights#P#p2013. Bytes are compared: `Flights` is another table.
_FILES: Final = """
SELECT coalesce(sum(file_size), 0) FROM information_schema.{tablespaces}
WHERE CAST(name AS BINARY) = CAST(%s AS BINARY)
   OR CAST(left(name, char_length(%s) + 3) AS BINARY) IN (CAST(concat(%s, '#P#') AS BINARY),
                                                          CAST(concat(%s, '#p#') AS BINARY))
"""


def measure(session: MySqlSession, table: TableName, names: Collection[str]) -> dict[str, float]:
    """Measure a table, and what its server keeps for it.

    :param names: some of MEASURES
    :raises NotFound: when there is no such table
    :raises PlanRefused: when the server does not know a figure, or cannot be believed
    """
    statistics = _statistics(session, table)
    found: dict[str, float] = {}
    if ESTIMATED & {*names}:
        found |= _estimated(session, table, statistics)
    if OF_FILES & {*names}:
        found |= _of_files(session, table, statistics)
    if "history_list_length" in names:
        found["history_list_length"] = history_list_length(session, table)
    return {name: found[name] for name in names}


def oldest_age_seconds(
    session: MySqlSession, table: TableName, stale: OlderThan | Expired, condition: str
) -> float | None:
    """Give the seconds since the oldest stale row's age, by the database's clock; None when no row is stale.

    The age column is a timestamp, a date or an epoch.

    :raises PlanRefused: when its date is none, as 2013-02-31
    """
    name = quoted(stale.column)
    rows = session.execute(
        f"SELECT CAST({name} AS CHAR) FROM {spelled(table)} WHERE {condition} ORDER BY {name} LIMIT 1"
    )
    if not rows:
        return None
    if stale.epoch:
        return clock(session) - int(rows[0][0]) / (1000 if stale.epoch == "ms" else 1)
    # A TIMESTAMP is written in the session's zone, which is UTC: then the policy's is keep's calendar alone.
    stamp = catalog.types_of(session, table).get(stale.column, "").startswith("timestamp")
    try:
        moment = pendulum.parse(str(rows[0][0]), tz="UTC" if stamp else stale.zone or "UTC")
    except ValueError as error:
        fault = f"{stale.column} of its oldest stale row is {rows[0][0]}, which is no date: correct that row."
        raise PlanRefused(str(table), (fault,)) from error
    assert isinstance(moment, pendulum.DateTime)  # noqa: S101 - the server's own spelling of one
    return clock(session) - moment.timestamp()


def _statistics(session: MySqlSession, table: TableName) -> dict[str, Any]:
    rows = session.execute(_STATISTICS, (table.schema, table.table))
    if not rows:
        raise NotFound(f"table {table} does not exist, or the user may not see it.")
    return dict(zip(("engine", "rows", "data_bytes", "index_bytes", "free_bytes"), rows[0], strict=True))


def _estimated(session: MySqlSession, table: TableName, statistics: dict[str, Any]) -> dict[str, float]:
    """Take the sizes by the statistics, unless the table's files show that these are from another time."""
    data, index, free = (statistics[name] for name in ("data_bytes", "index_bytes", "free_bytes"))
    if statistics["rows"] is None or data is None or index is None:
        raise PlanRefused(str(table), ("the server has no statistics of it: run ANALYZE TABLE, if it is a table.",))
    file_bytes = _file_bytes(session, table)
    if file_bytes and file_bytes > 2 * (data + index + (free or 0)) + _SLACK_BYTES:
        fault = (
            f"its statistics cannot be believed: {int(data + index):,} bytes of rows and indexes by them, and "
            f"{file_bytes:,} bytes of files. Run ANALYZE TABLE, or measure disk_bytes instead."
        )
        raise PlanRefused(str(table), (fault,))
    return {"table_bytes": float(data), "index_bytes": float(index)}


def _of_files(session: MySqlSession, table: TableName, statistics: dict[str, Any]) -> dict[str, float]:
    disk, free = _file_bytes(session, table), statistics["free_bytes"]
    if not disk or free is None or free > disk:
        fault = (
            "it has no file of its own, whose size and free space could be measured: it lies in a tablespace with "
            "other tables, or is no InnoDB table. ALTER TABLE … ENGINE=InnoDB with innodb_file_per_table gives it one."
        )
        raise PlanRefused(str(table), (fault,))
    return {"disk_bytes": float(disk), "free_bytes": float(free), "free_ratio": float(free) / disk}


def _file_bytes(session: MySqlSession, table: TableName) -> int:
    """Add up the files of a table and its partitions; 0 for one that has none of its own."""
    tablespaces = "innodb_sys_tablespaces" if session.flavour.mariadb else "innodb_tablespaces"
    name = "/".join(catalog.encoded(session, table))
    return int(session.execute(_FILES.format(tablespaces=tablespaces), (name,) * 4)[0][0])
