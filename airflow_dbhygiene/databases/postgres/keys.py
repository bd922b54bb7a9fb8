"""Rows that a person names: by the values of their key, or by a condition that the server is asked to read first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from airflow_dbhygiene.databases.postgres import catalog, catalog_sql
from airflow_dbhygiene.databases.protocol import Column
from airflow_dbhygiene.errors import NotFound, StatementFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.policy.names import TableName


def key_columns(session: PostgresSession, table: TableName) -> tuple[Column, ...]:
    """Give the columns of the primary key, none when there is no key.

    :raises NotFound: when there is no such table
    """
    with session.transaction(search_path="pg_catalog"):
        oid = catalog.table_row(session, table)["oid"]
        types = {row[0]: row[1] for row in session.execute(catalog_sql.COLUMNS, (oid,))}
        return tuple(Column(name, types[name], "text") for (name,) in session.execute(catalog_sql.KEY, (oid,)))


def keys_condition(columns: Sequence[Column], keys: Sequence[Sequence[str]]) -> str:
    """Write a condition that rows with these keys fulfil; each value is a literal of its column's type."""
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    rows = (
        sql.SQL("ROW({})").format(
            sql.SQL(", ").join(_literal(column, value) for column, value in zip(columns, key, strict=True))
        )
        for key in keys
    )
    return sql.SQL("ROW({}) IN ({})").format(names, sql.SQL(", ").join(rows)).as_string()


def try_condition(session: PostgresSession, table: TableName, condition: str, where: str) -> None:
    """Let the server read a condition without running it, so that its fault is named before anything happens.

    :param where: names the condition in the error
    """
    statement = sql.SQL("EXPLAIN SELECT 1 FROM {} WHERE {}")
    try:
        with session.transaction():
            session.execute(statement.format(sql.Identifier(table.schema, table.table), sql.SQL(condition)))
    except (StatementFailed, NotFound) as error:
        raise type(error)(f"{where}: the server rejects its condition: {error}") from error


def _literal(column: Column, value: str) -> sql.Composed:
    return sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(column.type))
