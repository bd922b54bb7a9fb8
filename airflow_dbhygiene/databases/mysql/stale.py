"""Deleting stale rows of which there is no archive: those of a piece of the walk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_dbhygiene.databases.mysql.catalog import column_of
from airflow_dbhygiene.databases.mysql.condition import reads_itself
from airflow_dbhygiene.databases.mysql.keys import keys_condition
from airflow_dbhygiene.databases.mysql.purge import KEYS_AT_A_TIME, MOST_SECONDS, by_range, delete_range
from airflow_dbhygiene.databases.mysql.types import text_sql
from airflow_dbhygiene.databases.mysql.walk import compare, hop, last_place, source, within
from airflow_dbhygiene.databases.mysql.writing import PATIENT, lenient, quoted, spelled
from airflow_dbhygiene.databases.protocol import Discarded

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Bound, Selection, Span


def delete_stale(  # noqa: PLR0913 - the protocol's own parameters
    session: MySqlSession, selection: Selection, span: Span, rows: int, held: str | None, *, careful: bool
) -> Discarded:
    """Delete the span's stale rows that no hold protects.

    MySQL has no lock wait below a second, in which InnoDB might make the application the victim of a deadlock: there
    each batch skips rows that others have locked.

    :param rows: how many there were when somebody looked
    :param careful: skip rows that others have locked, instead of giving the batch up
    """
    condition = f"{within(selection, span)} AND ({held or 'FALSE'}) IS NOT TRUE"
    with session.limited(MOST_SECONDS):
        if by_range(session, selection) and not careful:
            return Discarded(delete_range(session, selection, condition))
        last = last_place(session, selection, span)
        if last is None:
            return Discarded(0)
        delete = _delete_by_key if reads_itself(selection) else _delete_unlocked
        deleted = delete(session, selection, condition, 2 * rows)
    return Discarded(deleted, skipped=_stale_left(session, selection, span, last, held))


def _stale_left(session: MySqlSession, selection: Selection, span: Span, last: Bound, held: str | None) -> bool:
    """Tell whether the span holds a stale row that no hold protects; those that came behind the last do not count."""
    unheld = f"({selection.predicate}) AND ({held or 'FALSE'}) IS NOT TRUE AND {compare(selection, '<=', last)}"
    return hop(session, replace(selection, predicate=unheld), span, 0) is not None


def _delete_by_key(session: MySqlSession, selection: Selection, piece: str, rows: int) -> int:
    """Lock what can be locked in a statement of its own, and delete these rows by their keys."""
    columns = [column_of(selection.columns, name) for name in selection.key]
    locked = session.execute(
        f"{PATIENT * session.flavour.mariadb}SELECT {', '.join(map(text_sql, columns))}"
        f" FROM {source(session, selection)} WHERE {piece} LIMIT {rows} FOR UPDATE SKIP LOCKED"
    )
    found = [tuple(text.decode() for text in key) for key in locked]
    pieces = (found[start : start + KEYS_AT_A_TIME] for start in range(0, len(found), KEYS_AT_A_TIME))
    table = spelled(selection.table)
    return sum(session.change(f"DELETE FROM {table} WHERE {keys_condition(columns, some)}") for some in pieces)


def _delete_unlocked(session: MySqlSession, selection: Selection, piece: str, rows: int) -> int:
    """Lock what can be locked, and delete what is still stale of it. The LIMIT keeps the inner query one of its own.

    Rows may have come since they were counted.

    The keys have other names outside, since conditions call the table's columns by theirs alone.
    """
    table = spelled(selection.table)
    aliases = {name: f"_dbhygiene_key_{place}" for place, name in enumerate(selection.key)}
    keys = ", ".join(f"{quoted(name)} AS {alias}" for name, alias in aliases.items())
    same = " AND ".join(f"{table}.{quoted(name)} = {alias}" for name, alias in aliases.items())
    delete = (
        f"DELETE {table} FROM (SELECT {keys}"
        f" FROM {source(session, selection)} WHERE {piece} LIMIT {rows} FOR UPDATE SKIP LOCKED) AS _dbhygiene_locked"
        f" STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {same} WHERE {piece}"
    )
    # MariaDB is lenient in a DELETE by itself.
    return session.change(PATIENT + delete if session.flavour.mariadb else lenient(delete, mariadb=False))
