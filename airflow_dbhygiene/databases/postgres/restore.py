"""Putting archived rows back, and asking the server whether they came back as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.errors import ExclusionViolation, UniqueViolation

from airflow_dbhygiene.databases.postgres.condition import checked
from airflow_dbhygiene.databases.postgres.rows import CHECK, check_table, fence, load
from airflow_dbhygiene.databases.protocol import Restored
from airflow_dbhygiene.errors import NotFound, RowsLocked, SchemaChanged

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.databases.protocol import Selection
    from airflow_dbhygiene.policy.names import TableName

_TARGET = """
SELECT a.attname, a.attgenerated <> ''
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

# ON CONFLICT refuses a table with any that is deferrable.
_UNIQUE = """
SELECT ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) ORDER BY a.attnum)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND i.indisunique AND i.indexprs IS NULL AND i.indpred IS NULL
  AND EXISTS (SELECT FROM pg_catalog.pg_index d WHERE d.indrelid = c.oid AND d.indisready AND NOT d.indimmediate)
ORDER BY i.indexrelid
"""


def restore_rows(
    session: PostgresSession, selection: Selection, rows: pa.Table, target: TableName, where: str | None
) -> Restored:
    """Insert archived rows whose keys are free, and compare them, bit for bit, with what the table then holds.

    Works inside the caller's transaction. A row whose key, or any other unique value, exists again is left alone.

    :param where: SQL condition that narrows the rows down
    :raises SchemaChanged: when the target lacks an archived column, or its triggers changed or swallowed a row
    :raises RowsLocked: when a row was left out for a key that came free meanwhile
    """
    columns = _insertable(session, selection, target)
    session.execute(check_table(selection))
    load(session, rows)
    if where is not None:
        condition = checked(session, where, "where")
        session.execute(_sql("DELETE FROM {check} WHERE ({where}) IS NOT TRUE", where=condition))
    wanted = int(session.execute(_sql("SELECT count(*) FROM {check}"))[0][0])
    inserted, equal = session.execute(_insert(selection, target, columns, _free(session, selection, target)))[0]
    if inserted != equal:
        message = (
            f"{inserted - equal} of {inserted} rows came back changed into {target}: does it have INSERT triggers, or "
            f"columns that are computed in another way now?"
        )
        raise SchemaChanged(message)
    if inserted < wanted:
        _refuse_swallowed(session, selection, target, columns)
    session.execute(_sql("DROP TABLE {check}"))
    return Restored(restored=int(inserted), existing=wanted - int(inserted))


def _insertable(session: PostgresSession, selection: Selection, target: TableName) -> list[str]:
    """Name the columns to insert into: all that were archived, but those that the server computes."""
    found = dict(session.execute(_TARGET, (target.schema, target.table)))
    if not found:
        raise NotFound(f"table {target} does not exist, or the role may not see its schema.")
    names = [column.name for column in selection.columns]
    if missing := [name for name in names if name not in found]:
        message = f"table {target} has no column {missing[0]}, which the archive has: add it, or restore into another."
        raise SchemaChanged(message)
    return [name for name in names if not found[name]]


def _free(session: PostgresSession, selection: Selection, target: TableName) -> sql.Composable:
    """Say which rows to insert: those against which nothing stands."""
    found = session.execute(_UNIQUE, {"schema": target.schema, "table": target.table})
    known = {column.name for column in selection.columns}
    unique = [names for (names,) in found if known.issuperset(names)]
    if not found:
        return sql.SQL("ON CONFLICT DO NOTHING")
    session.execute("SET CONSTRAINTS ALL IMMEDIATE")
    free: list[sql.Composable] = [
        _sql(
            "NOT EXISTS (SELECT 1 FROM {target} AS hot WHERE {equal})",
            target=sql.Identifier(target.schema, target.table),
            equal=_equal("hot", names),
        )
        for names in unique
    ]
    return sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(free or [sql.SQL("true")]))


def _insert(selection: Selection, target: TableName, columns: list[str], free: sql.Composable) -> sql.Composed:
    """Insert what is free, and count how many of the inserted rows are the archived ones, image for image."""
    return _sql(
        "WITH _dbhygiene_inserted AS ("
        "INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {check} AS archived"
        " {free} RETURNING {all})"
        " SELECT count(*), count(*) FILTER (WHERE same) FROM ("
        "SELECT ROW({inserted})::record *= ROW({archived})::record AS same"
        " FROM _dbhygiene_inserted AS inserted LEFT JOIN {check} AS archived ON {keys}{fence}) AS compared",
        free=free,
        fence=fence(selection),
        target=sql.Identifier(target.schema, target.table),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        all=sql.SQL(", ").join(sql.Identifier(column.name) for column in selection.columns),
        inserted=sql.SQL(", ").join(sql.Identifier("inserted", column.name) for column in selection.columns),
        archived=sql.SQL(", ").join(sql.Identifier("archived", column.name) for column in selection.columns),
        keys=_keys(selection, "inserted"),
    )


def _refuse_swallowed(session: PostgresSession, selection: Selection, target: TableName, columns: list[str]) -> None:
    """Look at rows that were left out though their key is free: another unique value of theirs must stand against it.

    Each is inserted once more, by itself and without a way out: then the server says what stands against it.
    """
    table = sql.Identifier(target.schema, target.table)
    absent = _sql(
        "SELECT ctid::text FROM {check} AS archived WHERE NOT EXISTS (SELECT 1 FROM {target} AS hot WHERE {keys})",
        target=table,
        keys=_keys(selection, "hot"),
    )
    for (place,) in session.execute(absent):
        again = _sql(
            "INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {check}"
            " WHERE ctid = {place}::tid",
            target=table,
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            place=sql.Literal(place),
        )
        if not _collides(session, again):
            message = (
                f"rows did not come back into {target} though their keys are free: does it have INSERT triggers, or "
                f"rules, that leave rows out or change their keys?"
            )
            raise SchemaChanged(message)


def _collides(session: PostgresSession, insert: sql.Composed) -> bool:
    """Tell whether another unique value, or an exclusion, stands against a row.

    :raises RowsLocked: when nothing stands against it any more
    """
    try:
        with session.connection.transaction():
            inserted = session.connection.execute(insert).rowcount
    except (UniqueViolation, ExclusionViolation):
        return True
    if inserted:
        raise RowsLocked("a row was left out for another one that went meanwhile: a retry brings it back.")
    return False


def _keys(selection: Selection, hot: str) -> sql.Composed:
    return _equal(hot, selection.key)


def _equal(hot: str, names: Sequence[str]) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{0} = {1}").format(sql.Identifier(hot, name), sql.Identifier("archived", name)) for name in names
    )


def _sql(text: str, **parts: Any) -> sql.Composed:
    return sql.SQL(text).format(check=sql.SQL("pg_temp.{}").format(sql.Identifier(CHECK)), **parts)
