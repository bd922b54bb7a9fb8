"""When can a map say which rows were archived: keys close together, and versions that had ended before the plan."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from airflow_dbhygiene.databases.postgres.keymap import archived
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Column, Selection
from airflow_dbhygiene.policy.names import TableName

EPOCH = 2**32


def condition(keys: Sequence[int], version: int, settled: int, kind: str = "bigint") -> str | None:
    """Give the condition for rows of one version."""
    column = Column("id", kind, "native")
    selection = Selection(TableName("public", "events"), (column,), ("id",), ("id",), "true")
    arrow = {"bigint": pa.int64(), "integer": pa.int32(), "smallint": pa.int16(), "text": pa.string()}[kind]
    values = [str(key) for key in keys] if kind == "text" else keys
    rows = pa.table({"id": pa.array(values, arrow), VERSION_COLUMN: pa.array([version] * len(keys), pa.int64())})
    found = archived(selection, rows, settled)
    return found.as_string() if found else None


@pytest.mark.parametrize(
    ("version", "settled"),
    [(1_000, 1_001), (EPOCH - 5, EPOCH + 100), (5, 5 * EPOCH + 6), (2**31 + 8, 3 * EPOCH + 7)],
    ids=["the one before", "before the numbers came round", "many rounds later", "two billion before"],
)
def test_a_version_that_had_ended_is_told_by_its_age(version: int, settled: int) -> None:
    """Transaction numbers go round in a circle."""
    found = condition([3, 4, 6], version, settled)
    assert found is not None
    assert f"'{settled % EPOCH}'::xid" in found
    assert "BETWEEN '3'::bigint AND '6'::bigint" in found
    assert "decode('0b', 'hex')" in found  # 3, 4 and 6 are the bits 0, 1 and 3


@pytest.mark.parametrize(
    ("version", "settled"),
    [(1_001, 1_001), (1_002, 1_001), (2**31 + 7, 3 * EPOCH + 7), (2, 1_000), (1_000, 0)],
    ids=[
        "not ended yet",
        "later",
        "older than can be told",
        "frozen before xmin was kept",
        "planned by an older version",
    ],
)
def test_any_other_version_is_compared_later(version: int, settled: int) -> None:
    """The server sends back what it deleted."""
    assert condition([3, 4, 6], version, settled) is None


@pytest.mark.parametrize(("keys", "kind"), [([1, 1_000], "bigint"), ([1, 2], "text"), ([], "integer")])
def test_keys_far_apart_and_other_keys_have_no_map(keys: list[int], kind: str) -> None:
    """It would be larger than the keys, or there is none."""
    assert condition(keys, 1_000, 1_001, kind) is None


@pytest.mark.parametrize(("keys", "kind"), [([-32_768, -32_700], "smallint"), ([2**31 - 90, 2**31 - 1], "integer")])
def test_smaller_numbers_have_one(keys: list[int], kind: str) -> None:
    """Of either sign."""
    assert condition(keys, 1_000, 1_001, kind) is not None
