"""Archived keys that are whole numbers, as a map of bits in which the server looks up each row before it deletes it.

Nothing has to be returned and compared then: rows whose key is in the map, and which one of the transactions wrote that
wrote the archived rows, are the archived ones; and if their number is right, they are all of them.
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

_MOST_BITS_PER_ROW: Final = 16
"""A map of keys that are further apart would soon be larger than the keys themselves."""
_FEWEST_ROWS_PER_VERSION: Final = 10
"""To plan with a longer list of versions takes as long as what the map saves."""
_CIRCLE: Final = 2**32
_WIDTHS: Final = {"smallint": np.int16, "integer": np.int32, "bigint": np.int64}


def archived(selection: Selection, rows: pa.Table, planned_at: int) -> sql.Composed | None:
    """Write the condition that a row of an ordinary table is one of these, as it was archived.

    :param rows: archived keys and versions, of one object
    :param planned_at: the server's transaction number when the run was planned
    :returns: None where a map cannot say so: of other keys, of keys far apart, of rows that each have their own version
    """
    keys = _keys(selection, rows)
    versions = np.unique(as_numpy(rows.column(VERSION_COLUMN), np.int64))
    if keys is None or not _few(versions, len(keys)) or not _precede(versions, planned_at):
        return None
    first, last = int(keys.min()), int(keys.max())
    if last - first >= _MOST_BITS_PER_ROW * len(keys):
        return None
    return _CONDITION.format(
        table=sql.Identifier(selection.table.schema, selection.table.table),
        versions=sql.Literal("{" + ",".join(map(str, versions)) + "}"),
        key=sql.Identifier(selection.key[0]),
        first=sql.Literal(str(first)),
        last=sql.Literal(str(last)),
        map=sql.Literal(_map(keys - first).hex()),
    )


def _few(versions: Any, rows: int) -> bool:
    return len(versions) == 1 or len(versions) * _FEWEST_ROWS_PER_VERSION <= rows


def _precede(versions: Any, planned_at: int) -> bool:
    """Tell whether no transaction since the plan can have the number of one of these.

    Numbers go round in a circle, and a frozen row keeps its own for ever. A run ends before half a circle has gone by.
    """
    distance = (planned_at - versions) % _CIRCLE
    return bool(((distance > 0) & (distance < _CIRCLE // 2)).all())


def _keys(selection: Selection, rows: pa.Table) -> Any:
    column = next(column for column in selection.columns if column.name == selection.key[0])
    if len(selection.key) > 1 or column.form != "native" or column.type not in _WIDTHS or not rows.num_rows:
        return None
    return as_numpy(rows.column(column.name), _WIDTHS[column.type]).astype(np.int64)


def _map(places: Any) -> bytes:
    """Set a bit for each place, as get_bit counts them."""
    bits = np.zeros(int(places.max()) + 1, np.uint8)
    bits[places] = 1
    return np.packbits(bits, bitorder="little").tobytes()


_CONDITION = sql.SQL(
    "{table}.xmin = ANY({versions}::xid[])"
    " AND CASE WHEN {key} BETWEEN {first}::bigint AND {last}::bigint"
    " THEN pg_catalog.get_bit(pg_catalog.decode({map}, 'hex'), {key}::bigint - {first}::bigint) = 1 ELSE false END"
)
