"""In which order? How a run moves through the stale rows, along an index."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from psycopg import sql

from airflow_dbhygiene.databases.postgres import catalog_sql
from airflow_dbhygiene.databases.postgres.condition import table_sql
from airflow_dbhygiene.databases.protocol import Span
from airflow_dbhygiene.errors import StatementTimedOut
from airflow_dbhygiene.policy.stale import Matching

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.databases.protocol import Bound, Facts, Selection
    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.names import TableName

_MANY = 0.2
_FAR_MORE = 3
_SAMPLE_ROWS = 5_000
_FEW_OF_ONE_AGE = 5_000
"""So many rows are sorted beside a batch at no cost that one would notice."""


def choose_walk(
    session: PostgresSession, policy: Policy, facts: Facts, condition: str, stale_fraction: float
) -> tuple[str, ...]:
    """Choose (age, key) where an index leads with these columns, or with the age if few rows share one; else key.

    By key, too, where many rows are stale, and lie so scattered that a batch by age visits far more pages.
    """
    by_age = _by_age(session, policy, facts)
    if by_age is None:
        return facts.key
    if stale_fraction < _MANY:
        return by_age
    pages = {walk: _pages(session, facts.name, condition, walk) for walk in (by_age, facts.key)}
    return facts.key if pages[facts.key] * _FAR_MORE <= pages[by_age] else by_age


def count_up_to(session: PostgresSession, table: TableName, condition: str, most: int) -> int:
    """Count rows that fulfil the condition, and stop counting at ``most``."""
    statement = sql.SQL("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT {most}) AS counted")
    values = {"table": table_sql(table), "condition": sql.SQL(condition), "most": sql.Literal(most)}
    return int(session.execute(statement.format(**values))[0][0])


def leads_to(session: PostgresSession, table: TableName, column: str) -> bool:
    """Tell whether an index begins with a column, of whatever order, or the table is partitioned by its ranges."""
    values = {"schema": table.schema, "table": table.table, "column": column}
    return any(leads for (leads,) in session.execute(catalog_sql.LEADS_TO, values))


def one_heap(session: PostgresSession, selection: Selection) -> bool:
    """Tell whether the table has no partitions: a place in it belongs to one row, and no rows come but by writing."""
    kind = "SELECT relkind = 'r' FROM pg_catalog.pg_class WHERE oid = %s::pg_catalog.regclass"
    return bool(session.execute(kind, (session.render(table_sql(selection.table)),))[0][0])


def explain(session: PostgresSession, statement: sql.Composable) -> dict[str, object]:
    """Give the planner's tree for a statement, without running it."""
    plan: dict[str, object] = session.execute(sql.SQL("EXPLAIN (FORMAT json) {}").format(statement))[0][0][0]["Plan"]
    return plan


def full_scans(session: PostgresSession, selection: Selection, rows: int) -> bool:
    """Tell whether the planner would read the whole table for the first batch.

    :raises StatementTimedOut: when an index was just made, and older transactions keep all others from using it
    """
    plan = explain(session, _ordered(selection, Span(None, None), rows, _columns(selection.walk)))
    scans = any(node["Node Type"] in ("Seq Scan", "Sort") for node in _nodes(plan))
    if scans and (young := session.execute(catalog_sql.YOUNG_INDEXES, (session.render(table_sql(selection.table)),))):
        message = f"index {young[0][0]} may not be used before all transactions that are older have ended."
        raise StatementTimedOut(f"{message} A retry looks again.")
    return scans


def estimate(session: PostgresSession, selection: Selection) -> int:
    """Give the planner's guess of how many rows are stale."""
    statement = sql.SQL("SELECT 1 FROM {} WHERE {}").format(table_sql(selection.table), _condition(selection))
    return int(str(explain(session, statement)["Plan Rows"]))


def within(selection: Selection, span: Span) -> sql.Composed:
    """Say that a row is stale and lies in the span."""
    parts: list[sql.Composable] = [_condition(selection)]
    if span.lower is not None and span.upper is not None:
        parts.append(between(selection, (">=", span.lower), ("<", span.upper)))
    elif span.lower is not None:
        parts.append(compare(selection, ">=", span.lower))
    elif span.upper is not None:
        parts.append(compare(selection, "<", span.upper))
    return sql.SQL(" AND ").join(parts)


