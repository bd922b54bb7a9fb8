"""Rows that a person names: by the values of their key, or by a condition that the server is asked to read first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import sql

from airflow_dbhygiene.databases.postgres import catalog, catalog_sql
from airflow_dbhygiene.databases.protocol import Column, Relatives
from airflow_dbhygiene.errors import HygieneError, NotFound, PolicyInvalid, StatementFailed
from airflow_dbhygiene.policy.names import TableName

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_dbhygiene.databases.postgres.session import PostgresSession

_MOST_KEYS: Final = 2_000
"""The server compares each row with one after the other, and from some eight thousand on it runs out of stack."""


def key_columns(session: PostgresSession, table: TableName) -> tuple[Column, ...]:
    """Give the columns of the primary key, none when there is no key.

    :raises NotFound: when there is no such table
    :raises PolicyInvalid: when it is a partition, or no table at all: no policy's rows go by that name
    """
    with session.transaction(search_path="pg_catalog"):
        row = catalog.table_row(session, table)
        oid = row["oid"]
        if row["kind"] not in "rp":
            raise PolicyInvalid(f"{table} is no table: name the tables whose rows it shows.")
        if root := session.execute(catalog_sql.ROOT, (oid,)):
            message = f"{table} is a partition: name {TableName(*root[0])}, whose holds and pauses bind its partitions."
            raise PolicyInvalid(message)
        return tuple(Column(name, kind, "text") for name, kind in session.execute(catalog_sql.KEY, (oid,)))


def relatives(session: PostgresSession, table: TableName, names: Collection[TableName]) -> Relatives:
    """Tell which of these names are the table's, its parents' or its partitions'."""
    every = {table, *names}
    if len(every) == 1:
        return Relatives(frozenset(every))
    values = {"schemas": [name.schema for name in every], "tables": [name.table for name in every]}
    pairs = [(TableName(*row[:2]), TableName(*row[2:])) for row in session.execute(catalog_sql.ANCESTORS, values)]
    above = {parent for child, parent in pairs if child == table}
    return Relatives(frozenset({table, *above}) & every, frozenset(child for child, parent in pairs if parent == table))


def keys_condition(columns: Sequence[Column], keys: Sequence[Sequence[str]]) -> str:
    """Write a condition that rows with these keys fulfil; each value is a literal of its column's type.

    :raises PolicyInvalid: when keys of several columns are more than the server reads in one condition
    """
    if len(columns) == 1 and not columns[0].type.endswith("]"):  # an array of arrays would be taken for one
        name, kind = sql.Identifier(columns[0].name), sql.SQL(columns[0].type)
        return sql.SQL("{} = ANY ({}::{}[])").format(name, sql.Literal([key[0] for key in keys]), kind).as_string()
    if len(keys) > _MOST_KEYS:
        listed = ", ".join(column.name for column in columns)
        message = f"{len(keys):,} keys of ({listed}) are more than one hold takes: place one for each {_MOST_KEYS:,}."
        raise PolicyInvalid(message)
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    rows = (
        sql.SQL("ROW({})").format(
            sql.SQL(", ").join(_literal(column, value) for column, value in zip(columns, key, strict=True))
        )
        for key in keys
    )
    return sql.SQL("ROW({}) IN ({})").format(names, sql.SQL(", ").join(rows)).as_string()


def try_condition(session: PostgresSession, table: TableName, condition: str, where: str) -> None:
    """Let the server read a user's condition without running it, so that its fault is named before anything happens.

    Names alone do not tell which functions stand behind operators, casts and ``(row).function``: the server tells of a
    view, which is gone again at once, on which functions it depends.

    :param where: names the condition in the error
    :raises PolicyInvalid: when a function behind it is volatile
    """
    values = {"table": sql.Identifier(table.schema, table.table), "condition": sql.SQL(condition)}
    try:
        volatile = _volatile(session, values)
    except (StatementFailed, NotFound) as error:
        raise _rejected(error, where) from error
    if volatile:
        message = f"{where}: function {volatile[0]} is volatile: it could answer differently, or change data."
        raise PolicyInvalid(message)
    explain_condition(session, table, condition, where)


def explain_condition(session: PostgresSession, table: TableName, condition: str, where: str) -> None:
    """Let the server read a condition of our own making, which writes nothing."""
    values = {"table": sql.Identifier(table.schema, table.table), "condition": sql.SQL(condition)}
    try:
        with session.transaction():
            session.execute(sql.SQL("EXPLAIN SELECT 1 FROM {table} WHERE {condition}").format(**values))
    except (StatementFailed, NotFound) as error:
        raise _rejected(error, where) from error


def _rejected(error: StatementFailed | NotFound, where: str) -> HygieneError:
    return type(error)(f"{where}: the server rejects its condition: {error}")


def _volatile(session: PostgresSession, values: Mapping[str, sql.Composable]) -> list[str]:
    found: list[str] = []
    with session.transaction():
        session.execute(_VIEW.format(**values))
        found.extend(str(row[0]) for row in session.execute(_VOLATILE))
        session.execute("DROP VIEW pg_temp._dbhygiene_condition")
    return found


_VIEW: Final = sql.SQL("CREATE TEMPORARY VIEW _dbhygiene_condition AS SELECT 1 AS one FROM {table} WHERE {condition}")
_VOLATILE: Final = """
SELECT DISTINCT p.oid::pg_catalog.regprocedure::text
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
LEFT JOIN pg_catalog.pg_operator o
  ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = d.refobjid
JOIN pg_catalog.pg_proc p
  ON p.oid = CASE WHEN d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid ELSE o.oprcode END
WHERE r.ev_class = pg_catalog.to_regclass('pg_temp._dbhygiene_condition') AND p.provolatile = 'v'
ORDER BY 1
"""


def _literal(column: Column, value: str) -> sql.Composed:
    return sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(column.type))
