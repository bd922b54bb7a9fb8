"""Keys and versions as bytes: the server sends those of the rows it deletes, and the same are made from the archive.

They are compared column by column, each in the server's own binary form: one value per column and batch. A cell whose
length varies stands behind its length, in four bytes.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from psycopg import sql

from airflow_dbhygiene.databases.postgres.rows import arrow_type
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_dbhygiene.databases.protocol import Column, Selection

_FIXED: Final = {
    "boolean": ("boolsend", 1),
    "smallint": ("int2send", 2),
    "integer": ("int4send", 4),
    "bigint": ("int8send", 8),
    "date": ("date_send", 4),
    "timestamp with time zone": ("timestamptz_send", 8),
    "timestamp without time zone": ("timestamp_send", 8),
}
"""The server's function that sends a value, and its bytes."""

_VARYING: Final = {
    "bytea": "byteasend",
    "character": "bpcharsend",
    "bpchar": "bpcharsend",
    "character varying": "varcharsend",
}
_VERSION_BYTES: Final = 4
_DAYS_TO_2000: Final = 10_957
_MICROSECONDS_TO_2000: Final = 946_684_800_000_000


def returned(selection: Selection) -> sql.Composed:
    """Write what a statement returns of each row, so that ``sent`` can gather it."""
    cells = [_cell(column) for column in key_columns(selection)]
    return sql.SQL(", ").join([*map(sql.SQL("{} AS {}").format, cells, _aliases(cells)), sql.SQL("xmin AS _version")])


def sent(selection: Selection) -> sql.Composed:
    """Write the aggregates over what was returned: one per key column, then the versions'."""
    columns = key_columns(selection)
    parts = map(_part, columns, _aliases(columns))
    gathered = [*parts, sql.SQL("pg_catalog.xidsend(_version)")]
    return sql.SQL(", ").join(sql.SQL("pg_catalog.string_agg({}, ''::bytea)").format(part) for part in gathered)


def expected(selection: Selection, rows: pa.Table) -> tuple[bytes, ...]:
    """Write archived keys and versions as ``sent`` has the server write them."""
    cells = (_written(column, rows.column(column.name)) for column in key_columns(selection))
    return (*cells, as_numpy(rows.column(VERSION_COLUMN), np.int64).astype(">u4").tobytes())


def encode_keys(selection: Selection, rows: pa.Table) -> bytes:
    """Write archived (key, version) pairs one after the other: the bytes of many batches can be strung together."""
    columns = expected(selection, rows)
    fixed = _side_by_side(selection, columns)
    return b"".join(_records(selection, columns)) if fixed is None else fixed.tobytes()


def same_records(selection: Selection, one: Sequence[bytes], other: Sequence[bytes]) -> bool:
    """Tell whether two answers hold the same records, in whatever order the server came by them."""
    if list(map(len, one)) != list(map(len, other)):
        return False
    fixed = [_side_by_side(selection, columns) for columns in (one, other)]
    if any(array is None for array in fixed):
        return sorted(_records(selection, one)) == sorted(_records(selection, other))
    mine, theirs = (np.sort(array.view(f"S{array.shape[1]}"), axis=0) for array in fixed)
    return mine.tobytes() == theirs.tobytes()


def key_columns(selection: Selection) -> list[Column]:
    """Give the key's columns in the key's order."""
    columns = {column.name: column for column in selection.columns}
    return [columns[name] for name in selection.key]


def _aliases(columns: Sequence[object]) -> list[sql.Identifier]:
    return [sql.Identifier(f"_key_{i}") for i in range(len(columns))]


def _cell(column: Column) -> sql.Composable:
    name = sql.Identifier(column.name)
    if column.form != "native":
        return sql.SQL("pg_catalog.textsend({}::text)").format(name)
    return name if _width(column) else sql.SQL("{}({})").format(_sender(column), name)


def _part(column: Column, alias: sql.Identifier) -> sql.Composed:
    if _width(column):
        return sql.SQL("{}({})").format(_sender(column), alias)
    return sql.SQL("pg_catalog.int4send(pg_catalog.octet_length({0})) || {0}").format(alias)


def _sender(column: Column) -> sql.Identifier:
    sender, _ = _FIXED.get(_kind(column)) or (_VARYING.get(_kind(column), "textsend"), 0)
    return sql.Identifier("pg_catalog", sender)


def _width(column: Column) -> int:
    """Give the bytes of the column's every cell; 0 where they vary."""
    return _FIXED.get(_kind(column), ("", 0))[1] if column.form == "native" else 0


def _kind(column: Column) -> str:
    """Give the type without its length or precision: ``character`` of ``character(3)``."""
    return re.sub(r"\(\d+\)", "", column.type)


def _written(column: Column, values: Any) -> bytes:
    if _width(column):
        return bytes(_numbers(column, values).data)
    return b"".join(struct.pack(">i", len(cell)) + cell for cell in _texts(column, values))


def _numbers(column: Column, values: Any) -> Any:
    kind = arrow_type(column)
    if pa.types.is_boolean(kind):
        return as_numpy(values.cast(pa.uint8()), np.uint8)
    if pa.types.is_date(kind):
        return (as_numpy(values.cast(pa.int32()), np.int32) - _DAYS_TO_2000).astype(">i4")
    if pa.types.is_timestamp(kind):
        return (as_numpy(values.cast(pa.int64()), np.int64) - _MICROSECONDS_TO_2000).astype(">i8")
    return as_numpy(values, np.dtype(f"i{_width(column)}")).astype(f">i{_width(column)}")


def as_numpy(values: Any, kind: Any) -> Any:
    """Give numbers without NULL as numpy has them. Arrow's own way would load pandas where it is, which takes long."""
    whole = values.combine_chunks()
    return np.frombuffer(whole.buffers()[1], kind)[whole.offset : whole.offset + len(whole)]


def _texts(column: Column, values: Any) -> list[bytes]:
    if pa.types.is_decimal(arrow_type(column)):
        return [f"{value:f}".encode() for value in values.to_pylist()]
    return [value if isinstance(value, bytes) else value.encode() for value in values.to_pylist()]


def _side_by_side(selection: Selection, columns: Sequence[bytes]) -> Any:
    """Put the columns' cells into rows of one length; None where a column's cells vary."""
    widths = [*map(_width, key_columns(selection)), _VERSION_BYTES]
    if not all(widths):
        return None
    cells = [np.frombuffer(data, np.uint8).reshape(-1, width) for data, width in zip(columns, widths, strict=True)]
    return np.hstack(cells)


def _records(selection: Selection, columns: Sequence[bytes]) -> list[bytes]:
    """Put the columns' cells together, row by row."""
    widths = [*map(_width, key_columns(selection)), _VERSION_BYTES]
    cut = (_cut(data, width) for data, width in zip(columns, widths, strict=True))
    return [b"".join(record) for record in zip(*cut, strict=True)]


def _cut(data: bytes, width: int) -> Iterator[bytes]:
    """Cut a column's cells apart, each with its length before it where that varies."""
    position = 0
    while position < len(data):
        size = width or 4 + struct.unpack_from(">i", data, position)[0]
        yield data[position : position + size]
        position += size
