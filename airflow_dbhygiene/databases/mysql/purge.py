"""Deleting them: delete the batch's range and compare what went; or lock, compare, and delete; else row by row.

Where a lock wait can be refused (MariaDB), one DELETE of the range folds the versions of its rows into one digest.
Once that was not the archive's, or a row was locked, the session locks and compares first. One DELETE of the range then
takes the locked rows: all of them are there still, so that as many as were locked are these and no others. MySQL would
wait for rows in between: it deletes by key. Nothing is committed here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.databases.mysql import folding
from airflow_dbhygiene.databases.mysql.catalog import column_of
from airflow_dbhygiene.databases.mysql.condition import reads_itself
from airflow_dbhygiene.databases.mysql.rows import beside, digits_sql, encode_keys, version_sql
from airflow_dbhygiene.databases.mysql.values import literals_of, text_of
from airflow_dbhygiene.databases.mysql.walk import compare, source
from airflow_dbhygiene.databases.mysql.writing import AT_ONCE, PATIENT, listed, quoted, spelled
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Bound, Column, Selection, Server

KEYS_AT_A_TIME: Final = 1_000
"""So few that the optimizer looks them up one by one, unless the table itself is small."""

MOST_SECONDS: Final = 10.0
"""A batch that lasts longer is cancelled: it should last less than two."""


def delete(session: MySqlSession, selection: Selection, rows: pa.Table, held: str | None, _: Server) -> bool:
    """Delete the range that the archived rows span; tell whether exactly these, in these versions, were deleted.

    :param rows: the batch's archived keys and versions, in the order of the walk
    :param held: condition of the rows that a legal hold protects
    """
    with session.limited(MOST_SECONDS):
        if at_once(session, selection):
            in_range = _in_range(selection, rows, held)
            deleted, folded = delete_folding(session, selection, in_range)
            session.alike = deleted == rows.num_rows and folded == folding.fold(encode_keys(selection, rows))
            return session.alike
        locked = session.execute(_lock_range(session, selection, rows, held))
        if "".join([row[0] or "" for row in locked]) != encode_keys(selection, rows).hex():
            return False
        return _delete_locked(session, selection, rows, held) == rows.num_rows


def delete_carefully(
    session: MySqlSession, selection: Selection, rows: pa.Table, ordinals: Sequence[int], held: str | None
) -> Outcomes:
    """Delete those archived rows that are still identical and not locked, and say what became of the others.

    A row that is locked, or that changes between two statements, counts as locked: a later look decides.
    """
    outcomes: dict[str, list[int]] = {"drifted": [], "held": [], "vanished": [], "locked": []}
    columns, keys = _keys_beside(selection, rows)
    with session.limited(MOST_SECONDS), beside(session, keys, columns) as archived:
        found = session.execute(_look(selection, archived, held))
        seen = {place: state for place, *state in found}
        locks = (PATIENT * session.flavour.mariadb + _lock_piece(selection, piece, held) for piece in _pieces(rows))
        locked = {row[0] for lock in locks for row in session.execute(lock)}
        versions = rows.column(VERSION_COLUMN).to_pylist()
        mine = [place for place, version in enumerate(versions) if version in locked]
        deleted = session.change(_delete_beside(selection, archived, mine)) if mine else 0
    if deleted != len(mine):
        raise AssertionError(f"{deleted} rows of {selection.table} were deleted where {len(mine)} were locked")
    for place, ordinal in enumerate(ordinals):
        if versions[place] not in locked:
            outcomes[_outcome(seen.get(place))].append(ordinal)
    return Outcomes(len(mine), **{name: tuple(found) for name, found in outcomes.items()})


def by_range(session: MySqlSession, selection: Selection) -> bool:
    """Tell whether one statement may delete a range."""
    return session.flavour.mariadb and not session.crowded and not reads_itself(selection)


def at_once(session: MySqlSession, selection: Selection) -> bool:
    """Tell whether a range may be deleted before it is compared: not where an earlier one was another, or locked."""
    return by_range(session, selection) and session.alike


def delete_folding(session: MySqlSession, selection: Selection, rows: str) -> tuple[int, str | None]:
    """Delete rows in a range of the walk; give how many went, and what the versions of all that were seen come to.

    The caller says whether they are ``alike``. A row is seen before it goes, and none that goes is not: where the
    versions are the archive's, and as many rows went, these went and no others.

    :raises StatementTimedOut: when another transaction has locked a row: the session locks first from then on
    """
    session.alike = False
    folding.begin(session)
    condition = f"{rows} AND {folding.folding_sql(digits_sql(selection))}"
    return session.change(_range_delete(session, selection, condition)), folding.end(session)


def delete_range(session: MySqlSession, selection: Selection, rows: str) -> int:
    """Delete rows in a range of the walk, which are locked.

    :param rows: the condition that they fulfil
    :raises StatementTimedOut: when another transaction has locked a row in between, which this run does not take: from
        then on the session deletes by key
    """
    session.crowded = True
    deleted = session.change(_range_delete(session, selection, rows))
    session.crowded = False
    return deleted


def between(selection: Selection, first: Bound, last: Bound, held: str | None) -> str:
    """Say that a row is stale, is not held, and has one of two places in the walk, or one between them."""
    return (
        f"{compare(selection, '>=', first)} AND {compare(selection, '<=', last)}"
        f" AND ({selection.predicate}) AND ({held or 'FALSE'}) IS NOT TRUE"
    )


def _range_delete(session: MySqlSession, selection: Selection, rows: str) -> str:
    table = spelled(selection.table)  # named twice, since only this form of the statement may name an index
    return f"{AT_ONCE}DELETE {table} FROM {source(session, selection)} WHERE {rows}"


def _delete_locked(session: MySqlSession, selection: Selection, rows: pa.Table, held: str | None) -> int:
    """Delete a range's rows, which are locked."""
    if by_range(session, selection):
        return delete_range(session, selection, _in_range(selection, rows, held))
    return sum(session.change(statement) for statement in _deletes(selection, rows))


