"""Their values and versions: out of the server as Arrow, and back beside the table to be compared."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from pyarrow import csv

from airflow_dbhygiene.databases.postgres.session import translate, translated
from airflow_dbhygiene.databases.postgres.walk import compare, within
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN
from airflow_dbhygiene.errors import NotLossless

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_dbhygiene.databases.postgres.session import Connections, PostgresSession
    from airflow_dbhygiene.databases.protocol import Bound, Column, Selection, Span

_FOUR_DIGIT_YEARS = {"date": (-719_162, 2_932_896), "timestamp": (-62_135_596_800_000_000, 253_402_300_799_999_999)}
"""From the year 1 to 9999, which every reader of Parquet knows. The driver wraps infinities round to years outside."""

_NATIVE: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "bytea": pa.binary(),
    "date": pa.date32(),
}
_BATCH_BYTES = 4 * 2**20
"""Of the server's answer, which becomes one batch: small, so that reading and writing go on side by side."""
_CSV_ROWS = 10_000
_MOST_JOINED_COLUMNS = 1_600
"""The server's limit is 1,664; versions, and a cold table's own columns, are joined too."""

CHECK = "_dbhygiene_check"
"""The temporary table beside which archived rows are compared."""


def arrow_schema(selection: Selection) -> pa.Schema:
    """Give the archive's columns: the table's own in their order, then the version."""
    return _schema(selection.columns)


def _schema(columns: Sequence[Column]) -> pa.Schema:
    fields = [pa.field(column.name, arrow_type(column)) for column in columns]
    return pa.schema([*fields, pa.field(VERSION_COLUMN, pa.int64())])


def arrow_type(column: Column) -> pa.DataType:
    """Give the Arrow type in which a column is archived."""
    if column.form == "text":
        return pa.string()
    if column.form == "decimal":
        precision, _, scale = column.type.removeprefix("numeric(").removesuffix(")").partition(",")
        return pa.decimal128(int(precision), int(scale or 0))
    if column.type.startswith("timestamp"):
        return pa.timestamp("us", tz="UTC" if column.type.endswith("with time zone") else None)
    return _NATIVE.get(column.type, pa.string())


