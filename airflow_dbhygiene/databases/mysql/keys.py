"""Rows that a person names: by the values of their key, or by a condition that the server is asked to read first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dbhygiene.databases.mysql import catalog, catalog_sql
from airflow_dbhygiene.databases.mysql.values import literal_of
from airflow_dbhygiene.databases.mysql.writing import listed, spelled
from airflow_dbhygiene.databases.protocol import Column
from airflow_dbhygiene.errors import NotFound, StatementFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.policy.names import TableName


def key_columns(session: MySqlSession, table: TableName) -> tuple[Column, ...]:
    """Give the columns of the primary key, none when there is no key.

    :raises NotFound: when there is no such table
    """
    rows = session.execute(catalog_sql.COLUMNS, (table.schema, table.table))
    if not rows:
        raise NotFound(f"table {table} does not exist, or the user may not see it.")
    types = {str(row[0]): catalog.spelled_type(str(row[1]), row[2], row[3]) for row in rows}
    names = next((index.columns for index in catalog.indexes_of(session, table) if index.name == "PRIMARY"), ())
    return tuple(Column(name, types[name], "text") for name in names)


def keys_condition(columns: Sequence[Column], keys: Sequence[Sequence[str]]) -> str:
    """Write a condition that rows with these keys fulfil; each value is a literal of its column's type.

    :raises NotLossless: when a value is none of its column's type
    """
    literals = [[literal_of(column, value) for column, value in zip(columns, key, strict=True)] for key in keys]
    rows = [row[0] if len(columns) == 1 else f"({', '.join(row)})" for row in literals]
    return f"({listed(column.name for column in columns)}) IN ({', '.join(rows)})"


def try_condition(session: MySqlSession, table: TableName, condition: str, where: str) -> None:
    """Let the server read a condition without running it, so that its fault is named before anything happens.

    :param where: names the condition in the error
    """
    try:
        session.execute(f"EXPLAIN SELECT 1 FROM {spelled(table)} WHERE {condition}")
    except (StatementFailed, NotFound) as error:
        raise type(error)(f"{where}: the server rejects its condition: {error}") from error
