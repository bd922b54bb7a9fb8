"""Copies beside their rows: compared byte for byte, and, where both are the same, deleted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.databases import cold
from airflow_dbhygiene.databases.mysql import folding, purge
from airflow_dbhygiene.databases.mysql.catalog import column_of
from airflow_dbhygiene.databases.mysql.meanwhile import WORTH_TWO, meanwhile
from airflow_dbhygiene.databases.mysql.rows import digits_sql, version_sql
from airflow_dbhygiene.databases.mysql.types import BYTES, FLOATS, MOMENTS, NUMBERS, kind_of, text_sql
from airflow_dbhygiene.databases.mysql.writing import quoted, spelled

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.cold import Copied
    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Bound, Column, Selection

_COPIED: Final = "_dbhygiene_copied"


def differing(session: MySqlSession, selection: Selection, copied: Copied) -> tuple[int, int]:
    """Compare byte for byte; where a copy is another than its row, its version tells which of them has changed.

    That takes the server longer, and is asked for only where not all are the same.
    """
    hot = f"{spelled(selection.table)}."
    same = _same(selection, hot)
    if _count_same(session, selection, copied) == copied.rows:
        return copied.rows, 0
    intact = f"{version_sql(selection, f'{_COPIED}.')} <=> {_COPIED}.{cold.VERSION}"
    found: dict[str, int] = dict(
        session.execute(
            f"SELECT CASE WHEN {_absent(selection, hot)} THEN 'vanished' WHEN {same} THEN 'same'"
            f" WHEN {intact} THEN 'drifted' ELSE 'damaged' END AS state, count(*)"
            f" {_beside(selection, copied, 'LEFT JOIN')} GROUP BY state ORDER BY NULL"
        )
    )
    differing = found.get("damaged", 0) + copied.rows - sum(found.values())
    return found.get("same", 0) + differing, differing


def delete(session: MySqlSession, selection: Selection, copied: Copied, held: str | None) -> int:
    """Delete what is stale and not held, and compare it with the copies; or lock and compare it first.

    Copies lie in the order of the walk, so that all of them are between the first and the last. Where the range of
    these holds as many rows as were locked, it holds no others.
    """
    table = spelled(selection.table)
    with session.limited(purge.MOST_SECONDS):
        first, last = (_place(session, selection, copied, each) for each in (copied.first, copied.end - 1))
        if not (first and last):
            return 0
        rows = purge.between(selection, first, last, held)
        if purge.at_once(session, selection):
            return _delete_alike(session, selection, copied, rows)
        identical = int(session.execute(_lock_identical(session, selection, copied, rows))[0][0])
        if identical != copied.rows:
            return identical
        if purge.by_range(session, selection):
            return purge.delete_range(session, selection, rows)
        return session.change(
            f"DELETE {table} FROM {spelled(copied.table)} AS {_COPIED} STRAIGHT_JOIN {table}"
            f" ON {_keys(selection, f'{table}.')} WHERE {lies(copied, f'{_COPIED}.')}"
        )


def lies(copied: Copied, owner: str = "") -> str:
    """Say that a copy is one of these."""
    return (
        f"{owner}{cold.OBJECT} = {copied.object} AND {owner}{cold.ORDINAL} >= {copied.first}"
        f" AND {owner}{cold.ORDINAL} < {copied.end}"
    )


def _count_same(session: MySqlSession, selection: Selection, copied: Copied) -> int:
    """Count copies that are the same bytes as their rows, one half of them on a second connection."""

    def count(some: MySqlSession, part: Copied) -> int:
        same = _same(selection, f"{spelled(selection.table)}.")
        statement = f"SELECT count(*) {_beside(selection, part, 'STRAIGHT_JOIN')} AND {same}"
        return int(some.execute(statement)[0][0])

    middle = (copied.first + copied.end) // 2
    if copied.rows <= WORTH_TWO:
        return count(session, copied)
    with meanwhile(session, lambda second: count(second, copied.part(middle, copied.end))) as others:
        return count(session, copied.part(copied.first, middle)) + others.result()


def _delete_alike(session: MySqlSession, selection: Selection, copied: Copied, rows: str) -> int:
    """Delete a range's rows, while a second connection folds the versions that their copies have as they lie there."""
    with meanwhile(session, lambda second: _folded(second, selection, copied)) as copies:
        deleted, folded = purge.delete_folding(session, selection, rows)
        lying = copies.result()
        session.alike = deleted == copied.rows and folded is not None and folded == lying
    return deleted if session.alike else 0


