"""Deleting them: lock the batch's range, compare it exactly, delete by the locked keys; else row by row.

A DELETE of the range itself would meet rows that came after the comparison, and may turn into a scan of the table.
Nothing is committed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.databases.mysql.catalog import column_of
from airflow_dbhygiene.databases.mysql.rows import beside, encode_keys, same_key, version_sql
from airflow_dbhygiene.databases.mysql.types import literal_of, text_of
from airflow_dbhygiene.databases.mysql.walk import compare, source
from airflow_dbhygiene.databases.mysql.writing import listed, quoted, spelled
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Column, Selection

_KEYS_AT_A_TIME: Final = 1_000
"""So few that the optimizer looks them up one by one and never scans the table, locking rows on its way."""

_MOST_SECONDS: Final = 10.0
"""A batch that lasts longer is cancelled: it should last less than two."""


def delete(session: MySqlSession, selection: Selection, rows: pa.Table, held: str | None) -> bool:
    """Delete the range that the archived rows span; tell whether exactly these, in these versions, were deleted.

    :param rows: the batch's archived keys and versions, in the order of the walk
    :param held: condition of the rows that a legal hold protects
    """
    with session.limited(_MOST_SECONDS):
        locked = session.execute(_lock_range(session, selection, rows, held))
        if b"".join(row[0] or b"" for row in locked) != encode_keys(selection, rows):
            return False
        deleted = sum(session.change(statement) for statement in _deletes(selection, rows))
    return deleted == rows.num_rows


def delete_carefully(
    session: MySqlSession, selection: Selection, rows: pa.Table, ordinals: Sequence[int], held: str | None
) -> Outcomes:
    """Delete those archived rows that are still identical and not locked, and say what became of the others.

    A row that is locked, or that changes between two statements, counts as locked: a later look decides.
    """
    key = [column_of(selection.columns, name) for name in selection.key]
    outcomes: dict[str, list[int]] = {"drifted": [], "held": [], "vanished": [], "locked": []}
    with session.limited(_MOST_SECONDS), beside(session, selection, rows, key) as archived:
        seen = {place: state for place, *state in session.execute(_look(selection, archived, held))}
        mine = {place for place, same in _locked(session, selection, archived, held) if same}
        gone = rows.take(sorted(mine))
        deleted = sum(session.change(statement) for statement in _deletes(selection, gone)) if mine else 0
    if deleted != len(mine):
        raise AssertionError(f"{deleted} rows of {selection.table} were deleted where {len(mine)} were locked")
    for place, ordinal in enumerate(ordinals):
        if place not in mine:
            outcomes[_outcome(seen.get(place))].append(ordinal)
    return Outcomes(len(mine), **{name: tuple(found) for name, found in outcomes.items()})


def _lock_range(session: MySqlSession, selection: Selection, rows: pa.Table, held: str | None) -> str:
    first, last = _place(selection, rows, 0), _place(selection, rows, rows.num_rows - 1)
    return (
        f"SELECT {version_sql(selection)} FROM {source(session, selection)}"
        f" WHERE {compare(selection, '>=', first)} AND {compare(selection, '<=', last)}"
        f" AND ({selection.predicate}) AND ({held or 'FALSE'}) IS NOT TRUE"
        f" ORDER BY {listed(selection.walk)} FOR UPDATE NOWAIT"
    )


def _place(selection: Selection, rows: pa.Table, index: int) -> tuple[str, ...]:
    return tuple(
        text_of(column_of(selection.columns, name), rows.column(name)[index].as_py()) for name in selection.walk
    )


def _deletes(selection: Selection, rows: pa.Table) -> Iterator[str]:
    """Write statements that delete rows by their keys, which are locked."""
    key = [column_of(selection.columns, name) for name in selection.key]
    for start in range(0, rows.num_rows, _KEYS_AT_A_TIME):
        piece = rows.slice(start, _KEYS_AT_A_TIME)
        literals = [_literals(column, piece.column(column.name)) for column in key]
        keys = literals[0] if len(key) == 1 else [f"({', '.join(row)})" for row in zip(*literals, strict=True)]
        columns = quoted(key[0].name) if len(key) == 1 else f"({listed(selection.key)})"
        yield f"DELETE FROM {spelled(selection.table)} WHERE {columns} IN ({', '.join(keys)})"


def _literals(column: Column, values: Any) -> list[str]:
    return [literal_of(column, text_of(column, value)) for value in values.to_pylist()]


_VERSION: Final = quoted(VERSION_COLUMN)


def _look(selection: Selection, archived: str, held: str | None) -> str:
    """See, without waiting, which rows are there, are the same, are stale, are held."""
    return (
        f"SELECT _dbhygiene_ordinal, {version_sql(selection, _hot(selection))} <=> {_VERSION},"
        f" ({selection.predicate}) IS TRUE, ({held or 'FALSE'}) IS TRUE FROM {_joined(selection, archived)}"
    )


def _locked(session: MySqlSession, selection: Selection, archived: str, held: str | None) -> Iterator[tuple[int, bool]]:
    """Lock the rows that nobody else has locked; give their places, and whether they still are the same."""
    statement = (
        f"SELECT _dbhygiene_ordinal, {version_sql(selection, _hot(selection))} <=> {_VERSION}"
        f" FROM {_joined(selection, archived)}"
        f" WHERE ({selection.predicate}) AND ({held or 'FALSE'}) IS NOT TRUE FOR UPDATE"
        + ("" if session.flavour.mariadb else f" OF {quoted(selection.table.table)}")
        + " SKIP LOCKED"
    )
    return ((int(place), bool(same)) for place, same in session.execute(statement))


def _joined(selection: Selection, archived: str) -> str:
    """Join in the order of the keys beside, so that each is looked up.

    The table keeps its own name, by which conditions may call it; the keys beside have other names.
    """
    table = spelled(selection.table)
    return f"{archived} AS _dbhygiene_archived STRAIGHT_JOIN {table} ON {same_key(selection, '_dbhygiene_archived', table)}"


def _hot(selection: Selection) -> str:
    return f"{spelled(selection.table)}."


def _outcome(state: list[Any] | None) -> str:
    if state is None:
        return "vanished"
    same, stale, held = state
    if not same:
        return "drifted"
    if held:
        return "held"
    return "locked" if stale else "drifted"
