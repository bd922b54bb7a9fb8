"""Deleting them: first a whole range at once, compared exactly; where that differs, row by row.

The range is fast because the server walks one index and gives all deleted rows' keys and versions back as one value, in
its own binary form of a record, which is compared with the same bytes made from the archive. Nothing is committed here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from psycopg import sql

from airflow_dbhygiene.databases.postgres.rows import arrow_schema, arrow_type, place_of, text_of
from airflow_dbhygiene.databases.postgres.walk import compare
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.databases.protocol import Column, Selection

_XID = 28
_OIDS = {
    "boolean": 16,
    "bytea": 17,
    "bigint": 20,
    "smallint": 21,
    "integer": 23,
    "text": 25,
    "character": 1042,
    "character varying": 1043,
    "date": 1082,
    "timestamp": 1114,
    "timestamptz": 1184,
}
"""pg_type.oid of the types that a key may have natively: fixed for all versions."""

_VERSION_BYTES = 4
_DAYS_TO_2000 = 10_957
_MICROSECONDS_TO_2000 = 946_684_800_000_000


def delete(session: PostgresSession, selection: Selection, rows: pa.Table, held: str | None) -> bool:
    """Delete the range that the archived rows span; tell whether exactly these, in these versions, were deleted.

    :param rows: the batch's archived keys and versions, in the order of the walk
    :param held: condition of the rows that a legal hold protects
    """
    returned: bytes = session.execute_binary(_range(selection, rows, held))[0][0] or b""
    expected = encode_keys(selection, rows)
    return returned == expected or (len(returned) == len(expected) and _same_records(selection, returned, expected))


def delete_carefully(
    session: PostgresSession, selection: Selection, rows: pa.Table, ordinals: Sequence[int], held: str | None
) -> Outcomes:
    """Delete those archived rows that are still identical and not locked, and say what became of the others.

    A row that is locked, or that changes between the two statements, counts as locked: a later look decides.
    """
    values = {"archived": _archived(selection, rows, ordinals), **_parts(selection, held)}
    seen = {ordinal: state for ordinal, *state in session.execute(_LOOK.format(**values))}
    purged = {row[0] for row in session.execute(_DELETE.format(**values))}
    outcomes: dict[str, list[int]] = {"drifted": [], "held": [], "vanished": [], "locked": []}
    for ordinal in ordinals:
        if ordinal not in purged:
            outcomes[_outcome(seen.get(ordinal))].append(ordinal)
    return Outcomes(len(purged), **{name: tuple(found) for name, found in outcomes.items()})


def encode_keys(selection: Selection, rows: pa.Table) -> bytes:
    """Write (key, version) pairs as the server's ``record_send(ROW(key, xmin))`` does, one after the other.

    A record is its number of fields, then each field's type, length and binary form, all integers of four bytes.
    """
    fields = [_field(column, rows.column(column.name)) for column in _key_columns(selection)]
    fields.append(rows.column(VERSION_COLUMN).to_numpy().astype(">u4"))
    types = [*map(_type_oid, _key_columns(selection)), _XID]
    if all(isinstance(field, np.ndarray) for field in fields):
        return _fixed(types, fields, rows.num_rows)
    parts = [_cells(field) if isinstance(field, np.ndarray) else field for field in fields]
    count = struct.pack(">i", len(parts))
    return b"".join(
        count + b"".join(struct.pack(">ii", oid, len(value)) + value for oid, value in zip(types, record, strict=True))
        for record in zip(*parts, strict=True)
    )


def _range(selection: Selection, rows: pa.Table, held: str | None) -> sql.Composed:
    parts = _parts(selection, held)
    first, last = place_of(selection, rows, 0), place_of(selection, rows, rows.num_rows - 1)
    return sql.SQL(
        "WITH _dbhygiene_deleted AS ("
        "DELETE FROM {table} WHERE {first} AND {last} AND {stale} AND ({held}) IS NOT TRUE"
        " RETURNING pg_catalog.record_send(ROW({key}, xmin)) AS pair)"
        " SELECT pg_catalog.string_agg(pair, ''::bytea) FROM _dbhygiene_deleted"
    ).format(
        first=compare(selection, ">=", first),
        last=compare(selection, "<=", last),
        key=sql.SQL(", ").join(_returned(column) for column in _key_columns(selection)),
        **{name: parts[name] for name in ("table", "stale", "held")},
    )


def _key_columns(selection: Selection) -> list[Column]:
    columns = {column.name: column for column in selection.columns}
    return [columns[name] for name in selection.key]


def _returned(column: Column) -> sql.Composable:
    name = sql.Identifier(column.name)
    return name if column.form == "native" else sql.SQL("{}::text").format(name)


def _parts(selection: Selection, held: str | None) -> dict[str, sql.Composable]:
    table = sql.Identifier(selection.table.schema, selection.table.table)
    joined = [
        sql.SQL("{table}.{name} = _dbhygiene_archived.{alias}").format(
            table=table, name=sql.Identifier(name), alias=sql.Identifier(f"_dbhygiene_key_{i}")
        )
        for i, name in enumerate(selection.key)
    ]
    return {
        "table": table,
        "bare_table": sql.Identifier(selection.table.table),
        "same_key": sql.SQL(" AND ").join(joined),
        "stale": sql.SQL("({})").format(sql.SQL(selection.predicate)),
        "held": sql.SQL(held or "false"),
    }


_LOOK = sql.SQL(
    "SELECT _dbhygiene_ordinal, {table}.xmin::text::bigint = _dbhygiene_version, {stale} IS TRUE, ({held}) IS TRUE"
    " FROM {archived} JOIN {table} ON {same_key}"
)

_DELETE = sql.SQL(
    "WITH _dbhygiene_locked AS ("
    "SELECT _dbhygiene_archived.* FROM {archived} JOIN {table} ON {same_key}"
    " WHERE {table}.xmin::text::bigint = _dbhygiene_version AND {stale} AND ({held}) IS NOT TRUE"
    " FOR UPDATE OF {bare_table} SKIP LOCKED)"
    " DELETE FROM {table} USING _dbhygiene_locked AS _dbhygiene_archived"
    " WHERE {same_key} AND {table}.xmin::text::bigint = _dbhygiene_version AND {stale} AND ({held}) IS NOT TRUE"
    " RETURNING _dbhygiene_ordinal"
)


def _archived(selection: Selection, rows: pa.Table, ordinals: Sequence[int]) -> sql.Composed:
    """Give the archived keys, versions and ordinals as a table that SQL can join."""
    arrays: list[sql.Composable] = [sql.SQL("{}::bigint[]").format(sql.Literal(list(ordinals)))]
    arrays.append(sql.SQL("{}::bigint[]").format(sql.Literal(rows.column(VERSION_COLUMN).to_pylist())))
    names = ["_dbhygiene_ordinal", "_dbhygiene_version"]
    for i, column in enumerate(_key_columns(selection)):
        texts = [text_of(value) for value in rows.column(column.name)]
        arrays.append(sql.SQL("{}::text[]::{}[]").format(sql.Literal(texts), sql.SQL(column.type)))
        names.append(f"_dbhygiene_key_{i}")
    return sql.SQL("unnest({}) AS _dbhygiene_archived({})").format(
        sql.SQL(", ").join(arrays), sql.SQL(", ").join(map(sql.Identifier, names))
    )


def _outcome(state: list[Any] | None) -> str:
    if state is None:
        return "vanished"
    same, stale, held = state
    if not same:
        return "drifted"
    if held:
        return "held"
    return "locked" if stale else "drifted"


def _field(column: Column, values: Any) -> Any:
    """Give a key column's values as the server's binary form has them: an array where all have one length."""
    kind = arrow_type(column)
    if pa.types.is_boolean(kind):
        return values.cast(pa.uint8()).to_numpy()
    if pa.types.is_integer(kind):
        return values.to_numpy().astype(f">i{kind.bit_width // 8}")
    if pa.types.is_date(kind):
        return (values.cast(pa.int32()).to_numpy() - _DAYS_TO_2000).astype(">i4")
    if pa.types.is_timestamp(kind):
        return (values.cast(pa.int64()).to_numpy() - _MICROSECONDS_TO_2000).astype(">i8")
    if pa.types.is_decimal(kind):
        return [f"{value:f}".encode() for value in values.to_pylist()]
    return [value if isinstance(value, bytes) else value.encode() for value in values.to_pylist()]


def _cells(values: Any) -> list[bytes]:
    """Cut an array's bytes apart: its single items would lose their byte order."""
    data, size = values.tobytes(), values.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def _fixed(types: list[int], fields: list[Any], rows: int) -> bytes:
    layout: list[tuple[str, Any]] = [("fields", ">i4")]
    for i, field in enumerate(fields):
        layout += [(f"type{i}", ">i4"), (f"length{i}", ">i4"), (f"value{i}", field.dtype)]
    records = np.empty(rows, dtype=layout)
    records["fields"] = len(fields)
    for i, (oid, field) in enumerate(zip(types, fields, strict=True)):
        records[f"type{i}"] = oid
        records[f"length{i}"] = field.dtype.itemsize
        records[f"value{i}"] = field
    return records.tobytes()


