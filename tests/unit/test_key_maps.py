"""When can a map say which rows were archived: keys close together, few versions, and none that may come again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pyarrow as pa
import pytest

from airflow_dbhygiene.databases.postgres.keymap import archived
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Column, Selection
from airflow_dbhygiene.policy.names import TableName

EPOCH = 2**32


def condition(keys: Sequence[int], versions: Sequence[int], planned_at: int, kind: str = "bigint") -> str | None:
    """Give the condition for rows of these versions, in turn."""
    column = Column("id", kind, "native")
    selection = Selection(TableName("public", "events"), (column,), ("id",), ("id",), "true")
    arrow = {"bigint": pa.int64(), "integer": pa.int32(), "smallint": pa.int16(), "text": pa.string()}[kind]
    values = [str(key) for key in keys] if kind == "text" else keys
    turns = [version for version, _ in zip(itertools.cycle(versions), keys, strict=False)]
    rows = pa.table({"id": pa.array(values, arrow), VERSION_COLUMN: pa.array(turns, pa.int64())})
    found = archived(selection, rows, planned_at)
    return found.as_string() if found else None


def test_a_map_has_a_bit_for_each_key() -> None:
    """And the condition names the transactions that wrote the rows."""
    found = condition([3, 4, 6], [1_000], 1_001)
    assert found is not None
    assert "xmin = ANY('{1000}'::xid[])" in found
    assert "BETWEEN '3'::bigint AND '6'::bigint" in found
    assert "decode('0b', 'hex')" in found  # 3, 4 and 6 are the bits 0, 1 and 3


@pytest.mark.parametrize(
    ("version", "planned_at", "told"),
    [
        (1_000, 1_001, True),
        (EPOCH - 5, EPOCH + 100, True),
        (5, 5 * EPOCH + 6, True),
        (2**31 + 8, 3 * EPOCH + 7, True),
        (1_001, 1_001, False),
        (1_002, 1_001, False),
        (2**31 + 7, 3 * EPOCH + 7, False),
    ],
)
def test_no_later_transaction_may_have_the_same_number(version: int, planned_at: int, told: bool) -> None:  # noqa: FBT001
    """A frozen row's number may come again while a run goes on: then the server sends back what it deleted."""
    assert (condition([3, 4, 6], [version], planned_at) is not None) == told


def test_rows_that_each_have_their_own_version_have_no_map() -> None:
    """To list their versions would take longer than to compare them."""
    assert condition(range(100), range(1_000, 1_100), 2_000) is None
    assert condition(range(100), range(1_000, 1_010), 2_000) is not None


@pytest.mark.parametrize(("keys", "kind"), [([1, 1_000], "bigint"), ([1, 2], "text"), ([], "integer")])
def test_keys_far_apart_and_other_keys_have_no_map(keys: list[int], kind: str) -> None:
    """It would be larger than the keys, or there is none."""
    assert condition(keys, [1_000], 1_001, kind) is None


@pytest.mark.parametrize(("keys", "kind"), [([-32_768, -32_760], "smallint"), ([2**31 - 9, 2**31 - 1], "integer")])
def test_smaller_numbers_have_one(keys: list[int], kind: str) -> None:
    """Of either sign."""
    assert condition(keys, [1_000], 1_001, kind) is not None
