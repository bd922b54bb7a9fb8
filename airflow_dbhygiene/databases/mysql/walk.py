"""Which rows? The stale ones as a SQL condition, and the order in which a run moves through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.databases.mysql import catalog, catalog_sql
from airflow_dbhygiene.databases.mysql.keys import try_condition
from airflow_dbhygiene.databases.mysql.types import INTEGERS, kind_of, text_sql
from airflow_dbhygiene.databases.mysql.values import literal_of
from airflow_dbhygiene.databases.mysql.writing import listed, quoted, spelled
from airflow_dbhygiene.databases.predicate import check_predicate
from airflow_dbhygiene.databases.protocol import Span
from airflow_dbhygiene.errors import NotFound, PolicyInvalid
from airflow_dbhygiene.policy.keep import wall_time
from airflow_dbhygiene.policy.stale import Matching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pendulum import DateTime

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Bound, Column, Facts, Selection
    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.moments import Window
    from airflow_dbhygiene.policy.names import TableName
    from airflow_dbhygiene.policy.stale import Expired, OlderThan

_EPOCH: Final = {"s": 1, "ms": 1000}
_EARLIEST: Final = {"date": "0001-01-01", "datetime": "0001-01-01", "timestamp": "1970-01-01 00:00:00"}
"""Before this a value is no age: the zero date above all."""

_MANY: Final = 0.2
"""So much of a table is read sooner in the order of its primary key than along another index."""

_VOLATILE: Final = frozenset(
    "rand uuid uuid_short sleep benchmark get_lock release_lock release_all_locks is_free_lock is_used_lock "
    "connection_id user current_user session_user system_user current_role database schema version found_rows "
    "row_count last_insert_id load_file nextval lastval setval random_bytes master_pos_wait source_pos_wait "
    "statement_digest ps_current_thread_id next_value_for".split()
)


def predicate(session: MySqlSession, policy: Policy, facts: Facts, window: Window) -> str:
    """Render the stale rows within the window as one SQL condition that any later statement can hold.

    :raises PolicyInvalid: when the policy's own SQL is not one boolean expression
    :raises NotFound: when the age column does not exist
    """
    text = "\n  AND ".join(f"({part})" for part in _conditions(session, policy, facts, window))
    try_condition(session, facts.name, text, f"policy {policy.name!r}")
    return text


def choose_walk(
    session: MySqlSession,
    policy: Policy,
    facts: Facts,
    condition: str,  # noqa: ARG001 - the protocol's own parameter
    stale_fraction: float,
) -> tuple[str, ...]:
    """Choose (age, key) where an index leads with these columns, else key.

    By key, too, where many rows are stale: InnoDB keeps them in that order, and along any other each is a jump.
    """
    if not isinstance(policy.stale, Matching) and stale_fraction < _MANY:
        by_age = tuple(dict.fromkeys((policy.stale.column, *facts.key)))
        if _index(session, facts.name, by_age, facts.key) is not None:
            return by_age
    return facts.key


def bounds(session: MySqlSession, selection: Selection, rows: int, most: int) -> tuple[list[Bound], int]:
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


def count_up_to(session: MySqlSession, table: TableName, condition: str, most: int) -> int:
    """Count rows that fulfil the condition, and stop counting at ``most``."""
    counted = f"SELECT 1 FROM {spelled(table)} WHERE {condition} LIMIT {most}"
    return int(session.execute(f"SELECT count(*) FROM ({counted}) AS counted")[0][0])


def explain(session: MySqlSession, statement: str) -> dict[str, Any]:
    """Give the optimizer's plan for a statement's first table, by the names of EXPLAIN's columns in lower case."""
    row = session.execute(f"EXPLAIN FORMAT=TRADITIONAL {statement}")[0]
    names = "id select_type table type possible_keys key key_len ref rows extra".split()
    if not session.flavour.mariadb:
        names = "id select_type table partitions type possible_keys key key_len ref rows filtered extra".split()
    return dict(zip(names, row, strict=True))


def full_scans(session: MySqlSession, selection: Selection, rows: int) -> bool:
    """Tell whether the server would read, or sort, the whole table for the first batch."""
    plan = explain(session, _ordered(session, selection, Span(None, None), rows, listed(selection.walk)))
    return plan["type"] == "ALL" or "filesort" in str(plan["extra"])


