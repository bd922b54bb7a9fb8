"""Rows of cold tables: copied, compared and deleted on the server, or loaded from another."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.databases import cold
from airflow_dbhygiene.databases.mysql import cold_compare, cold_copy, cold_look, loading
from airflow_dbhygiene.databases.mysql.cold_compare import lies
from airflow_dbhygiene.databases.mysql.cold_copy import NOW
from airflow_dbhygiene.databases.mysql.rows import VERSION_TYPE, batch_of, line_sql, too_long, translating, version_sql
from airflow_dbhygiene.databases.mysql.values import literals_of
from airflow_dbhygiene.databases.mysql.writing import listed, literal, octets, spelled
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from airflow_dbhygiene.databases.cold import Copied, Origin
    from airflow_dbhygiene.databases.mysql.session import Connections, MySqlSession
    from airflow_dbhygiene.databases.protocol import Column, Selection
    from airflow_dbhygiene.policy.names import TableName


_NO_VERSION: Final = bytes(VERSION_TYPE.byte_width)
"""What the server writes for the version that it could not make, where it is lenient."""


class MySqlColdTables:
    """Answers the ColdTables protocol."""

    look = staticmethod(cold_look.look)
    change = staticmethod(cold_look.change)
    copy = staticmethod(cold_copy.copy)
    differing = staticmethod(cold_compare.differing)
    delete = staticmethod(cold_compare.delete)

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @staticmethod
    def load(
        session: MySqlSession, selection: Selection, batches: Iterable[pa.RecordBatch], to: Copied, origin: Origin
    ) -> None:
        """Write rows, many with each statement.

        :raises NotLossless: when a row is too long for the server's max_allowed_packet
        """
        names = f"{listed(cold.OWN)}, {listed(column.name for column in selection.columns)}"
        moment = f"'{session.execute(f'SELECT CAST({NOW} AS CHAR)')[0][0]}'"
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
        return int(session.execute(f"SELECT count(*) FROM {spelled(copied.table)} WHERE {lies(copied)}")[0][0])

    @staticmethod
    def digest(session: MySqlSession, selection: Selection, copied: Copied, *, fresh: bool = False) -> str:
        """Digest the versions that the rows have as they lie there; of fresh ones the versions beside them.

        :raises NotLossless: when a fresh row is too long for the server's max_allowed_packet
        """
        version = cold.VERSION if fresh else version_sql(selection)
        statement = (
            f"SELECT {version} FROM {spelled(copied.table)} WHERE {lies(copied)} ORDER BY {cold.OBJECT}, {cold.ORDINAL}"
        )
        versions = hashlib.sha256()
        for some in translating(session.driver.stream(statement)):
            if fresh and _NO_VERSION in some:
                raise too_long(selection)
            versions.update(b"".join(each or b"" for each in some))
        return versions.hexdigest()

    @contextmanager
    def read(self, selection: Selection, copied: Copied, _: Sequence[str] | None) -> Iterator[Iterator[pa.RecordBatch]]:
        """Stream the rows in the order of their ordinals, whole: a version is the digest of a whole row."""
        statement = (
            f"SELECT {line_sql(selection)} FROM {spelled(copied.table)} WHERE {lies(copied)}"
            f" ORDER BY {cold.OBJECT}, {cold.ORDINAL}"
        )
        with self._connections.session() as session:
            yield (batch_of(selection, lines) for lines in translating(session.driver.stream(statement)))

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
        # Literals, not bound values: the driver would take a percent sign in the table's name for a placeholder.
        session.execute(f"REPLACE INTO {spelled(texts)} (name, text) VALUES ({literal(name)}, {literal(text)})")

    @staticmethod
    def read_text(session: MySqlSession, texts: TableName, name: str) -> str | None:
        """Read it back."""
        rows = session.execute(f"SELECT text FROM {spelled(texts)} WHERE name = {literal(name)}")
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
        session.execute(f"DELETE FROM {spelled(texts)} WHERE name = {literal(name)}")


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
