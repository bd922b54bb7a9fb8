"""Rows of cold tables: copied, compared and deleted on the server, or loaded from another."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from psycopg import sql

from airflow_dbhygiene.databases import cold
from airflow_dbhygiene.databases.postgres import cold_compare, cold_look
from airflow_dbhygiene.databases.postgres.cold_compare import lies
from airflow_dbhygiene.databases.postgres.condition import table_sql
from airflow_dbhygiene.databases.postgres.rows import exact, translating, value, written
from airflow_dbhygiene.databases.postgres.session import translated
from airflow_dbhygiene.databases.postgres.walk import one_heap, within
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN
from airflow_dbhygiene.errors import StatementTimedOut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_dbhygiene.databases.cold import Copied, Origin
    from airflow_dbhygiene.databases.postgres.session import Connections, PostgresSession
    from airflow_dbhygiene.databases.protocol import Column, Selection, Span
    from airflow_dbhygiene.policy.names import TableName

_AS_SENT: Final = re.compile(
    r"(smallint|integer|bigint|numeric|real|double precision|boolean|text|character varying|character|bytea|uuid|date"
    r"|interval|json|jsonb|(timestamp|time) with(out)? time zone)(\W|$)"
)
"""Types of which every server has the same binary form, under the same number."""
_DIGESTED_AT_A_TIME: Final = 16


class PostgresColdTables:
    """Answers the ColdTables protocol."""

    look = staticmethod(cold_look.look)
    change = staticmethod(cold_look.change)
    delete = staticmethod(cold_compare.delete)

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @staticmethod
    def copy(  # noqa: PLR0913, PLR0917 - the protocol's own parameters
        session: PostgresSession, selection: Selection, span: Span, held: str | None, to: Copied, origin: Origin
    ) -> Copied:
        """Copy rows as they lie, which reads each page once; their ordinals follow that order."""
        place = "ctid" if one_heap(session, selection) else "NULL"
        session.as_they_lie()
        rows = session.change(
            sql.SQL(
                "INSERT INTO {cold} ({own}, {columns})"
                " SELECT {object}, {first} + row_number() OVER () - 1, xmin, now(), {chunk}, {run}, {place}, {columns}"
                " FROM {hot} WHERE {rows} AND ({held}) IS NOT TRUE"
            ).format(
                cold=table_sql(to.table),
                own=_names(cold_look.OWN),
                place=sql.SQL(place),
                columns=_names(column.name for column in selection.columns),
                object=sql.Literal(to.object),
                first=sql.Literal(to.first),
                chunk=sql.Literal(origin.chunk),
                run=sql.Literal(origin.run),
                hot=table_sql(selection.table),
                rows=within(selection, span),
                held=sql.SQL(held or "false"),
            )
        )
        writer = session.execute("SELECT pg_catalog.pg_current_xact_id()::pg_catalog.xid::text")[0][0]
        return replace(to, end=to.first + rows, writer=writer)

    @staticmethod
    def load(
        session: PostgresSession, selection: Selection, batches: Iterable[pa.RecordBatch], to: Copied, origin: Origin
    ) -> None:
        """Write rows by COPY, each with what is the same for all."""
        moment = session.execute("SELECT now()::text")[0][0]
        columns = _names([*cold.OWN, *(column.name for column in selection.columns)])
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, NULL '')").format(table_sql(to.table), columns)
        place = to.first
        with translated(), session.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for batch in batches:
                copy.write(written(_with_own(batch, to.object, place, moment, origin)))
                place += batch.num_rows

    @staticmethod
    def end(session: PostgresSession, copied: Copied) -> int:
        """Say where the object ends if none of its rows is missing."""
        statement = sql.SQL("SELECT coalesce(max(copied.{}) + 1, {}) FROM {} AS copied WHERE copied.{} = {}").format(
            sql.Identifier(cold.ORDINAL),
            sql.Literal(copied.first),
            table_sql(copied.table),
            sql.Identifier(cold.OBJECT),
            sql.Literal(copied.object),
        )
        return int(session.execute(statement)[0][0])

    @staticmethod
    def count(session: PostgresSession, copied: Copied) -> int:
        """Count the rows that are there."""
        statement = sql.SQL("SELECT count(*) FROM {} AS copied WHERE {}").format(table_sql(copied.table), lies(copied))
        return int(session.execute(statement)[0][0])

    @staticmethod
    def digest(
        session: PostgresSession,
        selection: Selection,
        copied: Copied,
        *,
        fresh: bool = False,  # noqa: ARG004 - there is no cheaper way
    ) -> str:
        """Digest the rows in the server's binary form; as text where that has the number of a type that others lack.

        Few at a time: a digest for each row takes as long as all the rest, and no value can exceed a gigabyte.

        :raises StatementTimedOut: when another transaction has written one of them anew since, or removed it
        """
        statement = sql.SQL(
            "SELECT encode(pg_catalog.sha256(coalesce(string_agg(piece, ''::bytea), ''::bytea)), 'hex'),"
            " coalesce(sum(rows), 0) FROM (SELECT piece, rows FROM"
            " generate_series({first}, {end}::bigint - 1, {few}) AS pieces(start), LATERAL"
            " (SELECT pg_catalog.sha256(string_agg(sent, ''::bytea)) AS piece, count(*) AS rows FROM"
            " (SELECT pg_catalog.record_send(ROW({columns}, {version})) AS sent FROM {cold} AS copied WHERE {lies}"
            " AND copied.{ordinal} >= pieces.start AND copied.{ordinal} < pieces.start + {few}"
            " ORDER BY copied.{object}, copied.{ordinal}) AS neighbours) AS digested ORDER BY pieces.start) AS ordered"
        ).format(
            first=sql.Literal(copied.first),
            end=sql.Literal(copied.end),
            few=sql.Literal(_DIGESTED_AT_A_TIME),
            columns=sql.SQL(", ").join(map(_digested, selection.columns)),
            version=sql.Identifier(cold.VERSION),
            cold=table_sql(copied.table),
            lies=lies(copied),
            object=sql.Identifier(cold.OBJECT),
            ordinal=sql.Identifier(cold.ORDINAL),
        )
        digest, rows = session.execute(statement)[0]
        if copied.writer is not None and rows != copied.rows:
            message = f"{copied.rows - rows} copies in {copied.table} were written anew, or removed, unread."
            raise StatementTimedOut(f"{message} A retry copies these rows again.")
        return str(digest)

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
            cold=table_sql(copied.table),
            lies=lies(copied),
            ordinal=sql.Identifier(cold.ORDINAL),
        )
        with translated(), self._connections.reader() as connection, connection.cursor() as cursor:
            cursor.execute(statement.as_string())
            reader = cursor.fetch_record_batch()
            yield (exact(chosen, batch) for batch in translating(reader))

    def differing(self, session: PostgresSession, selection: Selection, copied: Copied) -> tuple[int, int]:
        """Compare all rows that were not changed; a copy that is missing differs."""
        compared, equal = cold_compare.compared(session, selection, copied)
        missing = copied.rows - (copied.rows if compared == copied.rows else self.count(session, copied))
        return compared + missing, compared + missing - equal

    @staticmethod
    def discard(session: PostgresSession, copied: Copied, rows: int) -> int:
        """Remove rows of an object, in the order of their ordinals."""
        some = sql.SQL("SELECT ctid FROM {} WHERE {object} = {} ORDER BY {object}, {ordinal} LIMIT {}").format(
            table_sql(copied.table),
            sql.Literal(copied.object),
            sql.Literal(rows),
            object=sql.Identifier(cold.OBJECT),
            ordinal=sql.Identifier(cold.ORDINAL),
        )
        statement = sql.SQL("DELETE FROM {} WHERE ctid = ANY(ARRAY({}))").format(table_sql(copied.table), some)
        return session.change(statement)

    @staticmethod
    def write_text(session: PostgresSession, texts: TableName, name: str, text: str) -> None:
        """Keep a text under a name, in place of any other."""
        # Literals: where values are bound, a percent sign in the table's name would be taken for a place of one.
        statement = (
            "INSERT INTO {} AS kept (name, text) VALUES ({}, {text}) ON CONFLICT (name) DO UPDATE SET text = {text}"
        )
        session.execute(sql.SQL(statement).format(table_sql(texts), sql.Literal(name), text=sql.Literal(text)))

    @staticmethod
    def read_text(session: PostgresSession, texts: TableName, name: str) -> str | None:
        """Read it back."""
        statement = sql.SQL("SELECT text FROM {} WHERE name = {}").format(table_sql(texts), sql.Literal(name))
        rows = session.execute(statement)
        return str(rows[0][0]) if rows else None

    @staticmethod
    def texts(session: PostgresSession, texts: TableName) -> list[str]:
        """Name all texts that end with .json."""
        statement = sql.SQL("SELECT name FROM {} WHERE name LIKE '%.json' ORDER BY name").format(table_sql(texts))
        return [str(row[0]) for row in session.execute(statement)]

    @staticmethod
    def remove_text(session: PostgresSession, texts: TableName, name: str) -> None:
        """Forget it."""
        session.execute(sql.SQL("DELETE FROM {} WHERE name = {}").format(table_sql(texts), sql.Literal(name)))


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


def _digested(column: Column) -> sql.Composed:
    return sql.SQL("{}" if _AS_SENT.match(column.type) else "{}::text").format(sql.Identifier(column.name))


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
