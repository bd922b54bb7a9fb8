"""Putting archived rows back, and asking the server whether they came back as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from airflow_dbhygiene.databases.postgres.condition import checked
from airflow_dbhygiene.databases.postgres.rows import CHECK, check_table, load
from airflow_dbhygiene.databases.protocol import Restored
from airflow_dbhygiene.errors import NotFound, SchemaChanged

if TYPE_CHECKING:
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


def restore_rows(
    session: PostgresSession, selection: Selection, rows: pa.Table, target: TableName, where: str | None
) -> Restored:
    """Insert archived rows whose keys are free, and compare them, bit for bit, with what the table then holds.

    Works inside the caller's transaction. A row whose key, or any other unique value, exists again is left alone.

    :param where: SQL condition that narrows the rows down
    :raises SchemaChanged: when the target lacks an archived column, or its triggers changed a row on its way in
    """
    columns = _insertable(session, selection, target)
    session.execute(check_table(selection))
    load(session, rows)
    if where is not None:
        condition = checked(session, where, "where")
        session.execute(_sql("DELETE FROM {check} WHERE ({where}) IS NOT TRUE", where=condition))
    wanted = int(session.execute(_sql("SELECT count(*) FROM {check}"))[0][0])
    inserted, equal = session.execute(_insert(selection, target, columns))[0]
    session.execute(_sql("DROP TABLE {check}"))
    if inserted != equal:
        message = (
            f"{inserted - equal} of {inserted} rows came back changed into {target}: does it have INSERT triggers, or "
            f"columns that are computed in another way now?"
        )
        raise SchemaChanged(message)
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


def _insert(selection: Selection, target: TableName, columns: list[str]) -> sql.Composed:
    """Insert what is free, and count how many of the inserted rows are the archived ones, image for image."""
    return _sql(
        "WITH _dbhygiene_inserted AS ("
        "INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {check}"
        " ON CONFLICT DO NOTHING RETURNING {all})"
        " SELECT count(*), count(*) FILTER (WHERE ROW({inserted})::record *= ROW({archived})::record)"
        " FROM _dbhygiene_inserted AS inserted JOIN {check} AS archived ON {keys}",
        target=sql.Identifier(target.schema, target.table),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        all=sql.SQL(", ").join(sql.Identifier(column.name) for column in selection.columns),
        inserted=sql.SQL(", ").join(sql.Identifier("inserted", column.name) for column in selection.columns),
        archived=sql.SQL(", ").join(sql.Identifier("archived", column.name) for column in selection.columns),
        keys=sql.SQL(" AND ").join(
            sql.SQL("inserted.{0} = archived.{0}").format(sql.Identifier(name)) for name in selection.key
        ),
    )


def _sql(text: str, **parts: Any) -> sql.Composed:
    return sql.SQL(text).format(check=sql.SQL("pg_temp.{}").format(sql.Identifier(CHECK)), **parts)