def _keys_beside(selection: Selection, rows: pa.Table) -> tuple[list[Column], pa.Table]:
    """Give the keys other names, since conditions call the table's columns by theirs alone."""
    key = [column_of(selection.columns, name) for name in selection.key]
    columns = [replace(column, name=f"_dbhygiene_key_{i}") for i, column in enumerate(key)]
    names = [*(column.name for column in columns), VERSION_COLUMN]
    return columns, rows.select([*selection.key, VERSION_COLUMN]).rename_columns(names)


def _lock_range(session: MySqlSession, selection: Selection, rows: pa.Table, held: str | None) -> str:
    return (
        f"{PATIENT * session.flavour.mariadb}SELECT {digits_sql(selection)} FROM {source(session, selection)}"
        f" WHERE {_in_range(selection, rows, held)} ORDER BY {listed(selection.walk)} FOR UPDATE SKIP LOCKED"
    )


def _in_range(selection: Selection, rows: pa.Table, held: str | None) -> str:
    return between(selection, _place(selection, rows, 0), _place(selection, rows, rows.num_rows - 1), held)


def _place(selection: Selection, rows: pa.Table, index: int) -> tuple[str, ...]:
    return tuple(
        text_of(column_of(selection.columns, name), rows.column(name)[index].as_py()) for name in selection.walk
    )


def _pieces(rows: pa.Table) -> Iterator[pa.Table]:
    return (rows.slice(start, KEYS_AT_A_TIME) for start in range(0, rows.num_rows, KEYS_AT_A_TIME))


def _deletes(selection: Selection, rows: pa.Table) -> Iterator[str]:
    """Write statements that delete rows by their keys, which are locked."""
    table = spelled(selection.table)
    return (f"DELETE FROM {table} WHERE {_has_key(selection, piece)}" for piece in _pieces(rows))


def _has_key(selection: Selection, rows: pa.Table) -> str:
    """Say that a row has one of these keys."""
    key = [column_of(selection.columns, name) for name in selection.key]
    literals = [literals_of(column, rows.column(column.name)) for column in key]
    if len(key) == 1:
        return f"{quoted(key[0].name)} IN ({', '.join(literals[0])})"
    keys = [f"({', '.join(row)})" for row in zip(*literals, strict=True)]
    return f"({listed(selection.key)}) IN ({', '.join(keys)})"


_VERSION: Final = quoted(VERSION_COLUMN)


def _look(selection: Selection, archived: str, held: str | None) -> str:
    """See, without waiting, which rows are there, are the same, are stale, are held."""
    table = spelled(selection.table)
    return (
        f"SELECT _dbhygiene_ordinal, {version_sql(selection, f'{table}.')} <=> {_VERSION},"
        f" ({selection.predicate}) IS TRUE, ({held or 'FALSE'}) IS TRUE FROM {_joined(selection, archived)}"
    )


def _delete_beside(selection: Selection, archived: str, places: Sequence[int]) -> str:
    """Delete rows that are locked, each looked up by its key.

    Of a list of keys the optimizer makes a scan where the table is small, which waits for rows that others lock.
    """
    return (
        f"DELETE {spelled(selection.table)} FROM {_joined(selection, archived)}"
        f" WHERE _dbhygiene_ordinal IN ({', '.join(map(str, places))})"
    )


def _joined(selection: Selection, archived: str) -> str:
    table = spelled(selection.table)
    pairs = [f"{table}.{quoted(name)} = {archived}._dbhygiene_key_{i}" for i, name in enumerate(selection.key)]
    return f"{archived} STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {' AND '.join(pairs)}"


def _lock_piece(selection: Selection, piece: pa.Table, held: str | None) -> str:
    """Lock the rows of these keys that nobody else has locked, and give their versions."""
    return (
        f"SELECT {version_sql(selection)} FROM {spelled(selection.table)} WHERE {_has_key(selection, piece)}"
        f" AND ({selection.predicate}) AND ({held or 'FALSE'}) IS NOT TRUE FOR UPDATE SKIP LOCKED"
    )


def _outcome(state: list[Any] | None) -> str:
    if state is None:
        return "vanished"
    same, stale, held = state
    if not same:
        return "drifted"
    if held:
        return "held"
    return "locked" if stale else "drifted"
