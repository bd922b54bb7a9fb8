"""Keys and versions are written exactly as the server's record_send writes them."""

import datetime as dt
import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dbhygiene.databases.postgres.purge import _records, encode_keys
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


BOOL, INT8, INT2, INT4, TEXT, BPCHAR, DATE, TIMESTAMP, TIMESTAMPTZ, BYTEA, XID = (
    16, 20, 21, 23, 25, 1042, 1082, 1114, 1184, 17, 28,
)  # fmt: skip


def record(*fields: tuple[int, bytes]) -> bytes:
    """Write the fields' number, then each one's type, length and value."""
    written = (struct.pack(">ii", oid, len(value)) + value for oid, value in fields)
    return struct.pack(">i", len(fields)) + b"".join(written)


# What PostgreSQL sends for the value; the contract tests compare with servers, row by row.
KNOWN = [
    (INT8, ("bigint", "native"), 2**62, "4000000000000000"),
    (INT8, ("bigint", "native"), -1, "ffffffffffffffff"),
    (INT4, ("integer", "native"), -(2**31), "80000000"),
    (INT2, ("smallint", "native"), 258, "0102"),
    (BOOL, ("boolean", "native"), True, "01"),
    (BOOL, ("boolean", "native"), False, "00"),
    (DATE, ("date", "native"), dt.date(2000, 1, 2), "00000001"),
    (DATE, ("date", "native"), dt.date(1999, 12, 31), "ffffffff"),
    (TIMESTAMPTZ, ("timestamp with time zone", "native"), dt.datetime(2000, 1, 1, 0, 0, 0, 1, UTC), "0000000000000001"),
    (TIMESTAMP, ("timestamp without time zone", "native"), dt.datetime(1999, 12, 31, 23, 59, 59), "fffffffffff0bdc0"),  # noqa: DTZ001 - none
    (TEXT, ("text", "native"), "aü😀", "61c3bcf09f9880"),
    (BPCHAR, ("character(3)", "native"), "a  ", "612020"),
    (BYTEA, ("bytea", "native"), b"\x00\xff", "00ff"),
    (TEXT, ("uuid", "text"), "00000000-0000-0000-0000-000000000001", b"00000000-0000-0000-0000-000000000001".hex()),
    (TEXT, ("numeric", "text"), "1.50", b"1.50".hex()),
    (TEXT, ("numeric(10,2)", "decimal"), Decimal("1.50"), b"1.50".hex()),
    (TEXT, ("numeric(12,10)", "decimal"), Decimal("0.0000000001"), b"0.0000000001".hex()),
    (TEXT, ("numeric(12,10)", "decimal"), Decimal("0E-10"), b"0.0000000000".hex()),
]


@pytest.mark.parametrize(("oid", "kind", "value", "expected"), KNOWN, ids=lambda part: str(part)[:30])
def test_a_key_is_written_as_the_server_writes_it(oid: int, kind: tuple[str, str], value: Any, expected: str) -> None:
    """Byte for byte, with an unsigned four-byte version behind it."""
    written = encoded((Column("k", *kind),), (value, 2**32 - 1))
    assert written == record((oid, bytes.fromhex(expected)), (XID, b"\xff\xff\xff\xff"))


def test_keys_of_several_columns_keep_their_order() -> None:
    """Fixed and varying lengths mix."""
    columns = (Column("a", "boolean", "native"), Column("b", "text", "native"), Column("c", "integer", "native"))
    assert encoded(columns, (True, "x", 7, 5)) == record(
        (BOOL, b"\x01"), (TEXT, b"x"), (INT4, b"\x00\x00\x00\x07"), (XID, b"\x00\x00\x00\x05")
    )


def test_no_rows_are_no_bytes() -> None:
    """An empty batch equals an empty answer."""
    assert encoded((Column("a", "integer", "native"),)) == b""
    assert encoded((Column("a", "text", "native"),)) == b""


@given(st.lists(st.tuples(st.text(max_size=10), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**32 - 1))))
def test_records_come_apart_as_they_were_put_together(rows: list[tuple[str, int, int]]) -> None:
    """The slow comparison sees the same records as the fast one."""
    columns = (Column("a", "text", "native"), Column("b", "bigint", "native"))
    wanted = [
        record((TEXT, a.encode()), (INT8, struct.pack(">q", b)), (XID, struct.pack(">I", version)))
        for a, b, version in rows
    ]
    assert list(_records(encoded(columns, *rows))) == wanted


def test_a_null_field_has_no_bytes() -> None:
    """The server writes NULL as length -1."""
    null = struct.pack(">iii", 1, TEXT, -1)
    assert list(_records(null + record((TEXT, b"x")))) == [null, record((TEXT, b"x"))]


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
