"""In which order? How a run moves through the stale rows, along an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.databases.mysql import catalog, catalog_sql
from airflow_dbhygiene.databases.mysql.types import text_sql
from airflow_dbhygiene.databases.mysql.values import literal_of
from airflow_dbhygiene.databases.mysql.writing import listed, quoted, spelled
from airflow_dbhygiene.databases.protocol import Span
from airflow_dbhygiene.errors import NotFound
from airflow_dbhygiene.policy.stale import Matching

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Bound, Facts, Selection
    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.names import TableName

_MANY: Final = 0.2
"""So much of a table is read sooner in the order of its primary key than along another index."""


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


def count_up_to(session: MySqlSession, table: TableName, condition: str, most: int) -> int:
    """Count rows that fulfil the condition, and stop counting at ``most``."""
    counted = f"SELECT 1 FROM {spelled(table)} WHERE {condition} LIMIT {most}"
    return int(session.execute(f"SELECT count(*) FROM ({counted}) AS counted")[0][0])


def leads_to(session: MySqlSession, table: TableName, column: str) -> bool:
    """Tell whether an index begins with a column, of whatever order, or the table is partitioned by its ranges."""
    if any(index.columns[0] == column for index in catalog.indexes_of(session, table)):
        return True
    return bool(session.execute(catalog_sql.RANGES_OF, (table.schema, table.table, quoted(column))))


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


def hop(session: MySqlSession, selection: Selection, span: Span, rows: int) -> Bound | None:
    """Give the place in the span that so many stale rows lie before, None when it has no more."""
    columns = [catalog.column_of(selection.columns, name) for name in selection.walk]
    ordered = _ordered(session, selection, span, 1, listed(selection.walk))
    # Outside, or the rows that OFFSET passes over would be turned into text too.
    texts = ", ".join(text_sql(column) for column in columns)
    found = session.execute(f"SELECT {texts} FROM ({ordered} OFFSET {rows}) AS place")
    return tuple(text.decode() for text in found[0]) if found else None


def last_place(session: MySqlSession, selection: Selection, span: Span) -> Bound | None:
    """Give the place of the last stale row in the span, None when it has none."""
    columns = [catalog.column_of(selection.columns, name) for name in selection.walk]
    backwards = ", ".join(f"{quoted(name)} DESC" for name in selection.walk)
    found = session.execute(
        f"SELECT {', '.join(text_sql(column) for column in columns)} FROM (SELECT {listed(selection.walk)}"
        f" FROM {source(session, selection)} WHERE {within(selection, span)} ORDER BY {backwards} LIMIT 1) AS place"
    )
    return tuple(text.decode() for text in found[0]) if found else None


def _ordered(session: MySqlSession, selection: Selection, span: Span, rows: int, columns: str) -> str:
    condition, walk = within(selection, span), listed(selection.walk)
    return f"SELECT {columns} FROM {source(session, selection)} WHERE {condition} ORDER BY {walk} LIMIT {rows}"