@contextmanager
def read(  # noqa: PLR0913, PLR0917 - the protocol's own parameters, and whom to ask
    connections: Connections, selection: Selection, span: Span, after: Bound | None, rows: int, held: str | None
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Stream rows of the span with their versions, in the order of the walk, from one snapshot.

    :param after: where the piece before ended; None for the span's first piece
    :param rows: how many rows at most
    :param held: condition of the rows that a legal hold protects
    """
    statement = _select(selection, span, after, rows, held).as_string()
    with translated(), connections.reader() as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)})
        cursor.execute(statement)
        reader = cursor.fetch_record_batch()
        yield (exact(selection.columns, batch) for batch in translating(reader))


def place_of(selection: Selection, rows: pa.Table, index: int) -> Bound:
    """Give a row's place in the walk in the server's text form."""
    return tuple(text_of(rows.column(name)[index]) for name in selection.walk)


def as_archived(connections: Connections, selection: Selection, keys: Sequence[Sequence[str]]) -> list[Bound]:
    """Let the server read keys as people write them; give each as `place_of` gives an archived row's."""
    types = {column.name: column for column in selection.columns}
    columns = [types[name] for name in selection.key]
    statement = _named(columns, keys).as_string()
    with translated(), connections.reader() as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        batches = [exact(columns, batch) for batch in translating(cursor.fetch_record_batch())]
    rows, by_key = pa.Table.from_batches(batches, _schema(columns)), replace(selection, walk=selection.key)
    return [place_of(by_key, rows, i) for i in range(rows.num_rows)]


def _named(columns: Sequence[Column], keys: Sequence[Sequence[str]]) -> sql.Composed:
    """Write keys as rows, as if they were read from their table."""
    kinds = [sql.SQL(column.type) for column in columns]
    rows = (
        sql.SQL("({})").format(
            sql.SQL(", ").join(
                sql.SQL("{}::{}").format(sql.Literal(text), kind) for text, kind in zip(key, kinds, strict=True)
            )
        )
        for key in keys
    )
    return sql.SQL("SELECT {values}, 0::bigint FROM (VALUES {rows}) AS named ({names})").format(
        values=sql.SQL(", ").join(value(column) for column in columns),
        rows=sql.SQL(", ").join(rows),
        names=sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
    )


def differing(session: PostgresSession, selection: Selection, rows: pa.Table) -> tuple[int, int]:
    """Load rows beside the table and let the server compare them, bit for bit, with those of the same version.

    Columns that the rows lack are not compared.

    :returns: how many rows the server could compare (the others have changed since), and how many of them differ
    """
    selection = _shown(selection, rows)
    with session.transaction():
        session.execute(check_table(selection))
        load(session, rows)
        session.one_by_one()
        compared, equal = session.execute(_comparison(selection))[0]
        session.execute(sql.SQL("DROP TABLE pg_temp.{}").format(sql.Identifier(CHECK)))
    return int(compared), int(compared) - int(equal)


def count_fulfilling(session: PostgresSession, selection: Selection, rows: pa.Table, condition: str) -> int:
    """Load rows beside the table, and count those for which a condition is true. It may name the table."""
    count = sql.SQL("SELECT count(*) FROM pg_temp.{} AS {} WHERE {}").format(
        sql.Identifier(CHECK), sql.Identifier(selection.table.table), sql.SQL(condition)
    )
    with session.transaction():
        session.execute(check_table(_shown(selection, rows)))
        load(session, rows)
        found = int(session.execute(count)[0][0])
        session.execute(sql.SQL("DROP TABLE pg_temp.{}").format(sql.Identifier(CHECK)))
    return found


def _shown(selection: Selection, rows: pa.Table) -> Selection:
    return replace(selection, columns=tuple(each for each in selection.columns if each.name in rows.column_names))


def _select(selection: Selection, span: Span, after: Bound | None, rows: int, held: str | None) -> sql.Composed:
    condition = [within(selection, span)]
    if after is not None:
        condition.append(compare(selection, ">", after))
    if held is not None:
        condition.append(sql.SQL("({}) IS NOT TRUE").format(sql.SQL(held)))
    return sql.SQL(
        "SELECT {values}, xmin::text::bigint AS {version} FROM {table} WHERE {rows} ORDER BY {walk} LIMIT {n}"
    ).format(
        values=sql.SQL(", ").join(value(column) for column in selection.columns),
        version=sql.Identifier(VERSION_COLUMN),
        table=sql.Identifier(selection.table.schema, selection.table.table),
        rows=sql.SQL(" AND ").join(condition),
        # Qualified, or ORDER BY would take the text beside it: "k"::text is called "k" too.
        walk=sql.SQL(", ").join(
            sql.Identifier(selection.table.schema, selection.table.table, name) for name in selection.walk
        ),
        n=sql.Literal(rows),
    )


def value(column: Column) -> sql.Composed:
    """Write a column as it is read: in its own type, or in the server's text form."""
    name = sql.Identifier(column.name)
    return sql.SQL("{}").format(name) if column.form == "native" else sql.SQL("{}::text").format(name)


def translating(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Give batches as they come; the driver's errors leave as ours."""
    try:
        with translated():
            yield from reader
    except OSError as error:  # what Arrow makes of a server that dies amid the rows
        raise translate(error) from error


def exact(columns: Sequence[Column], batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give the driver's batch the archive's types, after looking for what they cannot hold.

    :param columns: the batch's columns; behind them is the version
    """
    values = [_cast(column, batch.column(i)) for i, column in enumerate(columns)]
    return pa.record_batch([*values, batch.column(len(values))], schema=_schema(columns))


def _cast(column: Column, values: Any) -> Any:
    wanted = arrow_type(column)
    if pa.types.is_date(wanted) or pa.types.is_timestamp(wanted):
        _refuse_odd_years(column, values)
    if column.form != "decimal" or values.null_count == len(values):
        return values.cast(wanted)
    try:
        return values.cast(wanted)
    except pa.ArrowInvalid as error:
        raise NotLossless(_not_lossless(column, "NaN, or more digits than its type")) from error


def _refuse_odd_years(column: Column, values: Any) -> None:
    kind, storage = ("date", pa.int32()) if pa.types.is_date(values.type) else ("timestamp", pa.int64())
    first, last = _FOUR_DIGIT_YEARS[kind]
    found: Any = pc.min_max(values.cast(storage)).as_py()
    if found["min"] is not None and (found["min"] < first or found["max"] > last):
        raise NotLossless(_not_lossless(column, "an infinite date, or one outside the years 1 to 9999"))


def _not_lossless(column: Column, what: str) -> str:
    return (
        f"column {column.name} ({column.type}) holds {what}, which Parquet's own type cannot: archive it as the "
        f"server's text, with archive.as_text: [{column.name}]."
    )


def text_of(scalar: Any) -> str:
    """Write a key's value in the server's text form."""
    if pa.types.is_binary(scalar.type):
        return f"\\x{scalar.as_py().hex()}"
    if pa.types.is_decimal(scalar.type):
        return f"{scalar.as_py():f}"  # str() would write 1E-7
    try:
        return str(scalar.as_py())
    except (ValueError, OverflowError) as error:
        message = "a key holds a date outside the years 1 to 9999: archive its column with archive.as_text."
        raise NotLossless(message) from error


def check_table(selection: Selection) -> sql.Composed:
    """Make a temporary table with the table's own columns and types, and the version."""
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type)) for column in selection.columns
    ]
    columns.append(sql.SQL("{} bigint").format(sql.Identifier(VERSION_COLUMN)))
    return sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(
        sql.Identifier(CHECK), sql.SQL(", ").join(columns)
    )


