"""Keys and versions are written exactly as the server sends them."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dbhygiene.databases.postgres.pairs import encode_keys, expected, same_records
from airflow_dbhygiene.databases.postgres.rows import arrow_schema, place_of
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Column, Selection
from airflow_dbhygiene.policy.names import TableName

UTC = dt.UTC


def selection(*columns: Column) -> Selection:
    """Give a selection whose key is all of its columns."""
    names = tuple(column.name for column in columns)
    return Selection(TableName("s", "t"), columns, names, names, "true")


def encoded(columns: tuple[Column, ...], *rows: tuple[Any, ...]) -> bytes:
    """Encode rows of keys with a version at the end."""
    chosen = selection(*columns)
    names = [*chosen.key, VERSION_COLUMN]
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=arrow_schema(chosen))
    return encode_keys(chosen, table)


def varying(value: bytes) -> str:
    """Write a value of varying length behind its length."""
    return f"{len(value):08x}{value.hex()}"


def expected_reversed(chosen: Selection, rows: list[tuple[str, int, int]]) -> tuple[bytes, ...]:
    """Give the answer of a server that came by the rows in the other order."""
    schema = arrow_schema(chosen)
    written = [dict(zip(schema.names, row, strict=True)) for row in reversed(rows)]
    return expected(chosen, pa.Table.from_pylist(written, schema=schema))


# What PostgreSQL sends for the value; the contract tests compare with servers, row by row.
KNOWN = [
    (("bigint", "native"), 2**62, "4000000000000000"),
    (("bigint", "native"), -1, "ffffffffffffffff"),
    (("integer", "native"), -(2**31), "80000000"),
    (("smallint", "native"), 258, "0102"),
    (("boolean", "native"), True, "01"),
    (("boolean", "native"), False, "00"),
    (("date", "native"), dt.date(2000, 1, 2), "00000001"),
    (("date", "native"), dt.date(1999, 12, 31), "ffffffff"),
    (("timestamp with time zone", "native"), dt.datetime(2000, 1, 1, 0, 0, 0, 1, UTC), "0000000000000001"),
    (("timestamp(3) with time zone", "native"), dt.datetime(2000, 1, 1, 0, 0, 0, 2000, UTC), "00000000000007d0"),
    (("timestamp without time zone", "native"), dt.datetime(1999, 12, 31, 23, 59, 59), "fffffffffff0bdc0"),  # noqa: DTZ001 - none
    (("text", "native"), "aü😀", varying("aü😀".encode())),
    (("character(3)", "native"), "a  ", varying(b"a  ")),
    (("bytea", "native"), b"\x00\xff", varying(b"\x00\xff")),
    (("uuid", "text"), "00000000-0000-0000-0000-000000000001", varying(b"00000000-0000-0000-0000-000000000001")),
    (("numeric", "text"), "1.50", varying(b"1.50")),
    (("numeric(10,2)", "decimal"), Decimal("1.50"), varying(b"1.50")),
    (("numeric(12,10)", "decimal"), Decimal("0.0000000001"), varying(b"0.0000000001")),
    (("numeric(12,10)", "decimal"), Decimal("0E-10"), varying(b"0.0000000000")),
]


@pytest.mark.parametrize(("kind", "value", "written"), KNOWN, ids=lambda part: str(part)[:30])
def test_a_key_is_written_as_the_server_writes_it(kind: tuple[str, str], value: Any, written: str) -> None:
    """Byte for byte, with an unsigned four-byte version behind it."""
    assert encoded((Column("k", *kind),), (value, 2**32 - 1)) == bytes.fromhex(written + "ffffffff")


def test_keys_of_several_columns_keep_their_order() -> None:
    """Fixed and varying lengths mix."""
    columns = (Column("a", "boolean", "native"), Column("b", "text", "native"), Column("c", "integer", "native"))
    assert encoded(columns, (True, "x", 7, 5)).hex() == "01" + "0000000178" + "00000007" + "00000005"


def test_batches_strung_together_are_one_batch() -> None:
    """The fingerprint of an object does not tell in which batches it was read."""
    for kind in ("bigint", "text"):
        columns = (Column("a", kind, "native"), Column("b", "integer", "native"))
        rows = [(i if kind == "bigint" else str(i) * i, i, 100 + i) for i in range(7)]
        assert encoded(columns, *rows) == encoded(columns, *rows[:3]) + encoded(columns, *rows[3:])


def test_no_rows_are_no_bytes() -> None:
    """An empty batch equals an empty answer."""
    assert encoded((Column("a", "integer", "native"),)) == b""
    assert encoded((Column("a", "text", "native"),)) == b""


ROWS = st.lists(st.tuples(st.text(max_size=3), st.integers(-300, 300), st.integers(0, 300)), max_size=8)


@given(ROWS, ROWS, st.sampled_from([("a", "b"), ("b",)]))
def test_answers_are_the_same_when_their_records_are(
    mine: list[tuple[str, int, int]], theirs: list[tuple[str, int, int]], key: tuple[str, ...]
) -> None:
    """In whatever order; a cell that went from one record to another is a difference."""
    columns = (Column("a", "text", "native"), Column("b", "bigint", "native"))
    chosen = Selection(TableName("s", "t"), columns, key, key, "true")
    schema = arrow_schema(chosen)
    answers, records = [], []
    for rows in (mine, theirs):
        table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
        answers.append(expected(chosen, table))
        records.append(sorted(row if "a" in key else row[1:] for row in rows))
    assert same_records(chosen, *answers) == (records[0] == records[1])
    assert same_records(chosen, answers[0], expected_reversed(chosen, mine))


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (("numeric(12,10)", "decimal"), Decimal("0.0000000001"), "0.0000000001"),
        (("bytea", "native"), b"\x00\xff", "\\x00ff"),
        (("bigint", "native"), -5, "-5"),
        (("text", "native"), "5 o'clock", "5 o'clock"),
        (("timestamp with time zone", "native"), dt.datetime(2013, 1, 1, 5, tzinfo=UTC), "2013-01-01 05:00:00+00:00"),
    ],
)
def test_a_place_is_told_in_text_that_the_server_reads(kind: tuple[str, str], value: Any, text: str) -> None:
    """A bound in the ledger means the same place to the server again."""
    chosen = selection(Column("k", *kind))
    table = pa.Table.from_pylist([{"k": value, VERSION_COLUMN: 1}], schema=arrow_schema(chosen))
    assert place_of(chosen, table, 0) == (text,)
