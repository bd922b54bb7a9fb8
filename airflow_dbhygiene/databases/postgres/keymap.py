"""Archived keys that are whole numbers, as a map of bits in which the server looks up each row before it deletes it.

Nothing has to be returned and compared then: rows whose key is in the map and whose version is as old as the run's plan
are the archived ones, and if their number is right, they are all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from psycopg import sql

from airflow_dbhygiene.databases.postgres.pairs import as_numpy
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_dbhygiene.databases.protocol import Selection

_MOST_BITS_PER_ROW: Final = 64
"""A map of keys that are further apart would be larger than the keys themselves."""
_VERSIONS: Final = 2**32
_WHOLE_NUMBERS: Final = ("smallint", "integer", "bigint")
_FIRST_ORDINARY: Final = 3
"""Versions below it stand for rows that are as old as the database."""


def archived(selection: Selection, rows: pa.Table, settled: int) -> sql.Composed | None:
    """Write the condition that a row is one of these, as it was archived; None where a map cannot say so.

    :param rows: archived keys and versions
    :param settled: transactions before this one had ended when the run was planned, and so before its rows were read;
        0 where an older version planned it, and did not look
    """
    keys = _keys(selection, rows) if settled else None
    if keys is None or not _all_precede(as_numpy(rows.column(VERSION_COLUMN), np.int64), settled):
        return None
    first, last = int(keys.min()), int(keys.max())
    if last - first >= _MOST_BITS_PER_ROW * len(keys):
        return None
    return _CONDITION.format(
        table=sql.Identifier(selection.table.schema, selection.table.table),
        key=sql.Identifier(selection.key[0]),
        settled=sql.Literal(str(settled % _VERSIONS)),
        first=sql.Literal(str(first)),
        last=sql.Literal(str(last)),
        map=sql.Literal(_map(keys - first).hex()),
    )


def _keys(selection: Selection, rows: pa.Table) -> Any:
    column = next(column for column in selection.columns if column.name == selection.key[0])
    if len(selection.key) > 1 or column.form != "native" or column.type not in _WHOLE_NUMBERS or not rows.num_rows:
        return None
    return as_numpy(rows.column(column.name), _WIDTHS[column.type]).astype(np.int64)


def _all_precede(versions: Any, settled: int) -> bool:
    """Tell whether all versions were written before a transaction, as the server counts, which is in a circle."""
    distance = (settled - versions) % _VERSIONS
    return bool(((versions >= _FIRST_ORDINARY) & (distance > 0) & (distance < _VERSIONS // 2)).all())


def _map(places: Any) -> bytes:
    """Set a bit for each place, as get_bit counts them."""
    bits = np.zeros(int(places.max()) + 1, np.uint8)
    bits[places] = 1
    return np.packbits(bits, bitorder="little").tobytes()


_WIDTHS: Final = {"smallint": np.int16, "integer": np.int32, "bigint": np.int64}

# After two billion transactions more the age of `settled` is negative, and says so.
_CONDITION = sql.SQL(
    "pg_catalog.age({settled}::xid) >= 0 AND pg_catalog.age({table}.xmin) > pg_catalog.age({settled}::xid)"
    " AND CASE WHEN {key} BETWEEN {first}::bigint AND {last}::bigint"
    " THEN pg_catalog.get_bit(pg_catalog.decode({map}, 'hex'), {key}::bigint - {first}::bigint) = 1 ELSE false END"
)