def load(session: PostgresSession, rows: pa.Table) -> None:
    """Copy archived rows into the temporary table."""
    statement = sql.SQL("COPY pg_temp.{} FROM STDIN (FORMAT csv, NULL '')").format(sql.Identifier(CHECK))
    with translated(), session.connection.cursor() as cursor, cursor.copy(statement) as copy:
        for batch in rows.to_batches():
            wide = max(1, batch.nbytes // max(1, batch.num_rows))
            step = max(1, min(_CSV_ROWS, _BATCH_BYTES // wide))
            for start in range(0, batch.num_rows, step):
                copy.write(written(batch.slice(start, step)))


def written(batch: pa.RecordBatch) -> bytes:
    """Write rows as the CSV that COPY reads."""
    sink = io.BytesIO()
    columns = [_hex(column) if pa.types.is_binary(column.type) else column for column in batch.columns]
    writable = pa.record_batch(columns, names=[str(i) for i in range(len(columns))])
    csv.write_csv(writable, sink, csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    return sink.getvalue()


def _hex(values: Any) -> Any:
    return pa.array([None if value is None else "\\x" + value.hex() for value in values.to_pylist()], pa.string())


def fence(selection: Selection) -> sql.SQL:
    """Have the server compare rows where it joins them, if both together have more columns than it carries further."""
    return sql.SQL(" OFFSET 0" if 2 * len(selection.columns) > _MOST_JOINED_COLUMNS else "")


def _comparison(selection: Selection) -> sql.Composed:
    """Compare record images: ``=`` would call 1.0 and 1.00 equal, ``*=`` does not."""
    hot = sql.Identifier(selection.table.schema, selection.table.table)

    def row(alias: str) -> sql.Composable:
        return sql.SQL(", ").join(sql.Identifier(alias, column.name) for column in selection.columns)

    return sql.SQL(
        "SELECT count(*), count(*) FILTER (WHERE same)"
        " FROM (SELECT ROW({hot_row})::record *= ROW({archived_row})::record AS same"
        " FROM pg_temp.{check} AS archived JOIN {hot} AS hot ON {keys}"
        " WHERE hot.xmin::text::bigint = archived.{version}{fence}) AS compared"
    ).format(
        fence=fence(selection),
        hot_row=row("hot"),
        archived_row=row("archived"),
        check=sql.Identifier(CHECK),
        hot=hot,
        keys=sql.SQL(" AND ").join(
            sql.SQL("hot.{0} = archived.{0}").format(sql.Identifier(name)) for name in selection.key
        ),
        version=sql.Identifier(VERSION_COLUMN),
    )
