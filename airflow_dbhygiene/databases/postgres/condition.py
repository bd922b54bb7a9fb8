"""Which rows? The stale ones, as one SQL condition that any statement can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from airflow_dbhygiene.databases.postgres import catalog
from airflow_dbhygiene.databases.postgres.keys import explain_condition, try_condition
from airflow_dbhygiene.errors import NotFound, PolicyInvalid
from airflow_dbhygiene.policy.keep import wall_time
from airflow_dbhygiene.policy.stale import Matching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pendulum import DateTime

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.databases.protocol import Column, Selection, Shape
    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.moments import Window
    from airflow_dbhygiene.policy.names import TableName
    from airflow_dbhygiene.policy.stale import Expired, OlderThan

_INTEGERS = ("smallint", "integer", "bigint")

_EPOCH = {"s": 1, "ms": 1000}


def predicate(session: PostgresSession, policy: Policy, table: Shape, window: Window) -> str:
    """Render the stale rows within the window as one SQL condition that any later statement can hold.

    :raises PolicyInvalid: when the policy's own SQL is not one boolean expression
    :raises NotFound: when the age column does not exist
    """
    parts = [sql.SQL("({})").format(part) for part in _conditions(session, policy, table, window)]
    text = session.render(sql.SQL("\n  AND ").join(parts))
    tried = explain_condition if policy.stale.where is None else try_condition
    tried(session, table.name, text, f"policy {policy.name!r}")
    return text


def referenced(session: PostgresSession, selection: Selection) -> Iterator[str]:
    """Name the foreign keys whose rows point at stale ones, each in a transaction of its own."""
    for foreign_key in catalog.foreign_keys(session, selection.table):
        statement = sql.SQL("SELECT 1 FROM {} WHERE {} AND NOT ({}) LIMIT 1").format(
            table_sql(selection.table), sql.SQL(selection.predicate), _childless(selection.table, foreign_key)
        )
        with session.transaction(walking=True):
            found = session.execute(statement)
        if found:
            yield f"rows of {foreign_key.child} point at stale rows through foreign key {foreign_key.name}"


def _conditions(session: PostgresSession, policy: Policy, table: Shape, window: Window) -> Iterator[sql.Composable]:
    stale = policy.stale
    if not isinstance(stale, Matching):
        yield from _aged(stale, table, window)
    if stale.where is not None:
        yield checked(session, stale.where, f"stale.where of policy {policy.name!r}")
    if policy.children == "skip":
        for foreign_key in catalog.foreign_keys(session, table.name):
            yield _childless(table.name, foreign_key)


def checked(session: PostgresSession, text: str, where: str) -> sql.SQL:
    """Take a user's SQL condition after it has been parsed, and its functions looked up.

    :raises PolicyInvalid: unless it is one boolean expression without clocks and volatile functions
    """
    from airflow_dbhygiene.databases.predicate import check_predicate  # noqa: PLC0415 - few policies have SQL to parse

    functions = check_predicate(text, dialect="postgres", where=where)
    volatile = session.execute(
        "SELECT DISTINCT proname FROM pg_catalog.pg_proc WHERE provolatile = 'v' AND lower(proname) = ANY(%s)"
        " ORDER BY 1",
        (sorted(functions),),
    )
    if volatile:
        message = f"{where}: function {volatile[0][0]} is volatile: it could answer differently, or change data."
        raise PolicyInvalid(message)
    return sql.SQL(f"\n{text}\n")


def _aged(stale: OlderThan | Expired, table: Shape, window: Window) -> Iterator[sql.Composed]:
    column = next((column for column in table.columns if column.name == stale.column), None)
    if column is None:
        known = ", ".join(column.name for column in table.columns)
        raise NotFound(f"stale.column {stale.column!r} is not a column of {table.name}; its columns are {known}.")
    name = sql.Identifier(column.name)
    assert window.cutoff is not None  # noqa: S101 - a window has one for every policy with an age
    yield sql.SQL("{} < {}").format(name, _moment(stale, column, window.cutoff))
    lower = _moment(stale, column, window.since) if window.since else _ageless(column)
    yield sql.SQL("{} {} {}").format(name, sql.SQL(">=" if window.since else ">"), lower)


def _moment(stale: OlderThan | Expired, column: Column, moment: DateTime) -> sql.Composable:
    """Write a moment as a value of the age column's type."""
    stamp = column.type.startswith("timestamp")
    if stamp and column.type.endswith("with time zone"):
        return sql.SQL("{}::timestamptz").format(sql.Literal(moment.isoformat()))
    if stamp:
        return sql.SQL("{}::timestamp").format(sql.Literal(wall_time(moment, _zone(stale, column)).isoformat(" ")))
    if column.type == "date":
        return sql.SQL("{}::date").format(sql.Literal(wall_time(moment, _zone(stale, column)).date().isoformat()))
    if column.type in _INTEGERS and stale.epoch:
        return sql.Literal(int(moment.timestamp() * _EPOCH[stale.epoch]))
    if column.type in _INTEGERS:
        message = f"stale.epoch is missing: column {column.name} is {column.type}; say whether it counts 's' or 'ms'."
        raise PolicyInvalid(message)
    message = f"stale.column {column.name} is {column.type}, which tells no age. Use a timestamp, date or epoch column."
    raise PolicyInvalid(message)


def _ageless(column: Column) -> sql.Composable:
    """Before this a value is no age: minus infinity, years before 1, and the zero of an epoch."""
    if column.type in _INTEGERS:
        return sql.Literal(0)
    return sql.SQL("'0001-01-01'::{}").format(sql.SQL(column.type))


def _zone(stale: OlderThan | Expired, column: Column) -> str:
    if stale.zone is None:
        message = f"stale.zone is missing: column {column.name} is {column.type}; name the zone that its values are in."
        raise PolicyInvalid(message)
    return stale.zone


def _childless(table: TableName, foreign_key: catalog.ForeignKey) -> sql.Composed:
    pairs = [
        sql.SQL("_dbhygiene_child.{} = {}.{}").format(sql.SQL(child), table_sql(table), sql.SQL(ours))
        for child, ours in zip(foreign_key.child_columns, foreign_key.our_columns, strict=True)
    ]
    return sql.SQL("NOT EXISTS (SELECT FROM {} AS _dbhygiene_child WHERE {})").format(
        sql.SQL(foreign_key.child),
        sql.SQL(" AND ").join(pairs),
    )


def table_sql(table: TableName) -> sql.Identifier:
    """Write a table's name."""
    return sql.Identifier(table.schema, table.table)
