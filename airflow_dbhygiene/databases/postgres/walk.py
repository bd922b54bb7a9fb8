"""Which rows? The stale ones as a SQL condition, and the order in which a run moves through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from airflow_dbhygiene.databases.postgres import catalog, catalog_sql
from airflow_dbhygiene.databases.postgres.keys import explain_condition, try_condition
from airflow_dbhygiene.databases.predicate import check_predicate
from airflow_dbhygiene.databases.protocol import Span
from airflow_dbhygiene.errors import NotFound, PolicyInvalid
from airflow_dbhygiene.policy.keep import wall_time
from airflow_dbhygiene.policy.stale import Matching

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pendulum import DateTime

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.databases.protocol import Bound, Column, Facts, Selection
    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.moments import Window
    from airflow_dbhygiene.policy.names import TableName
    from airflow_dbhygiene.policy.stale import Expired, OlderThan

_INTEGERS = ("smallint", "integer", "bigint")
_EPOCH = {"s": 1, "ms": 1000}
_MANY = 0.2
_FAR_MORE = 3
_SAMPLE_ROWS = 5_000


def predicate(session: PostgresSession, policy: Policy, facts: Facts, window: Window) -> str:
    """Render the stale rows within the window as one SQL condition that any later statement can hold.

    :raises PolicyInvalid: when the policy's own SQL is not one boolean expression
    :raises NotFound: when the age column does not exist
    """
    parts = [sql.SQL("({})").format(part) for part in _conditions(session, policy, facts, window)]
    text = session.render(sql.SQL("\n  AND ").join(parts))
    tried = explain_condition if policy.stale.where is None else try_condition
    tried(session, facts.name, text, f"policy {policy.name!r}")
    return text


def choose_walk(
    session: PostgresSession, policy: Policy, facts: Facts, condition: str, stale_fraction: float
) -> tuple[str, ...]:
    """Choose (age, key) where an index leads with these columns, else key.

    By key, too, where many rows are stale, and lie so scattered that a batch by age visits far more pages.
    """
    by_age = _by_age(session, policy, facts)
    if by_age is None:
        return facts.key
    if stale_fraction < _MANY:
        return by_age
    pages = {walk: _pages(session, facts.name, condition, walk) for walk in (by_age, facts.key)}
    return facts.key if pages[facts.key] * _FAR_MORE <= pages[by_age] else by_age


def bounds(session: PostgresSession, selection: Selection, rows: int, most: int) -> tuple[list[Bound], int]:
    """Hop through the walk's index, ``rows`` at a time, as far as ``most`` rows.

    :returns: the first place of every piece after the first, then where the run ends if rows are left beyond
        ``most``; and the number of rows before that end
    """
    places: list[Bound] = []
    seen = 0
    while seen < most:
        step = min(rows, most - seen)
        place = hop(session, selection, Span(places[-1] if places else None, None), step)
        if place is None:
            return places, seen + _count(session, selection, places[-1] if places else None, step)
        places.append(place)
        seen += step
    return places, seen


def count_up_to(session: PostgresSession, table: TableName, condition: str, most: int) -> int:
    """Count rows that fulfil the condition, and stop counting at ``most``."""
    statement = sql.SQL("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT {most}) AS counted")
    values = {"table": _table(table), "condition": sql.SQL(condition), "most": sql.Literal(most)}
    return int(session.execute(statement.format(**values))[0][0])


def explain(session: PostgresSession, statement: sql.Composable) -> dict[str, object]:
    """Give the planner's tree for a statement, without running it."""
    plan: dict[str, object] = session.execute(sql.SQL("EXPLAIN (FORMAT json) {}").format(statement))[0][0][0]["Plan"]
    return plan


def full_scans(session: PostgresSession, selection: Selection, rows: int) -> bool:
    """Tell whether the planner would read the whole table for the first batch."""
    plan = explain(session, _ordered(selection, Span(None, None), rows, _columns(selection.walk)))
    return any(node["Node Type"] in ("Seq Scan", "Sort") for node in _nodes(plan))


def estimate(session: PostgresSession, selection: Selection) -> int:
    """Give the planner's guess of how many rows are stale."""
    statement = sql.SQL("SELECT 1 FROM {} WHERE {}").format(_table(selection.table), _condition(selection))
    return int(str(explain(session, statement)["Plan Rows"]))