def estimate(session: MySqlSession, selection: Selection) -> int:
    """Give the optimizer's guess of how many rows are stale."""
    plan = explain(session, f"SELECT 1 FROM {spelled(selection.table)} WHERE {selection.predicate}")
    return int(int(plan["rows"] or 0) * float(plan.get("filtered") or 100) / 100)


def referenced(session: MySqlSession, selection: Selection) -> Iterator[str]:
    """Name the foreign keys whose rows point at stale ones."""
    for foreign_key in catalog.foreign_keys(session, selection.table):
        childless = _childless(selection.table, foreign_key)
        condition = f"{selection.predicate} AND NOT ({childless})"
        if session.execute(f"SELECT 1 FROM {spelled(selection.table)} WHERE {condition} LIMIT 1"):
            child = spelled(foreign_key.child)
            yield f"rows of {child} point at stale rows through foreign key {foreign_key.name}"


def source(session: MySqlSession, selection: Selection) -> str:
    """Write the table with the index that the walk follows: the optimizer would not always choose it."""
    index = _index(session, selection.table, selection.walk, selection.key)
    if index is None:
        message = f"no index of {selection.table} leads with ({', '.join(selection.walk)}) any more: create it anew."
        raise NotFound(message)
    return f"{spelled(selection.table)} FORCE INDEX ({quoted(index)})"


def within(selection: Selection, span: Span) -> str:
    """Say that a row is stale and lies in the span."""
    parts = [selection.predicate]
    if span.lower is not None:
        parts.append(compare(selection, ">=", span.lower))
    if span.upper is not None:
        parts.append(compare(selection, "<", span.upper))
    return " AND ".join(f"({part})" for part in parts)


def compare(selection: Selection, operator: str, place: Bound) -> str:
    """Compare a row's place in the walk with another, in the server's own order.

    The expanded form of a row comparison: of ``(a, b) > (x, y)`` itself the servers make a scan of the whole index.
    """
    columns = [catalog.column_of(selection.columns, name) for name in selection.walk]
    values = [literal_of(column, text) for column, text in zip(columns, place, strict=True)]
    names = [quoted(name) for name in selection.walk]
    branches = []
    for last in range(len(names)):
        equal = [f"{name} = {value}" for name, value in zip(names[:last], values[:last], strict=True)]
        final = operator if last == len(names) - 1 else operator[0]
        branches.append(" AND ".join([*equal, f"{names[last]} {final} {values[last]}"]))
    return "(" + " OR ".join(f"({branch})" for branch in branches) + ")"


def checked(session: MySqlSession, text: str, where: str) -> str:
    """Take a user's SQL condition after it has been parsed, and its functions looked up.

    :raises PolicyInvalid: unless it is one boolean expression without clocks, volatile and stored functions
    """
    functions = check_predicate(text, dialect="mysql", where=where)
    if volatile := sorted(functions & _VOLATILE):
        message = f"{where}: function {volatile[0]} is volatile: it could answer differently, or change data."
        raise PolicyInvalid(message)
    if stored := _stored(session, functions):
        message = f"{where}: function {stored[0]} is stored in the server, and could do anything, whatever it declares."
        raise PolicyInvalid(message)
    return f"\n{text}\n"


def _stored(session: MySqlSession, functions: frozenset[str]) -> list[str]:
    """Name the stored functions among these: that one is DETERMINISTIC, or changes no data, is its author's word."""
    if not functions:
        return []
    statement = catalog_sql.FUNCTIONS.format(marks=", ".join(["%s"] * len(functions)))
    return [str(row[0]) for row in session.execute(statement, tuple(sorted(functions)))]


def _index(session: MySqlSession, table: TableName, walk: tuple[str, ...], key: tuple[str, ...]) -> str | None:
    if walk == key:
        return "PRIMARY"
    known = session.walk_indexes
    if (table, walk) not in known:
        found = (
            index.name
            for index in catalog.indexes_of(session, table)
            # InnoDB ends every other index with the columns of the primary key that are not in it.
            if index.walkable and _leads((*index.columns, *(k for k in key if k not in index.columns)), walk)
        )
        known[table, walk] = next(found, None)
    return known[table, walk]


