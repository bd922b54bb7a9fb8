"""Which types survive an archive, in which form, and how the server writes their values as text.

Every value has one text form: bytes that the server makes of it under our settings. A row's version is a digest over
these, a place in the walk is made of them, and values return to the server from them.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from airflow_dbhygiene.databases.mysql.writing import quoted
from airflow_dbhygiene.errors import NotLossless

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Column

_INTEGERS: Final[dict[str, tuple[pa.DataType, pa.DataType]]] = {
    "tinyint": (pa.int8(), pa.uint8()),
    "smallint": (pa.int16(), pa.uint16()),
    "mediumint": (pa.int32(), pa.uint32()),
    "int": (pa.int32(), pa.uint32()),
    "bigint": (pa.int64(), pa.uint64()),
}
INTEGERS: Final = frozenset(_INTEGERS)
FLOATS: Final = frozenset({"float", "double"})
MOMENTS: Final = frozenset({"date", "datetime", "timestamp"})
CHARACTERS: Final = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
LABELS: Final = frozenset({"enum", "set"})
BYTES: Final = frozenset("binary varbinary tinyblob blob mediumblob longblob vector".split())
SHAPES: Final = frozenset("geometry point linestring polygon multipoint multilinestring multipolygon".split()) | {
    "geometrycollection",
    "geomcollection",
}
"""Archived as the server keeps them: the number of the reference system, then WKB."""

WRITTEN: Final = frozenset({"time", "json", "uuid", "inet4", "inet6"})
"""Arrow has no type of their own: the server's text form, read back by the server, gives the same value."""

NUMBERS: Final = INTEGERS | FLOATS | {"decimal", "bit", "year"}
_AS_THEY_ARE: Final = frozenset({"utf8mb4", "utf8mb3", "utf8", "ascii"})
ONE_TO_ONE: Final = frozenset({"latin1"})
"""Character sets whose every byte has a character of its own. Others map several to one: their bytes are archived."""

_MOST_DIGITS: Final = 38  # of Arrow's decimal128
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


@functools.cache
def kind_of(column: Column) -> str:
    """Give the type's own word: "varchar" of "varchar(20) CHARACTER SET latin1 …"."""
    found = re.match(r"\w+", column.type)
    return found.group().lower() if found else ""


def form_of(column: Column) -> str | None:
    """Give the archive's form for a column, None when its values could not come back equal."""
    kind = kind_of(column)
    if kind == "decimal":
        digits, scale = _digits(column)
        return "decimal" if digits <= _MOST_DIGITS and scale <= digits else "text"
    if kind in WRITTEN or (kind in LABELS and _is_text(column)):
        return "text"
    return "native" if kind in NUMBERS | MOMENTS | CHARACTERS | BYTES | SHAPES else None


@functools.cache
def arrow_type(column: Column) -> pa.DataType:
    """Give the Arrow type in which a column is archived."""
    kind = kind_of(column)
    if column.form == "text":
        return pa.string()
    if column.form == "decimal":
        return pa.decimal128(*_digits(column))
    if kind in INTEGERS:
        return _INTEGERS[kind]["unsigned" in column.type]
    if kind in CHARACTERS:
        return pa.string() if _is_text(column) else pa.binary()
    return _OTHERS.get(kind, pa.binary())


_OTHERS: Final[dict[str, pa.DataType]] = {
    "bit": pa.uint64(),
    "year": pa.int16(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def is_bare(column: Column) -> bool:
    """Tell whether the text form needs no quotes: numbers and moments."""
    return column.form != "text" and kind_of(column) in NUMBERS | MOMENTS


def is_plain(column: Column) -> bool:
    """Tell whether CONCAT writes the value itself as its text form."""
    return column.form != "text" and kind_of(column) in INTEGERS | MOMENTS | {"decimal"}


def text_sql(column: Column, owner: str = "") -> str:
    """Write an expression for the column's text form, as bytes; NULL for NULL.

    Bytes are in hexadecimal digits. CAST prints six digits of a FLOAT; times one it is a DOUBLE, of which it prints
    16 at least. Of a column that is a DOUBLE itself it prints as many as tell it from any other, and only then.
    """
    name, kind = owner + quoted(column.name), kind_of(column)
    if is_octets(column):
        return f"CAST(hex({name}) AS BINARY)"
    if kind == "float":
        return f"CAST({name} * 1e0 AS BINARY)"
    if kind == "bit":
        return f"CAST({name} + 0 AS BINARY)"
    if kind in {"uuid", "inet4", "inet6"}:
        return f"CAST(CAST({name} AS CHAR) AS BINARY)"
    if character_set(column) in ONE_TO_ONE:
        return f"CAST(CONVERT({name} USING utf8mb4) AS BINARY)"
    return f"CAST({name} AS BINARY)"


def inexact_sql(column: Column, owner: str = "") -> str | None:
    """Write a condition for values whose text is that of other values, too; None where a type has none.

    A JSON document of MySQL's may have a DECIMAL, a moment or bytes inside. Its text reads as a DOUBLE or a string,
    which takes another number of bytes. An ENUM may hold the empty value of no label: strict modes let nobody write it.
    """
    name = owner + quoted(column.name)
    if kind_of(column) == "enum":
        return f"{name} + 0 = 0"
    if kind_of(column) != "json":
        return None
    return f"JSON_STORAGE_SIZE({name}) - JSON_STORAGE_FREE({name}) <> JSON_STORAGE_SIZE(CAST({name} AS CHAR))"


def inexact(column: Column) -> NotLossless:
    """Say what such a value is, and what to do."""
    name = quoted(column.name)
    if kind_of(column) == "enum":
        return NotLossless(
            f"column {column.name} ({column.type}) holds the empty value of labels that it does not know, which could "
            f"not be written back: leave such rows out with stale.where {column.name} <> '', or give them a label."
        )
    return NotLossless(
        f"column {column.name} ({column.type}) holds a document with a DECIMAL, a moment or bytes inside, which would "
        f"come back as a DOUBLE or a string: leave such rows out with stale.where, or make it so now, in one "
        f"transaction: UPDATE … SET {name} = JSON_QUOTE(CAST({name} AS CHAR)); UPDATE … SET {name} = "
        f"JSON_UNQUOTE({name}); (one UPDATE would find the documents equal, and change nothing)."
    )


@functools.cache
def character_set(column: Column) -> str | None:
    """Give the name of the column's character set, None when it has none."""
    found = re.search(r" CHARACTER SET (\w+)", column.type)
    return found.group(1) if found else None


@functools.cache
def is_octets(column: Column) -> bool:
    """Tell whether a column's values are bytes, which have no other text form than their digits."""
    kind = kind_of(column)
    return kind in BYTES | SHAPES or (kind in CHARACTERS and not _is_text(column))


def _is_text(column: Column) -> bool:
    return character_set(column) in _AS_THEY_ARE | ONE_TO_ONE


def _digits(column: Column) -> tuple[int, int]:
    found = _DECIMAL.match(column.type)
    if found is None:
        raise NotLossless(f"column {column.name} has type {column.type}, whose digits cannot be told.")
    return int(found.group(1)), int(found.group(2))