def _same_records(selection: Selection, body: bytes, expected: bytes) -> bool:
    """Tell whether two bodies of one length hold the same records, in whatever order the server deleted them."""
    length = _record_length(selection)
    if length is None:
        return sorted(_records(body)) == sorted(_records(expected))
    return _sorted(body, length) == _sorted(expected, length)


def _record_length(selection: Selection) -> int | None:
    """Give the bytes of one record, None where a key column's values have different lengths."""
    empty = arrow_schema(selection).empty_table()
    fields = [_field(column, empty.column(column.name)) for column in _key_columns(selection)]
    if not all(isinstance(field, np.ndarray) for field in fields):
        return None
    return int(4 + sum(8 + field.dtype.itemsize for field in fields) + 8 + _VERSION_BYTES)


def _sorted(body: bytes, length: int) -> bytes:
    return np.sort(np.frombuffer(body, dtype=f"S{length}")).tobytes()


def _records(body: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(body):
        start = position
        (fields,) = struct.unpack_from(">i", body, position)
        position += 4
        for _ in range(fields):
            (length,) = struct.unpack_from(">i", body, position + 4)
            position += 8 + max(length, 0)
        yield body[start:position]


def _type_oid(column: Column) -> int:
    """Give the number that PostgreSQL itself has for the type in which a key column is returned."""
    if column.form != "native":
        return _OIDS["text"]
    return _OIDS[column.type.partition("(")[0].strip() if not column.type.startswith("timestamp") else _stamp(column)]


def _stamp(column: Column) -> str:
    return "timestamptz" if column.type.endswith("with time zone") else "timestamp"
