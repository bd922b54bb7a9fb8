"""Archived values as text, and texts as values in SQL: how a place in the walk, a key and a whole row return."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_dbhygiene.databases.mysql.types import (
    CHARACTERS,
    FLOATS,
    INTEGERS,
    MOMENTS,
    NUMBERS,
    ONE_TO_ONE,
    arrow_type,
    character_set,
    is_octets,
    kind_of,
)
from airflow_dbhygiene.databases.mysql.writing import literal, octets
from airflow_dbhygiene.errors import NotLossless

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Column

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_DIGITS = re.compile(r"([0-9a-fA-F]{2})*")
_PLAIN = re.compile(r"[-+0-9:. e]+")
_QUOTED: Final = FLOATS | MOMENTS | {"year", "time"}


def text_of(column: Column, value: Any) -> str:
    """Write an archived value in its text form; bytes in hexadecimal digits."""
    return _texter(column)(value)


def literal_of(column: Column, text: str) -> str:
    """Write a text form as a value in SQL that the server compares and stores by the column's own type.

    :raises NotLossless: when the text is none of a number, of a moment, or of bytes in hexadecimal digits
    """
    return _writer(column)(text)


def literals_of(column: Column, values: Any) -> list[str]:
    """Write archived values as values in SQL."""
    if pa.types.is_integer(values.type) and kind_of(column) in INTEGERS and not values.null_count:
        return list(map(str, values.to_pylist()))
    text, write = _texter(column), _writer(column)
    return ["NULL" if value is None else write(text(value)) for value in values.to_pylist()]


@functools.cache
def _texter(column: Column) -> Callable[[Any], str]:
    kind, archived = kind_of(column), arrow_type(column)
    if pa.types.is_string(archived):
        return str
    if pa.types.is_binary(archived):
        return bytes.hex
    if column.form == "decimal":
        return "{:f}".format  # str() would write 1E-7
    if kind == "year":
        return "{:04}".format  # the server takes the text 0 for the year 2000
    if kind in {"datetime", "timestamp"}:
        return _moment
    return repr if kind in FLOATS else str


def _moment(value: Any) -> str:
    return str(value.replace(tzinfo=None).isoformat(" "))


@functools.cache
def _writer(column: Column) -> Callable[[str], str]:
    kind, charset = kind_of(column), character_set(column)
    if is_octets(column):
        introducer = f"_{charset} " if kind in CHARACTERS else ""
        return lambda text: f"{introducer}X'{_checked(column, _DIGITS, text)}'"
    if kind in _QUOTED:
        return lambda text: f"'{_checked(column, _PLAIN, text)}'"
    if kind in NUMBERS:
        return lambda text: _checked(column, _NUMBER, text)
    if charset in ONE_TO_ONE:
        collation = column.type.rpartition(" COLLATE ")[2]  # unlike a literal, CONVERT brings a collation of its own
        return lambda text: f"CONVERT({literal(text)} USING {charset}) COLLATE {collation}"
    # In another character set than the column's a comparison might not use its index, nor find its value.
    return (lambda text: f"_{charset} {octets(text.encode())}") if kind in CHARACTERS else literal


def _checked(column: Column, pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise NotLossless(f"column {column.name} ({column.type}) holds {text!r}, which is no such value.")
    return text