def _leads(columns: tuple[str, ...], walk: tuple[str, ...]) -> bool:
    return columns[: len(walk)] == walk


def _conditions(session: MySqlSession, policy: Policy, facts: Facts, window: Window) -> Iterator[str]:
    stale = policy.stale
    if not isinstance(stale, Matching):
        yield from _aged(stale, facts, window)
    if stale.where is not None:
        yield checked(session, stale.where, f"stale.where of policy {policy.name!r}")
    if policy.children == "skip":
        for foreign_key in catalog.foreign_keys(session, facts.name):
            yield _childless(facts.name, foreign_key)


def _aged(stale: OlderThan | Expired, facts: Facts, window: Window) -> Iterator[str]:
    column = next((column for column in facts.columns if column.name == stale.column), None)
    if column is None:
        known = ", ".join(column.name for column in facts.columns)
        raise NotFound(f"stale.column {stale.column!r} is not a column of {facts.name}; its columns are {known}.")
    name = quoted(column.name)
    assert window.cutoff is not None  # noqa: S101 - a window has one for every policy with an age
    yield f"{name} < {_moment(stale, column, window.cutoff)}"
    if window.since:
        yield f"{name} >= {_moment(stale, column, window.since)}"
    else:
        yield f"{name} > {_ageless(column)}"


def _moment(stale: OlderThan | Expired, column: Column, moment: DateTime) -> str:
    """Write a moment as a value of the age column's type; the session's zone is UTC."""
    kind = kind_of(column)
    if kind == "timestamp":
        return f"'{wall_time(moment, 'UTC').isoformat(' ')}'"
    if kind == "datetime":
        return f"'{wall_time(moment, _zone(stale, column)).isoformat(' ')}'"
    if kind == "date":
        return f"'{wall_time(moment, _zone(stale, column)).date().isoformat()}'"
    if kind in INTEGERS and stale.epoch:
        return str(int(moment.timestamp() * _EPOCH[stale.epoch]))
    if kind in INTEGERS:
        message = f"stale.epoch is missing: column {column.name} is {column.type}; say whether it counts 's' or 'ms'."
        raise PolicyInvalid(message)
    message = f"stale.column {column.name} is {column.type}, which tells no age. Use a timestamp, date or epoch column."
    raise PolicyInvalid(message)


def _ageless(column: Column) -> str:
    kind = kind_of(column)
    return "0" if kind in INTEGERS else f"'{_EARLIEST[kind]}'"


def _zone(stale: OlderThan | Expired, column: Column) -> str:
    if stale.zone is None:
        message = f"stale.zone is missing: column {column.name} is {column.type}; name the zone that its values are in."
        raise PolicyInvalid(message)
    return stale.zone


def _childless(table: TableName, foreign_key: catalog.ForeignKey) -> str:
    pairs = " AND ".join(
        f"_dbhygiene_child.{quoted(child)} = {spelled(table)}.{quoted(ours)}"
        for child, ours in zip(foreign_key.child_columns, foreign_key.our_columns, strict=True)
    )
    return f"NOT EXISTS (SELECT 1 FROM {spelled(foreign_key.child)} AS _dbhygiene_child WHERE {pairs})"


def hop(session: MySqlSession, selection: Selection, span: Span, rows: int) -> Bound | None:
    """Give the place in the span that so many stale rows lie before, None when it has no more."""
    columns = [catalog.column_of(selection.columns, name) for name in selection.walk]
    ordered = _ordered(session, selection, span, 1, listed(selection.walk))
    # Outside, or the rows that OFFSET passes over would be turned into text too.
    texts = ", ".join(text_sql(column) for column in columns)
    found = session.execute(f"SELECT {texts} FROM ({ordered} OFFSET {rows}) AS place")
    return tuple(text.decode() for text in found[0]) if found else None


def _count(session: MySqlSession, selection: Selection, place: Bound | None, most: int) -> int:
    return count_up_to(session, selection.table, within(selection, Span(place, None)), most)


def _ordered(session: MySqlSession, selection: Selection, span: Span, rows: int, columns: str) -> str:
    condition, walk = within(selection, span), listed(selection.walk)
    return f"SELECT {columns} FROM {source(session, selection)} WHERE {condition} ORDER BY {walk} LIMIT {rows}"