def between(selection: Selection, lower: tuple[str, Bound], upper: tuple[str, Bound]) -> sql.Composed:
    """Say that a row's place in the walk lies between two others, each with the operator that compares it with them.

    Columns in which both places are the same are equal in between: so said, an index is followed to the rows at once.
    """
    (above, first), (below, last) = lower, upper
    shared = next((i for i, (one, other) in enumerate(zip(first, last, strict=True)) if one != other), len(first) - 1)
    parts = [_side(selection, 0, shared, "=", first)] if shared else []
    parts += [_side(selection, shared, None, above, first), _side(selection, shared, None, below, last)]
    return sql.SQL(" AND ").join(parts)


def compare(selection: Selection, operator: str, place: Bound) -> sql.Composed:
    """Compare a row's place in the walk with another, in the server's own order."""
    return _side(selection, 0, None, operator, place)


def _side(selection: Selection, start: int, stop: int | None, operator: str, place: Bound) -> sql.Composed:
    """Compare some columns of a row's place with another's.

    The first of them by itself too, which follows from it, and which alone lets the planner leave out partitions, and
    see two bounds as one range.
    """
    types = {column.name: column.type for column in selection.columns}
    names = selection.walk[start:stop]
    values = [
        sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(types[name]))
        for name, value in zip(names, place[start:stop], strict=True)
    ]
    whole = sql.SQL("({}) {} ({})").format(_columns(names), sql.SQL(operator), sql.SQL(", ").join(values))
    if len(names) == 1 or operator == "=":
        return whole
    first = sql.SQL("{} {} {}").format(sql.Identifier(names[0]), sql.SQL(operator.ljust(2, "=")), values[0])
    return sql.SQL("{} AND {}").format(whole, first)


def _by_age(session: PostgresSession, policy: Policy, facts: Facts) -> tuple[str, ...] | None:
    if isinstance(policy.stale, Matching):
        return None
    by_age = tuple(dict.fromkeys((policy.stale.column, *facts.key)))
    indexes = session.execute(catalog_sql.WALK_INDEXES, {"schema": facts.name.schema, "table": facts.name.table})
    if any(tuple(columns[: len(by_age)]) == by_age for _, columns in indexes):
        return by_age
    leads = any(columns[0] == by_age[0] for _, columns in indexes)
    return by_age if leads and _of_one_age(session, facts, by_age[0]) <= _FEW_OF_ONE_AGE else None


def _of_one_age(session: PostgresSession, facts: Facts, age: str) -> float:
    """Give how many rows share the commonest age, as ANALYZE saw it; without end where it has not looked."""
    values = {"schema": facts.name.schema, "table": facts.name.table, "column": age, "rows": facts.row_estimate or 0}
    found = session.execute(catalog_sql.ROWS_OF_ONE_VALUE, values)
    return float(found[0][0]) if found else math.inf


def _pages(session: PostgresSession, table: TableName, condition: str, walk: tuple[str, ...]) -> int:
    """Count the pages on which the first stale rows lie, in the order of a walk."""
    statement = sql.SQL(
        "SELECT count(DISTINCT (tableoid, (ctid::text::point)[0]))"
        " FROM (SELECT tableoid, ctid FROM {table} WHERE {condition} ORDER BY {walk} LIMIT {rows}) AS first"
    )
    values = {"table": table_sql(table), "condition": sql.SQL(condition), "walk": _columns(walk)}
    return int(session.execute(statement.format(**values, rows=sql.Literal(_SAMPLE_ROWS)))[0][0])


def hop(session: PostgresSession, selection: Selection, span: Span, rows: int) -> Bound | None:
    """Give the place in the span that so many stale rows lie before, None when it has no more."""
    columns, texts = _columns(selection.walk), _texts(selection.walk)
    statement = sql.SQL("SELECT {texts} FROM ({ordered} OFFSET {rows}) AS place").format(
        texts=texts,  # outside, or the rows that OFFSET passes over would be turned into text too
        ordered=_ordered(selection, span, 1, columns),
        rows=sql.Literal(rows),
    )
    found = session.execute(statement)
    return tuple(found[0]) if found else None


def _ordered(selection: Selection, span: Span, rows: int, columns: sql.Composable) -> sql.Composed:
    return sql.SQL("SELECT {columns} FROM {table} WHERE {condition} ORDER BY {walk} LIMIT {rows}").format(
        columns=columns,
        table=table_sql(selection.table),
        condition=within(selection, span),
        walk=_columns(selection.walk),
        rows=sql.Literal(rows),
    )


def _nodes(plan: dict[str, object]) -> Iterator[dict[str, object]]:
    yield plan
    children: Sequence[dict[str, object]] = plan.get("Plans", ())  # type: ignore[assignment]
    for child in children:
        yield from _nodes(child)


def _condition(selection: Selection) -> sql.SQL:
    return sql.SQL(selection.predicate)


def _columns(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _texts(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
