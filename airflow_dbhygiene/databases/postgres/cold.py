"""Rows of cold tables: copied, compared and deleted on the server, or loaded from another."""

from __future__ import annotations

import re
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
    from airflow_dbhygiene.databases.protocol import Column, Selection, Span
    from airflow_dbhygiene.policy.names import TableName

_ONE_BY_ONE: Final = (
    "SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
    " set_config('enable_seqscan', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)"
)
"""Look each copied row up by itself: without statistics of the rows just copied the planner would guess wildly."""

_AS_SENT: Final = re.compile(
    r"(smallint|integer|bigint|numeric|real|double precision|boolean|text|character varying|character|bytea|uuid|date"
    r"|interval|json|jsonb|(timestamp|time) with(out)? time zone)(\W|$)"
)
"""Types of which every server has the same binary form, under the same number."""


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
                " SELECT {object}, {first} + row_number() OVER () - 1, xmin, now(), {chunk}, {run}, {place}, {columns}"
                " FROM {hot} WHERE {rows} AND ({held}) IS NOT TRUE"
            ).format(
                cold=_table(to.table),
                own=_names(cold_look.OWN),
                place=sql.SQL("ctid" if _one_heap(session, selection) else "NULL"),
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
    def end(session: PostgresSession, copied: Copied) -> int:
        """Say where the object ends if none of its rows is missing."""
        statement = sql.SQL("SELECT coalesce(max(copied.{}) + 1, {}) FROM {} AS copied WHERE copied.{} = {}").format(
            sql.Identifier(cold.ORDINAL),
            sql.Literal(copied.first),
            _table(copied.table),
            sql.Identifier(cold.OBJECT),
            sql.Literal(copied.object),
        )
        return int(session.execute(statement)[0][0])

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
        """Digest the rows in the server's binary form; as text where that has the number of a type that others lack."""
        statement = sql.SQL(
            "SELECT encode(pg_catalog.sha256(coalesce(string_agg(piece, ''::bytea), ''::bytea)), 'hex') FROM"
            " (SELECT pg_catalog.sha256(pg_catalog.record_send(ROW({columns}, {version}))) AS piece"
            " FROM {cold} AS copied WHERE {lies} ORDER BY {object}, {ordinal}) AS ordered"
        ).format(
            columns=sql.SQL(", ").join(map(_digested, selection.columns)),
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

    def differing(self, session: PostgresSession, selection: Selection, copied: Copied) -> tuple[int, int]:
        """Compare with the rows that lie where they lay; by key where these are not all."""
        session.execute(_ONE_BY_ONE)
        if _in_place(session, selection, copied):
            compared, equal = _compared(session, selection, copied, _PLACE)
            if compared == copied.rows:
                return compared, compared - equal
        compared, equal = _compared(session, selection, copied, _keys(selection))
        missing = copied.rows - self.count(session, copied)
        return compared + missing, compared + missing - equal

    @staticmethod
    def delete(session: PostgresSession, selection: Selection, copied: Copied, held: str | None) -> int:
        """Delete what is stale, not held, and identical to its copy, to the bit.

        The copy's columns have other names here, since conditions call the table's by theirs alone.
        """
        session.execute(_ONE_BY_ONE)
        hot = _table(selection.table)
        renamed = {column.name: sql.Identifier(f"_dbhygiene_{i}") for i, column in enumerate(selection.columns)}
        same_key = [sql.SQL("{}.{} = {}").format(hot, sql.Identifier(name), renamed[name]) for name in selection.key]
        in_place = sql.SQL("{}.ctid = _dbhygiene_place").format(hot)
        statement = sql.SQL(
            "DELETE FROM {hot} USING (SELECT {renamed}, {version} AS _dbhygiene_version, {place} AS _dbhygiene_place"
            " FROM {cold} AS copied WHERE {lies}) AS _dbhygiene_copied WHERE {joined}"
            " AND {hot}.xmin = _dbhygiene_version AND {same} AND ({stale}) AND ({held}) IS NOT TRUE"
        ).format(
            hot=hot,
            renamed=sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(sql.Identifier(name), other) for name, other in renamed.items()
            ),
            version=sql.Identifier(cold.VERSION),
            place=sql.Identifier(cold_look.PLACE),
            cold=_table(copied.table),
            lies=_lies(copied),
            joined=in_place if _in_place(session, selection, copied) else sql.SQL(" AND ").join(same_key),
            same=sql.SQL("ROW({})::record *= ROW({})::record").format(
                sql.SQL(", ").join(sql.SQL("{}.{}").format(hot, sql.Identifier(name)) for name in renamed),
                sql.SQL(", ").join(renamed.values()),
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


_PLACE: Final = sql.SQL("hot.ctid = copied.{}").format(sql.Identifier(cold_look.PLACE))


def _one_heap(session: PostgresSession, selection: Selection) -> bool:
    """Tell whether the table has no partitions, so that a place in it belongs to one row."""
    name = session.render(_table(selection.table))
    kind = "SELECT relkind = 'r' FROM pg_catalog.pg_class WHERE oid = %s::pg_catalog.regclass"
    return bool(session.execute(kind, (name,))[0][0])


def _in_place(session: PostgresSession, selection: Selection, copied: Copied) -> bool:
    """Tell whether the first row still lies where it lay: VACUUM FULL, CLUSTER and the like move all."""
    first = copied.part(copied.first, copied.first + 1)
    return _compared(session, selection, first, _PLACE)[0] == 1


def _compared(
    session: PostgresSession, selection: Selection, copied: Copied, joined: sql.Composed
) -> tuple[int, int]:
    """Count rows in the version that was copied, and those of them that are identical to their copies.

    By record images: ``=`` would call 1.0 and 1.00 equal, ``*=`` does not.
    """
    statement = sql.SQL(
        "SELECT count(*), count(*) FILTER (WHERE ROW({hots})::record *= ROW({copies})::record)"
        " FROM {cold} AS copied JOIN {hot} AS hot ON {joined} WHERE {lies} AND hot.xmin = copied.{version}"
    ).format(
        hots=_owned("hot", selection),
        copies=_owned("copied", selection),
        cold=_table(copied.table),
        hot=_table(selection.table),
        joined=joined,
        lies=_lies(copied),
        version=sql.Identifier(cold.VERSION),
    )
    compared, equal = session.execute(statement)[0]
    return int(compared), int(equal)


def _owned(owner: str, selection: Selection) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(owner, column.name) for column in selection.columns)


def _keys(selection: Selection) -> sql.Composed:
    return sql.SQL(" AND ").join(sql.SQL("hot.{0} = copied.{0}").format(sql.Identifier(name)) for name in selection.key)


def _digested(column: Column) -> sql.Composed:
    return sql.SQL("{}" if _AS_SENT.match(column.type) else "{}::text").format(sql.Identifier(column.name))


def _table(table: TableName) -> sql.Identifier:
    return sql.Identifier(table.schema, table.table)


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
