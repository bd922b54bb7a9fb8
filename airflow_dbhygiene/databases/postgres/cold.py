"""Rows of cold tables: copied, compared and deleted on the server, or loaded from another."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from psycopg import sql

from airflow_dbhygiene.databases import cold
from airflow_dbhygiene.databases.postgres import cold_look
from airflow_dbhygiene.databases.postgres.rows import exact, translating, value, written
from airflow_dbhygiene.databases.postgres.session import translated
from airflow_dbhygiene.databases.postgres.walk import within
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_dbhygiene.databases.cold import Copied, Origin
    from airflow_dbhygiene.databases.postgres.session import Connections, PostgresSession
    from airflow_dbhygiene.databases.protocol import Selection, Span
    from airflow_dbhygiene.policy.names import TableName

_BY_KEY: Final = (
    "SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
    " set_config('max_parallel_workers_per_gather', '0', true)"
)
"""Look each copied row up by its key: without statistics of the rows just copied the planner would guess wildly."""


class PostgresColdTables:
    """Answers the ColdTables protocol."""

    look = staticmethod(cold_look.look)
    change = staticmethod(cold_look.change)

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @staticmethod
    def copy(  # noqa: PLR0913, PLR0917 - the protocol's own parameters
        session: PostgresSession, selection: Selection, span: Span, held: str | None, to: Copied, origin: Origin
    ) -> int:
        """Copy rows as they lie, which reads each page once; their ordinals follow that order."""
        return session.change(
            sql.SQL(
                "INSERT INTO {cold} ({own}, {columns})"
                " SELECT {object}, {first} + row_number() OVER () - 1, xmin, now(), {chunk}, {run}, {columns}"
                " FROM {hot} WHERE {rows} AND ({held}) IS NOT TRUE"
            ).format(
                cold=_table(to.table),
                own=_names(cold.OWN),
                columns=_names(column.name for column in selection.columns),
                object=sql.Literal(to.object),
                first=sql.Literal(to.first),
                chunk=sql.Literal(origin.chunk),
                run=sql.Literal(origin.run),
                hot=_table(selection.table),
                rows=within(selection, span),
                held=sql.SQL(held or "false"),
            )
        )

    @staticmethod
    def load(
        session: PostgresSession, selection: Selection, batches: Iterable[pa.RecordBatch], to: Copied, origin: Origin
    ) -> None:
        """Write rows by COPY, each with what is the same for all."""
        moment = session.execute("SELECT now()::text")[0][0]
        columns = _names([*cold.OWN, *(column.name for column in selection.columns)])
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, NULL '')").format(_table(to.table), columns)
        place = to.first
        with translated(), session.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for batch in batches:
                copy.write(written(_with_own(batch, to.object, place, moment, origin)))
                place += batch.num_rows

    @staticmethod
    def count(session: PostgresSession, copied: Copied) -> int:
        """Count the rows that are there."""
        statement = sql.SQL("SELECT count(*) FROM {} AS copied WHERE {}").format(_table(copied.table), _lies(copied))
        return int(session.execute(statement)[0][0])

    @staticmethod
    def digest(
        session: PostgresSession,
        selection: Selection,
        copied: Copied,
        *,
        fresh: bool = False,  # noqa: ARG004 - there is no cheaper way
    ) -> str:
        """Digest the rows in the server's text form, which does not depend on the numbers that it has for types."""
        statement = sql.SQL(
            "SELECT encode(pg_catalog.sha256(coalesce(string_agg(piece, ''::bytea), ''::bytea)), 'hex') FROM"
            " (SELECT pg_catalog.sha256(pg_catalog.convert_to(ROW({columns}, {version})::text, 'UTF8')) AS piece"
            " FROM {cold} AS copied WHERE {lies} ORDER BY {object}, {ordinal}) AS ordered"
        ).format(
            columns=_names(column.name for column in selection.columns),
            version=sql.Identifier(cold.VERSION),
            cold=_table(copied.table),
            lies=_lies(copied),
            object=sql.Identifier(cold.OBJECT),
            ordinal=sql.Identifier(cold.ORDINAL),
        )
        return str(session.execute(statement)[0][0])

    @contextmanager
    def read(
        self, selection: Selection, copied: Copied, columns: Sequence[str] | None
    ) -> Iterator[Iterator[pa.RecordBatch]]:
        """Stream the rows in the order of their ordinals."""
        chosen = [column for column in selection.columns if columns is None or column.name in columns]
        statement = sql.SQL(
            "SELECT {values}, {version}::text::bigint AS {name} FROM {cold} AS copied WHERE {lies} ORDER BY {ordinal}"
        ).format(
            values=sql.SQL(", ").join(value(column) for column in chosen),
            version=sql.Identifier(cold.VERSION),
            name=sql.Identifier(VERSION_COLUMN),
            cold=_table(copied.table),
            lies=_lies(copied),
            ordinal=sql.Identifier(cold.ORDINAL),
        )
        with translated(), self._connections.reader() as connection, connection.cursor() as cursor:
            cursor.execute(statement.as_string())
            reader = cursor.fetch_record_batch()
            yield (exact(chosen, batch) for batch in translating(reader))

    @staticmethod
    def differing(session: PostgresSession, selection: Selection, copied: Copied) -> tuple[int, int]:
        """Compare record images: ``=`` would call 1.0 and 1.00 equal, ``*=`` does not."""
        session.execute(_BY_KEY)
        statement = sql.SQL(
            "SELECT count(*), count(*) FILTER (WHERE {same}) FROM {cold} AS copied JOIN {hot} AS hot ON {keys}"
            " WHERE {lies} AND hot.xmin = copied.{version}"
        ).format(
            same=_same(selection, sql.Identifier("hot")),
            cold=_table(copied.table),
            hot=_table(selection.table),
            keys=_keys(selection, sql.Identifier("hot")),
            lies=_lies(copied),
            version=sql.Identifier(cold.VERSION),
        )
        compared, equal = session.execute(statement)[0]
        return int(compared), int(compared) - int(equal)

    @staticmethod
    def delete(session: PostgresSession, selection: Selection, copied: Copied, held: str | None) -> int:
        """Delete what is stale, not held, and identical to its copy, to the bit.

        The copy's columns have other names here, since conditions call the table's by theirs alone.
        """
        session.execute(_BY_KEY)
        hot = _table(selection.table)
        statement = sql.SQL(
            "DELETE FROM {hot} USING (SELECT {renamed}, {version} AS _dbhygiene_version FROM {cold} AS copied"
            " WHERE {lies}) AS _dbhygiene_copied"
            " WHERE {keys} AND {hot}.xmin = _dbhygiene_version AND {same} AND ({stale}) AND ({held}) IS NOT TRUE"
        ).format(
            hot=hot,
            renamed=sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(sql.Identifier(column.name), sql.Identifier(f"_dbhygiene_{place}"))
                for place, column in enumerate(selection.columns)
            ),
            version=sql.Identifier(cold.VERSION),
            cold=_table(copied.table),
            lies=_lies(copied),
            keys=sql.SQL(" AND ").join(
                sql.SQL("{}.{} = {}").format(hot, sql.Identifier(name), sql.Identifier(_renamed(selection, name)))
                for name in selection.key
            ),
            same=sql.SQL("ROW({})::record *= ROW({})::record").format(
                sql.SQL(", ").join(sql.SQL("{}.{}").format(hot, sql.Identifier(c.name)) for c in selection.columns),
                sql.SQL(", ").join(sql.Identifier(f"_dbhygiene_{place}") for place in range(len(selection.columns))),
            ),
            stale=sql.SQL(selection.predicate),
            held=sql.SQL(held or "false"),
        )
        return session.change(statement)

    @staticmethod
    def discard(session: PostgresSession, copied: Copied, rows: int) -> int:
        """Remove rows of an object, in the order of their ordinals."""
        some = sql.SQL("SELECT ctid FROM {} WHERE {object} = {} ORDER BY {object}, {ordinal} LIMIT {}").format(
            _table(copied.table),
            sql.Literal(copied.object),
            sql.Literal(rows),
            object=sql.Identifier(cold.OBJECT),
            ordinal=sql.Identifier(cold.ORDINAL),
        )
        statement = sql.SQL("DELETE FROM {} WHERE ctid = ANY(ARRAY({}))").format(_table(copied.table), some)
        return session.change(statement)

    @staticmethod
    def write_text(session: PostgresSession, texts: TableName, name: str, text: str) -> None:
        """Keep a text under a name, in place of any other."""
        statement = "INSERT INTO {} AS kept (name, text) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET text = %s"
        session.execute(sql.SQL(statement).format(_table(texts)), (name, text, text))

    @staticmethod
    def read_text(session: PostgresSession, texts: TableName, name: str) -> str | None:
        """Read it back."""
        rows = session.execute(sql.SQL("SELECT text FROM {} WHERE name = %s").format(_table(texts)), (name,))
        return str(rows[0][0]) if rows else None

    @staticmethod
    def texts(session: PostgresSession, texts: TableName) -> list[str]:
        """Name all texts that end with .json."""
        statement = sql.SQL("SELECT name FROM {} WHERE name LIKE '%%.json' ORDER BY name").format(_table(texts))
        return [str(row[0]) for row in session.execute(statement, {})]

    @staticmethod
    def remove_text(session: PostgresSession, texts: TableName, name: str) -> None:
        """Forget it."""
        session.execute(sql.SQL("DELETE FROM {} WHERE name = %s").format(_table(texts)), (name,))