def _folded(session: MySqlSession, selection: Selection, copied: Copied) -> str | None:
    """Fold the versions of copies in the order of their ordinals; in any other they would come to something else."""
    with session.limited(purge.MOST_SECONDS):
        folding.begin(session)
        session.execute(
            f"SELECT count(*) FROM {spelled(copied.table)} FORCE INDEX (PRIMARY)"
            f" WHERE {lies(copied)} AND {folding.folding_sql(digits_sql(selection))}"
        )
        return folding.end(session)


def _beside(selection: Selection, copied: Copied, join: str) -> str:
    """Put each copied row beside the row of the table that has its key."""
    table = spelled(selection.table)
    return (
        f"FROM {spelled(copied.table)} AS {_COPIED} {join} {table} ON {_keys(selection, f'{table}.')}"
        f" WHERE {lies(copied, f'{_COPIED}.')}"
    )


def _keys(selection: Selection, hot: str) -> str:
    return " AND ".join(f"{hot}{quoted(name)} = {_COPIED}.{quoted(name)}" for name in selection.key)


def _same(selection: Selection, hot: str) -> str:
    return " AND ".join(_equal(column, hot, column, f"{_COPIED}.") for column in selection.columns)


def _absent(selection: Selection, hot: str) -> str:
    return f"{hot}{quoted(selection.key[0])} IS NULL"


def _place(session: MySqlSession, selection: Selection, copied: Copied, ordinal: int) -> Bound:
    """Give the place in the walk of a copied row; an empty one when it has none, or there is no such copy."""
    columns = [column_of(selection.columns, name) for name in selection.walk]
    statement = (
        f"SELECT {', '.join(map(text_sql, columns))} FROM {spelled(copied.table)}"
        f" WHERE {cold.OBJECT} = {copied.object} AND {cold.ORDINAL} = {ordinal}"
    )
    rows = session.execute(statement)
    return tuple(text.decode() for text in rows[0]) if rows and None not in rows[0] else ()


def _lock_identical(session: MySqlSession, selection: Selection, copied: Copied, rows: str) -> str:
    """The copy's columns have other names here, since conditions call the table's by theirs alone."""
    table = spelled(selection.table)
    renamed = (f"{quoted(column.name)} AS _dbhygiene_{place}" for place, column in enumerate(selection.columns))
    hot_alone = "" if session.flavour.mariadb else f" OF {quoted(selection.table.table)}"
    return (
        f"SELECT count(*) FROM (SELECT {', '.join(renamed)} FROM {spelled(copied.table)} WHERE {lies(copied)})"
        f" AS {_COPIED} STRAIGHT_JOIN {table} ON {_renamed_keys(selection, table)}"
        f" WHERE {_renamed_same(selection, table)} AND {rows} FOR UPDATE{hot_alone} NOWAIT"
    )


def _renamed_keys(selection: Selection, table: str) -> str:
    places = {column.name: place for place, column in enumerate(selection.columns)}
    return " AND ".join(f"{table}.{quoted(name)} = {_COPIED}._dbhygiene_{places[name]}" for name in selection.key)


def _renamed_same(selection: Selection, table: str) -> str:
    return " AND ".join(
        _equal(column, f"{table}.", replace(column, name=f"_dbhygiene_{place}"), f"{_COPIED}.")
        for place, column in enumerate(selection.columns)
    )


def _equal(hot: Column, hot_owner: str, copy: Column, copy_owner: str) -> str:
    """Say that two values are the same bytes: where a type calls different ones equal, by their text.

    A text that is too long for max_allowed_packet is NULL, as its value is not, and the same as no other.
    """
    kind = kind_of(hot)
    if kind in (NUMBERS | MOMENTS | BYTES) - FLOATS:
        return f"{hot_owner}{quoted(hot.name)} <=> {copy_owner}{quoted(copy.name)}"
    values = f"{hot_owner}{quoted(hot.name)}", f"{copy_owner}{quoted(copy.name)}"
    return f"IF({values[0]} IS NULL, {values[1]} IS NULL, {text_sql(hot, hot_owner)} = {text_sql(copy, copy_owner)})"
