"""Their values and versions: out of the server as Arrow, and back beside the table to be compared.

The server makes one line of each row, in which every value stands apart from every other: numbers and moments as they
are, all else in quotes with those inside doubled, nothing at all for NULL. Arrow's CSV reader takes the lines apart
without a Python object for each value. A row's version is the SHA-256 of its line.

The quote is a character that hardly any text holds: MariaDB's REPLACE moves the rest of a value for each one that it
doubles, and took 22 s for a document of a hundred thousand double quotes.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from airflow_dbhygiene.databases.mysql import loading
from airflow_dbhygiene.databases.mysql.catalog import column_of
from airflow_dbhygiene.databases.mysql.session import translated
from airflow_dbhygiene.databases.mysql.types import (
    arrow_type,
    inexact,
    inexact_sql,
    is_bare,
    is_octets,
    is_plain,
    kind_of,
    text_sql,
)
from airflow_dbhygiene.databases.mysql.values import literals_of, text_of
from airflow_dbhygiene.databases.mysql.walk import compare, source, within
from airflow_dbhygiene.databases.mysql.writing import listed, octets, quoted, spelled
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN
from airflow_dbhygiene.errors import NotLossless

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_dbhygiene.databases.mysql.session import Connections, MySqlSession
    from airflow_dbhygiene.databases.protocol import Bound, Column, Selection, Span

VERSION_TYPE: Final = pa.binary(32)
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""From the year 1 to 9999, which every reader of Parquet knows."""
_MICROSECONDS_A_DAY: Final = 86_400_000_000
_CHECK: Final = "dbhygiene._dbhygiene_check"
ORDINAL: Final = "_dbhygiene_ordinal"
"""The key of the temporary table beside which archived rows are compared."""
_QUOTE, _QUOTE_TWICE = "X'1F'", "X'1F1F'"
"""ASCII's unit separator, as bytes."""
_COMMA, _NOTHING = "X'2C'", "X''"
"""As bytes, too: a line of numbers alone would else be text."""
_MARK: Final = "X'1E'"
"""No JSON document begins with it."""
_NIBBLES: Final = np.zeros(256, dtype=np.uint8)
_NIBBLES[np.frombuffer(b"0123456789ABCDEF", dtype=np.uint8)] = np.arange(16, dtype=np.uint8)


def arrow_schema(selection: Selection) -> pa.Schema:
    """Give the archive's columns: the table's own in their order, then the version."""
    fields = [pa.field(column.name, arrow_type(column)) for column in selection.columns]
    return pa.schema([*fields, pa.field(VERSION_COLUMN, VERSION_TYPE)])


