"""Rows of cold tables: copied, compared and deleted on the server, or loaded from another."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.databases import cold
from airflow_dbhygiene.databases.mysql import cold_look, loading, purge
from airflow_dbhygiene.databases.mysql.catalog import column_of
from airflow_dbhygiene.databases.mysql.rows import batch_of, line_sql, translating, version_sql
from airflow_dbhygiene.databases.mysql.types import (
    BYTES,
    FLOATS,
    MOMENTS,
    NUMBERS,
    inexact,
    inexact_sql,
    kind_of,
    text_sql,
)
from airflow_dbhygiene.databases.mysql.values import literals_of
from airflow_dbhygiene.databases.mysql.walk import source, within
from airflow_dbhygiene.databases.mysql.writing import listed, literal, octets, quoted, spelled
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from airflow_dbhygiene.databases.cold import Copied, Origin
    from airflow_dbhygiene.databases.mysql.session import Connections, MySqlSession
    from airflow_dbhygiene.databases.protocol import Bound, Column, Selection, Span
    from airflow_dbhygiene.policy.names import TableName

_COPIED: Final = "_dbhygiene_copied"


class MySqlColdTables:
    """Answers the ColdTables protocol."""

    look = staticmethod(cold_look.look)
    change = staticmethod(cold_look.change)

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @staticmethod
    def copy(  # noqa: PLR0913, PLR0917 - the protocol's own parameters
        session: MySqlSession, selection: Selection, span: Span, held: str | None, to: Copied, origin: Origin
    ) -> Copied:
        """Copy rows in the order of the walk. READ COMMITTED: no row of the table is locked for it."""
        session.execute("SET @dbhygiene_ordinal = %s", (to.first - 1,))
        columns = listed(column.name for column in selection.columns)
        rows = session.change(
            f"INSERT INTO {spelled(to.table)} ({listed(cold.OWN)}, {columns})"
            f" SELECT {to.object}, (@dbhygiene_ordinal := @dbhygiene_ordinal + 1), {version_sql(selection)},"
            f" {_NOW}, {origin.chunk}, {literal(origin.run)}, {columns}"
            f" FROM {source(session, selection)}"
            f" WHERE {within(selection, span)} AND ({held or 'FALSE'}) IS NOT TRUE ORDER BY {listed(selection.walk)}"
        )
        copied = replace(to, end=to.first + rows)
        _refuse_inexact(session, selection, copied)
        return copied

    @staticmethod
    def load(
        session: MySqlSession, selection: Selection, batches: Iterable[pa.RecordBatch], to: Copied, origin: Origin
    ) -> None:
        """Write rows, many with each statement.

        :raises NotLossless: when a row is too long for the server's max_allowed_packet
        """
        names = f"{listed(cold.OWN)}, {listed(column.name for column in selection.columns)}"
        moment = f"'{session.execute(f'SELECT CAST({_NOW} AS CHAR)')[0][0]}'"
        place = to.first
        for batch in batches:
            for start, rows in loading.pieces(batch):
                values = _values(rows, selection.columns, (str(to.object), place + start, moment, origin))
                loading.insert(session, f"{spelled(to.table)} ({names})", values)
            place += batch.num_rows

    @staticmethod
    def end(session: MySqlSession, copied: Copied) -> int:
        """Say where the object ends if none of its rows is missing."""
        statement = f"SELECT max({cold.ORDINAL}) + 1 FROM {spelled(copied.table)} WHERE {cold.OBJECT} = {copied.object}"
        return int(session.execute(statement)[0][0] or copied.first)

    @staticmethod
    def count(session: MySqlSession, copied: Copied) -> int:
        """Count the rows that are there."""
        return int(session.execute(f"SELECT count(*) FROM {spelled(copied.table)} WHERE {_lies(copied)}")[0][0])

    @staticmethod
    def digest(session: MySqlSession, selection: Selection, copied: Copied, *, fresh: bool = False) -> str:
        """Digest the versions that the rows have as they lie there; of fresh ones the versions beside them."""
        version = cold.VERSION if fresh else version_sql(selection)
        statement = (
            f"SELECT {version} FROM {spelled(copied.table)} WHERE {_lies(copied)}"
            f" ORDER BY {cold.OBJECT}, {cold.ORDINAL}"
        )
        versions = hashlib.sha256()
        for some in translating(session.driver.stream(statement)):
            versions.update(b"".join(each or b"" for each in some))
        return versions.hexdigest()

    @contextmanager
    def read(self, selection: Selection, copied: Copied, _: Sequence[str] | None) -> Iterator[Iterator[pa.RecordBatch]]:
        """Stream the rows in the order of their ordinals, whole: a version is the digest of a whole row."""
        statement = (
            f"SELECT {line_sql(selection)} FROM {spelled(copied.table)} WHERE {_lies(copied)}"
            f" ORDER BY {cold.OBJECT}, {cold.ORDINAL}"
        )
        with self._connections.session() as session:
            yield (batch_of(selection, lines) for lines in translating(session.driver.stream(statement)))

    @staticmethod
    def differing(session: MySqlSession, selection: Selection, copied: Copied) -> tuple[int, int]:
        """Compare byte for byte; where a copy is another than its row, its version tells which of them has changed.

        That takes the server longer, and is asked for only where not all are the same.
        """
        hot = f"{spelled(selection.table)}."
        same = _same(selection, hot)
        counted = f"SELECT count(*) {_beside(selection, copied, 'STRAIGHT_JOIN')} AND {same}"
        if int(session.execute(counted)[0][0]) == copied.rows:
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

    @staticmethod
    def delete(session: MySqlSession, selection: Selection, copied: Copied, held: str | None) -> int:
        """Lock, without waiting, what is stale, not held, and identical to its copy; delete it if that is all.

        Copies lie in the order of the walk, so that all of them are between the first and the last. Where the range of
        these holds as many rows as were locked, it holds no others.
        """
        table = spelled(selection.table)
        with session.limited(purge.MOST_SECONDS):
            first, last = (_place(session, selection, copied, each) for each in (copied.first, copied.end - 1))
            if not (first and last):
                return 0
            rows = purge.between(selection, first, last, held)
            identical = int(session.execute(_lock_identical(session, selection, copied, rows))[0][0])
            if identical != copied.rows:
                return identical
            if purge.by_range(session):
                return purge.delete_range(session, selection, rows)
            return session.change(
                f"DELETE {table} FROM {spelled(copied.table)} AS {_COPIED} STRAIGHT_JOIN {table}"
                f" ON {_keys(selection, f'{table}.')} WHERE {_lies(copied, f'{_COPIED}.')}"
            )

    @staticmethod
    def discard(session: MySqlSession, copied: Copied, rows: int) -> int:
        """Remove rows of an object, in the order of their ordinals."""
        return session.change(
            f"DELETE FROM {spelled(copied.table)} WHERE {cold.OBJECT} = {copied.object}"
            f" ORDER BY {cold.OBJECT}, {cold.ORDINAL} LIMIT {rows}"
        )

    @staticmethod
    def write_text(session: MySqlSession, texts: TableName, name: str, text: str) -> None:
        """Keep a text under a name, in place of any other."""
        session.execute(f"REPLACE INTO {spelled(texts)} (name, text) VALUES (%s, %s)", (name, text))

    @staticmethod
    def read_text(session: MySqlSession, texts: TableName, name: str) -> str | None:
        """Read it back."""
        rows = session.execute(f"SELECT text FROM {spelled(texts)} WHERE name = %s", (name,))
        return str(rows[0][0]) if rows else None

    @staticmethod
    def texts(session: MySqlSession, texts: TableName) -> list[str]:
        """Name all texts that end with .json."""
        return [
            str(row[0])
            for row in session.execute(f"SELECT name FROM {spelled(texts)} ORDER BY name")
            if str(row[0]).endswith(".json")
        ]

    @staticmethod
    def remove_text(session: MySqlSession, texts: TableName, name: str) -> None:
        """Forget it."""
        session.execute(f"DELETE FROM {spelled(texts)} WHERE name = %s", (name,))


_NOW: Final = "utc_timestamp(6)"


def _refuse_inexact(session: MySqlSession, selection: Selection, copied: Copied) -> None:
    """Refuse what a restore could not bring back, though it lies in the cold table as it was."""
    for column in selection.columns:
        condition = inexact_sql(column)
        lies = f"SELECT 1 FROM {spelled(copied.table)} WHERE {_lies(copied)}"
        if condition and session.execute(f"{lies} AND {condition} LIMIT 1"):
            raise inexact(column)


def _values(rows: Any, columns: Sequence[Column], own: tuple[str, int, str, Origin]) -> Iterator[str]:
    number, place, moment, origin = own
    versions = [octets(value.as_py()) for value in rows.column(VERSION_COLUMN)]
    literals = [literals_of(column, rows.column(column.name)) for column in columns]
    same = f"{moment}, {origin.chunk}, {literal(origin.run)}"
    ordinals = range(place, place + rows.num_rows)
    return (
        f"({number}, {ordinal}, {version}, {same}, {', '.join(row)})"
        for ordinal, version, *row in zip(ordinals, versions, *literals, strict=True)
    )


def _lies(copied: Copied, owner: str = "") -> str:
    return (
        f"{owner}{cold.OBJECT} = {copied.object} AND {owner}{cold.ORDINAL} >= {copied.first}"
        f" AND {owner}{cold.ORDINAL} < {copied.end}"
    )


def _beside(selection: Selection, copied: Copied, join: str) -> str:
    """Put each copied row beside the row of the table that has its key."""
    table = spelled(selection.table)
    return (
        f"FROM {spelled(copied.table)} AS {_COPIED} {join} {table} ON {_keys(selection, f'{table}.')}"
        f" WHERE {_lies(copied, f'{_COPIED}.')}"
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
        f"SELECT count(*) FROM (SELECT {', '.join(renamed)} FROM {spelled(copied.table)} WHERE {_lies(copied)})"
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
    """Say that two values are the same bytes: where a type calls different ones equal, by their text."""
    kind = kind_of(hot)
    if kind in (NUMBERS | MOMENTS | BYTES) - FLOATS:
        return f"{hot_owner}{quoted(hot.name)} <=> {copy_owner}{quoted(copy.name)}"
    return f"{text_sql(hot, hot_owner)} <=> {text_sql(copy, copy_owner)}"