def referenced(session: PostgresSession, selection: Selection) -> Iterator[str]:
    """Name the foreign keys whose rows point at stale ones."""
    for foreign_key in catalog.foreign_keys(session, selection.table):
        statement = sql.SQL("SELECT 1 FROM {} WHERE {} AND NOT ({}) LIMIT 1").format(
            _table(selection.table), _condition(selection), _childless(selection.table, foreign_key)
        )
        if session.execute(statement):
            yield f"rows of {foreign_key.child} point at stale rows through foreign key {foreign_key.name}"


def within(selection: Selection, span: Span) -> sql.Composed:
    """Say that a row is stale and lies in the span."""
    parts: list[sql.Composable] = [_condition(selection)]
    if span.lower is not None:
        parts.append(compare(selection, ">=", span.lower))
    if span.upper is not None:
        parts.append(compare(selection, "<", span.upper))
    return sql.SQL(" AND ").join(parts)


def compare(selection: Selection, operator: str, place: Bound) -> sql.Composed:
    """Compare a row's place in the walk with another, in the server's own order."""
    types = {column.name: column.type for column in selection.columns}
    values = [
        sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(types[name]))
        for name, value in zip(selection.walk, place, strict=True)
    ]
    return sql.SQL("({}) {} ({})").format(
        _columns(selection.walk),
        sql.SQL(operator),
        sql.SQL(", ").join(values),
    )


def _by_age(session: PostgresSession, policy: Policy, facts: Facts) -> tuple[str, ...] | None:
    if isinstance(policy.stale, Matching):
        return None
    by_age = tuple(dict.fromkeys((policy.stale.column, *facts.key)))
    indexes = session.execute(catalog_sql.WALK_INDEXES, {"schema": facts.name.schema, "table": facts.name.table})
    return by_age if any(tuple(columns[: len(by_age)]) == by_age for _, columns in indexes) else None


def _pages(session: PostgresSession, table: TableName, condition: str, walk: tuple[str, ...]) -> int:
    """Count the pages on which the first stale rows lie, in the order of a walk."""
    statement = sql.SQL(
        "SELECT count(DISTINCT (tableoid, (ctid::text::point)[0]))"
        " FROM (SELECT tableoid, ctid FROM {table} WHERE {condition} ORDER BY {walk} LIMIT {rows}) AS first"
    )
    values = {"table": _table(table), "condition": sql.SQL(condition), "walk": _columns(walk)}
    return int(session.execute(statement.format(**values, rows=sql.Literal(_SAMPLE_ROWS)))[0][0])


def _conditions(session: PostgresSession, policy: Policy, facts: Facts, window: Window) -> Iterator[sql.Composable]:
    stale = policy.stale
    if not isinstance(stale, Matching):
        yield from _aged(stale, facts, window)
    if stale.where is not None:
        yield checked(session, stale.where, f"stale.where of policy {policy.name!r}")
    if policy.children == "skip":
        for foreign_key in catalog.foreign_keys(session, facts.name):
            yield _childless(facts.name, foreign_key)


def checked(session: PostgresSession, text: str, where: str) -> sql.SQL:
    """Take a user's SQL condition after it has been parsed, and its functions looked up.

    :raises PolicyInvalid: unless it is one boolean expression without clocks and volatile functions
    """
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


def _aged(stale: OlderThan | Expired, facts: Facts, window: Window) -> Iterator[sql.Composed]:
    column = next((column for column in facts.columns if column.name == stale.column), None)
    if column is None:
        known = ", ".join(column.name for column in facts.columns)
        raise NotFound(f"stale.column {stale.column!r} is not a column of {facts.name}; its columns are {known}.")
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
        sql.SQL("_dbhygiene_child.{} = {}.{}").format(sql.SQL(child), _table(table), sql.SQL(ours))
        for child, ours in zip(foreign_key.child_columns, foreign_key.our_columns, strict=True)
    ]
    return sql.SQL("NOT EXISTS (SELECT FROM {} AS _dbhygiene_child WHERE {})").format(
        sql.SQL(foreign_key.child),
        sql.SQL(" AND ").join(pairs),
    )


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


def _count(session: PostgresSession, selection: Selection, place: Bound | None, most: int) -> int:
    condition = session.render(within(selection, Span(place, None)))
    return count_up_to(session, selection.table, condition, most)


def _ordered(selection: Selection, span: Span, rows: int, columns: sql.Composable) -> sql.Composed:
    return sql.SQL("SELECT {columns} FROM {table} WHERE {condition} ORDER BY {walk} LIMIT {rows}").format(
        columns=columns,
        table=_table(selection.table),
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


def _table(table: TableName) -> sql.Identifier:
    return sql.Identifier(table.schema, table.table)


def _columns(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _texts(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