@contextmanager
def read(  # noqa: PLR0913, PLR0917 - the protocol's own parameters, and whom to ask
    connections: Connections, selection: Selection, span: Span, after: Bound | None, rows: int, held: str | None
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Stream rows of the span with their versions, in the order of the walk, from one snapshot.

    :param after: where the piece before ended; None for the span's first piece
    :param rows: how many rows at most
    :param held: condition of the rows that a legal hold protects
    """
    with connections.session() as session:
        statement = _select(session, selection, span, after, rows, held)
        yield (batch_of(selection, lines) for lines in translating(session.driver.stream(statement)))


def line_sql(selection: Selection, owner: str = "", *, marking: bool = False) -> str:
    """Write an expression for a row's line; NULL when a value is longer than the server's max_allowed_packet.

    :param marking: whether to put a mark before values that their text does not tell from others
    """
    parts = [_COMMA] * (2 * len(selection.columns) - 1)
    parts[::2] = [_item_sql(column, owner, marking=marking) for column in selection.columns]
    return f"CONCAT({', '.join(parts)})"


def _item_sql(column: Column, owner: str, *, marking: bool) -> str:
    """Write an expression for a value as it stands in a line; nothing at all for NULL."""
    name, text = owner + quoted(column.name), text_sql(column, owner)
    if marking and (condition := inexact_sql(column, owner)):
        text = f"IF({condition}, {_MARK}, {text})"
    if is_plain(column):
        text = name  # CONCAT writes it as CAST does, at less cost
    elif not is_bare(column):
        text = f"CONCAT({_QUOTE}, {_doubled(column, text)}, {_QUOTE})"
    return f"IF({name} IS NULL, {_NOTHING}, {text})"


def _doubled(column: Column, text: str) -> str:
    return text if is_octets(column) else f"REPLACE({text}, {_QUOTE}, {_QUOTE_TWICE})"


def version_sql(selection: Selection, owner: str = "") -> str:
    """Write an expression for a row's version."""
    return f"UNHEX({digits_sql(selection, owner)})"


def digits_sql(selection: Selection, owner: str = "") -> str:
    """Write an expression for a row's version in hexadecimal digits: the server takes long to make bytes of them."""
    return f"SHA2({line_sql(selection, owner)}, 256)"


def place_of(selection: Selection, rows: pa.Table, index: int) -> Bound:
    """Give a row's place in the walk in the server's text form."""
    return tuple(
        text_of(column_of(selection.columns, name), _value(rows.column(name)[index])) for name in selection.walk
    )


def encode_keys(_: Selection, rows: pa.Table) -> bytes:
    """Give the rows' versions one after the other: the key is part of what a version digests."""
    versions = _one(rows.column(VERSION_COLUMN))
    octets_each = VERSION_TYPE.byte_width
    buffer = versions.buffers()[1].slice(versions.offset * octets_each, len(versions) * octets_each)
    return bytes(buffer.to_pybytes())


def differing(session: MySqlSession, selection: Selection, rows: pa.Table) -> tuple[int, int]:
    """Load rows beside the table and let the server digest them as it digests its own.

    Columns that the rows lack are not compared.

    :returns: how many rows the server could compare (the others have changed since), and how many of them differ
    """
    shown = _shown(selection, rows)
    with session.transaction(), beside(session, rows, shown.columns) as check:
        expected = f"archived.{_VERSION}" if shown == selection else version_sql(shown, "hot.")
        compared, equal = session.execute(
            f"SELECT count(*), coalesce(sum({version_sql(shown, 'archived.')} <=> {expected}), 0)"
            f" FROM {check} AS archived JOIN {spelled(selection.table)} AS hot ON {same_key(selection, 'archived')}"
            f" WHERE {version_sql(selection, 'hot.')} = archived.{_VERSION}"
        )[0]
    return int(compared), int(compared) - int(equal)


def count_fulfilling(session: MySqlSession, selection: Selection, rows: pa.Table, condition: str) -> int:
    """Load rows beside the table, and count those for which a condition is true. It may name the table."""
    with session.transaction(), beside(session, rows, _shown(selection, rows).columns) as check:
        name = quoted(selection.table.table)
        return int(session.execute(f"SELECT count(*) FROM {check} AS {name} WHERE {condition}")[0][0])


def _shown(selection: Selection, rows: pa.Table) -> Selection:
    return replace(selection, columns=tuple(each for each in selection.columns if each.name in rows.column_names))


@contextmanager
def beside(session: MySqlSession, rows: pa.Table, columns: Sequence[Column]) -> Iterator[str]:
    """Make a temporary table of rows with these columns, their version and their ordinal; give its name."""
    definitions = ", ".join(f"{quoted(column.name)} {column.type} NULL" for column in columns)
    session.execute(f"DROP TEMPORARY TABLE IF EXISTS {_CHECK}")
    session.execute(
        f"CREATE TEMPORARY TABLE {_CHECK} ({ORDINAL} int PRIMARY KEY, {_VERSION} binary(32) NOT NULL, {definitions})"
        f" ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4"
    )
    try:
        for start, some in loading.pieces(rows):
            loading.insert(session, _CHECK, _written(some, columns, start))
        yield _CHECK
    finally:
        session.execute(f"DROP TEMPORARY TABLE IF EXISTS {_CHECK}")


def same_key(selection: Selection, archived: str, hot: str = "hot") -> str:
    """Say that a row of the table and a row beside it have one key."""
    return " AND ".join(f"{hot}.{quoted(name)} = {archived}.{quoted(name)}" for name in selection.key)


_VERSION: Final = quoted(VERSION_COLUMN)


def _select(  # noqa: PLR0913, PLR0917 - the protocol's own parameters
    session: MySqlSession, selection: Selection, span: Span, after: Bound | None, rows: int, held: str | None
) -> str:
    condition = [within(selection, span)]
    if after is not None:
        condition.append(compare(selection, ">", after))
    if held is not None:
        condition.append(f"({held}) IS NOT TRUE")
    return (
        f"SELECT {line_sql(selection, marking=True)} FROM {source(session, selection)} WHERE {' AND '.join(condition)}"
        f" ORDER BY {listed(selection.walk)} LIMIT {rows}"
    )


def translating(pieces: Iterator[Sequence[bytes | None]]) -> Iterator[Sequence[bytes | None]]:
    """Give lines as they come; the driver's errors leave as ours."""
    with translated():
        yield from pieces


def batch_of(selection: Selection, lines: Sequence[bytes | None]) -> pa.RecordBatch:
    """Take lines apart, and digest each as the server would."""
    if any(line is None for line in lines):
        raise too_long(selection)
    whole = [line for line in lines if line is not None]
    columns = _parse(selection, b"\n".join(whole) + b"\n")
    versions = b"".join(hashlib.sha256(line).digest() for line in whole)
    version = pa.FixedSizeBinaryArray.from_buffers(VERSION_TYPE, len(whole), [None, pa.py_buffer(versions)])
    if len(columns[0]) != len(whole):
        raise NotLossless(f"{len(whole)} rows of {selection.table} were read as {len(columns[0])}.")
    return pa.record_batch([*columns, version], schema=arrow_schema(selection))


def too_long(selection: Selection) -> NotLossless:
    """Say of which row the server makes no line, and what to do."""
    return NotLossless(
        f"a row of {selection.table} is longer than the server's max_allowed_packet, so that it cannot be read in one "
        f"piece: raise that setting."
    )


def _parse(selection: Selection, text: bytes) -> list[Any]:
    names = [str(i) for i in range(len(selection.columns))]
    kinds = {name: _parsed(column) for name, column in zip(names, selection.columns, strict=True)}
    try:
        table = csv.read_csv(
            io.BytesIO(text),
            csv.ReadOptions(column_names=names, block_size=len(text) + 1),
            csv.ParseOptions(quote_char="\x1f", newlines_in_values=True, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types=kinds, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        ).combine_chunks()
    except pa.ArrowInvalid as error:
        raise NotLossless(_not_lossless(selection, error)) from error
    columns = [_one(table.column(name)) for name in names]
    return [_exact(column, values) for column, values in zip(selection.columns, columns, strict=True)]


def _one(values: Any) -> Any:
    return values.chunk(0) if values.num_chunks == 1 else pa.concat_arrays(values.chunks)


def _parsed(column: Column) -> pa.DataType:
    """Give the type that the reader makes of a column: it takes a moment with a zone only with that zone's name."""
    kind = arrow_type(column)
    if pa.types.is_binary(kind):
        return pa.string()
    return pa.timestamp("us") if pa.types.is_timestamp(kind) else kind


def _exact(column: Column, values: Any) -> Any:
    kind = arrow_type(column)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        _refuse_odd_years(column, values)
    if inexact_sql(column) and pc.any(pc.equal(values, pa.scalar("\x1e"))).as_py():
        raise inexact(column)
    return _octets(values) if pa.types.is_binary(kind) else values.cast(kind)


def _octets(digits: Any) -> Any:
    """Turn hexadecimal digits into the bytes that they stand for."""
    whole = pa.concat_arrays([digits])  # its buffers begin where it does
    valid, offsets, data = whole.buffers()
    nibbles = _NIBBLES[np.frombuffer(data or b"", dtype=np.uint8)]
    values = (nibbles[0::2] << 4) | nibbles[1::2]
    ends = np.frombuffer(offsets, dtype=np.int32)[: len(whole) + 1] // 2
    buffers = [valid, pa.py_buffer(ends.tobytes()), pa.py_buffer(values.tobytes())]
    return pa.Array.from_buffers(pa.binary(), len(whole), buffers)


def _refuse_odd_years(column: Column, values: Any) -> None:
    days = pa.types.is_date(values.type)
    found: Any = pc.min_max(values.cast(pa.int32() if days else pa.int64())).as_py()
    scale = 1 if days else _MICROSECONDS_A_DAY
    if found["min"] is not None and (found["min"] < _FIRST_DAY * scale or found["max"] >= (_LAST_DAY + 1) * scale):
        message = f"column {column.name} ({column.type}) holds a date outside the years 1 to 9999: {_AS_TEXT}"
        raise NotLossless(message + f" [{column.name}].")


_AS_TEXT: Final = "archive it as the server's text, with archive.as_text:"


def _not_lossless(selection: Selection, error: Exception) -> str:
    moments = [column.name for column in selection.columns if is_bare(column) and "date" in kind_of(column)]
    hint = f" A zero date, as in 2013-00-00, is one: {_AS_TEXT} [{', '.join(moments)}]." if moments else ""
    return f"table {selection.table} holds a value that Parquet's own type cannot: {error}.{hint}"


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:
        message = "a key holds a date outside the years 1 to 9999: archive its column with archive.as_text."
        raise NotLossless(message) from error


def _written(rows: Any, columns: Sequence[Column], first: int) -> Iterator[str]:
    literals = [literals_of(column, rows.column(column.name)) for column in columns]
    versions = [octets(value.as_py()) for value in rows.column(VERSION_COLUMN)]
    ordinals = map(str, range(first, first + rows.num_rows))
    return (f"({', '.join(row)})" for row in zip(ordinals, versions, *literals, strict=True))