def _with_own(batch: pa.RecordBatch, number: int, place: int, moment: str, origin: Origin) -> pa.RecordBatch:
    """Put a cold table's own columns before those of rows whose version comes last."""
    rows = batch.num_rows
    same = (pa.repeat(each, rows) for each in (moment, origin.chunk, origin.run))
    ordinals = pa.array(range(place, place + rows), pa.int64())
    *columns, version = batch.columns
    return pa.record_batch(
        [pa.repeat(number, rows), ordinals, version, *same, *columns],
        names=[str(i) for i in range(len(cold.OWN) + len(columns))],
    )


def _lies(copied: Copied) -> sql.Composed:
    return sql.SQL("copied.{} = {} AND copied.{} >= {} AND copied.{} < {}").format(
        sql.Identifier(cold.OBJECT),
        sql.Literal(copied.object),
        sql.Identifier(cold.ORDINAL),
        sql.Literal(copied.first),
        sql.Identifier(cold.ORDINAL),
        sql.Literal(copied.end),
    )


def _same(selection: Selection, hot: sql.Identifier) -> sql.Composed:
    def row(owner: sql.Identifier) -> sql.Composed:
        return sql.SQL(", ").join(sql.SQL("{}.{}").format(owner, sql.Identifier(c.name)) for c in selection.columns)

    return sql.SQL("ROW({})::record *= ROW({})::record").format(row(hot), row(sql.Identifier("copied")))


def _keys(selection: Selection, hot: sql.Identifier) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = copied.{}").format(hot, sql.Identifier(name), sql.Identifier(name)) for name in selection.key
    )


def _renamed(selection: Selection, name: str) -> str:
    place = next(place for place, column in enumerate(selection.columns) if column.name == name)
    return f"_dbhygiene_{place}"


def _table(table: TableName) -> sql.Identifier:
    return sql.Identifier(table.schema, table.table)


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
