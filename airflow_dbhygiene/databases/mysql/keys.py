"""Rows that a person names: by the values of their key, or by a condition that the server is asked to read first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dbhygiene.databases.mysql import catalog
from airflow_dbhygiene.databases.mysql.values import literal_of
from airflow_dbhygiene.databases.mysql.writing import listed, spelled
from airflow_dbhygiene.databases.protocol import Column, Relatives, refuse_if_changed
from airflow_dbhygiene.errors import NotFound, PolicyInvalid, StatementFailed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.policy.names import TableName


def key_columns(session: MySqlSession, table: TableName) -> tuple[Column, ...]:
    """Give the columns of the primary key, none when there is no key.

    :raises NotFound: when there is no such table
    :raises PolicyInvalid: when it is a view, or the catalogue spells its name in another case
    :raises StatementTimedOut: when the table changes meanwhile
    """
    found = catalog.table_row(session, table)
    if odd := catalog.other_spelling(table, found):
        raise PolicyInvalid(odd)
    if "VIEW" in str(found["kind"]):
        raise PolicyInvalid(f"{table} is no table: name the tables whose rows it shows.")
    types = catalog.types_of(session, table)
    names = next((index.columns for index in catalog.indexes_of(session, table) if index.name == "PRIMARY"), ())
    refuse_if_changed(table, names, tuple(name for name in names if name in types))
    return tuple(Column(name, types[name], "text") for name in names)


def relatives(session: MySqlSession, table: TableName, names: Collection[TableName]) -> Relatives:
    """Tell which of these names are the table's own: with lower_case_table_names their case does not matter."""
    if {table, *names} == {table} or not session.execute("SELECT @@lower_case_table_names")[0][0]:
        return Relatives(frozenset({table}))
    return Relatives(frozenset({table, *(name for name in names if str(name).lower() == str(table).lower())}))


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
