"""Putting archived rows back, and asking the server whether they came back as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.databases.mysql.catalog import types_of
from airflow_dbhygiene.databases.mysql.condition import checked
from airflow_dbhygiene.databases.mysql.drivers import errno_of
from airflow_dbhygiene.databases.mysql.rows import ORDINAL, beside, version_sql
from airflow_dbhygiene.databases.mysql.types import character_set
from airflow_dbhygiene.databases.mysql.writing import lenient, listed, quoted, spelled
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Restored
from airflow_dbhygiene.errors import NotFound, SchemaChanged, StatementFailed

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Column, Selection
    from airflow_dbhygiene.policy.names import TableName

_TARGET: Final = """
SELECT column_name, generation_expression IS NOT NULL AND generation_expression <> ''
FROM information_schema.columns WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position
"""
_UNIQUE: Final = """
SELECT index_name, column_name, sub_part FROM information_schema.statistics
WHERE table_schema = %s AND table_name = %s AND non_unique = 0
ORDER BY index_name, seq_in_index
"""
_VERSION: Final = quoted(VERSION_COLUMN)
_DUPLICATE: Final = 1062

_Part = tuple[str | None, int | None]
"""Of an index: a column, None for an expression, and how much of it, None for all."""


def restore_rows(
    session: MySqlSession, selection: Selection, rows: pa.Table, target: TableName, where: str | None
) -> Restored:
    """Insert archived rows whose keys are free, and compare what the table then holds with the archive, by digest.

    Works inside the caller's transaction. A row whose key, or any other unique value, exists again is left alone.

    :param where: SQL condition that narrows the rows down
    :raises SchemaChanged: when the target lacks an archived column, or its triggers changed a row on its way in
    """
    columns = _insertable(session, selection, target)
    with beside(session, rows, _collated(session, selection, target)) as check:
        if where is not None:
            others = f"DELETE FROM {check} WHERE ({checked(session, where, 'where')}) IS NOT TRUE"
            session.execute(lenient(others, mariadb=session.flavour.mariadb))
        wanted = int(session.execute(f"SELECT count(*) FROM {check}")[0][0])
        for unique in _unique_keys(session, selection, target):
            session.execute(_drop_existing(check, target, unique))
        inserted = _insert(session, check, target, listed(columns))
        equal = int(session.execute(_count_equal(selection, check, target))[0][0])
    if inserted != equal:
        message = (
            f"{inserted - equal} of {inserted} rows came back changed into {target}: has it INSERT triggers, or "
            f"columns that are computed in another way now?"
        )
        raise SchemaChanged(message)
    return Restored(restored=inserted, existing=wanted - inserted)


def _insertable(session: MySqlSession, selection: Selection, target: TableName) -> list[str]:
    """Name the columns to insert into: all that were archived, but those that the server computes."""
    found = dict(session.execute(_TARGET, (target.schema, target.table)))
    if not found:
        raise NotFound(f"table {target} does not exist, or the user may not see it.")
    names = [column.name for column in selection.columns]
    if missing := [name for name in names if name not in found]:
        message = f"table {target} has no column {missing[0]}, which the archive has: add it, or restore into another."
        raise SchemaChanged(message)
    return [name for name in names if not found[name]]


def _collated(session: MySqlSession, selection: Selection, target: TableName) -> list[Column]:
    """Give the archived columns the collations that the target has now: two of one character set do not compare."""
    found = types_of(session, target)
    return [replace(column, type=_collated_type(column, found[column.name])) for column in selection.columns]


def _collated_type(column: Column, found: str) -> str:
    charset = character_set(column)
    if charset is None or charset != character_set(replace(column, type=found)):
        return column.type
    return f"{column.type.rpartition(' COLLATE ')[0]} COLLATE {found.rpartition(' COLLATE ')[2]}"


def _unique_keys(session: MySqlSession, selection: Selection, target: TableName) -> list[list[_Part]]:
    """Give the unique indexes of archived columns; what collides on others, or on expressions, only an INSERT tells."""
    archived = {column.name for column in selection.columns}
    keys: dict[str, list[_Part]] = {}
    for index, column, length in session.execute(_UNIQUE, (target.schema, target.table)):
        keys.setdefault(str(index), []).append((column, length))
    return [parts for parts in keys.values() if all(column in archived for column, _ in parts)]


def _drop_existing(check: str, target: TableName, unique: list[_Part]) -> str:
    """Leave out what exists again: INSERT IGNORE would hide every other fault too."""
    same = " AND ".join(f"{_part_sql('hot', part)} = {_part_sql('archived', part)}" for part in unique)
    return f"DELETE archived FROM {check} AS archived JOIN {spelled(target)} AS hot ON {same}"


def _part_sql(owner: str, part: _Part) -> str:
    column, length = part
    name = f"{owner}.{quoted(str(column))}"
    return name if length is None else f"left({name}, {int(length)})"


def _insert(session: MySqlSession, check: str, target: TableName, names: str) -> int:
    """Insert all rows at once; where one collides all the same each by itself, so that only that one is left out."""
    insert = f"INSERT INTO {spelled(target)} ({names}) SELECT {names} FROM {check}"
    if _inserted(session, insert):
        return int(session.execute(f"SELECT count(*) FROM {check}")[0][0])
    inserted = 0
    for (ordinal,) in session.execute(f"SELECT {ORDINAL} FROM {check}"):
        if _inserted(session, f"{insert} WHERE {ORDINAL} = {ordinal}"):
            inserted += 1
        else:
            session.execute(f"DELETE FROM {check} WHERE {ORDINAL} = {ordinal}")
    return inserted


def _inserted(session: MySqlSession, insert: str) -> bool:
    """Run an INSERT; False when a unique value stands against it, and nothing was inserted."""
    try:
        session.execute(insert)
    except StatementFailed as error:
        if isinstance(error.__cause__, Exception) and errno_of(error.__cause__) == _DUPLICATE:
            return False
        raise
    return True


def _count_equal(selection: Selection, check: str, target: TableName) -> str:
    same = " AND ".join(f"hot.{quoted(name)} = archived.{quoted(name)}" for name in selection.key)
    return (
        f"SELECT count(*) FROM {check} AS archived STRAIGHT_JOIN {spelled(target)} AS hot ON {same}"
        f" WHERE {version_sql(selection, 'hot.')} = archived.{_VERSION}"
    )
