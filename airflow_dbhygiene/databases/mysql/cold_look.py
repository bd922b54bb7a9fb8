"""Can this cold table hold the rows? What stands against it, and what would make it or bring it up to date."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.databases import cold
from airflow_dbhygiene.databases.cold import Outlook
from airflow_dbhygiene.databases.mysql import privileges
from airflow_dbhygiene.databases.mysql.catalog import types_of
from airflow_dbhygiene.databases.mysql.writing import listed, quoted, spelled
from airflow_dbhygiene.policy.names import TableName

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Column, Selection

_ASCII: Final = "CHARACTER SET ascii COLLATE ascii_bin"
_OWN_TYPES: Final = ("bigint", "bigint", "binary(32)", "datetime(6)", "int", f"varchar(128) {_ASCII}")
_DATABASE: Final = "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s"
_TABLE: Final = """
SELECT table_type = 'BASE TABLE' AND engine = 'InnoDB' FROM information_schema.tables
WHERE table_schema = %s AND table_name = %s
"""
_TRIGGERS: Final = """
SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = %s AND event_object_table = %s
"""
_TYPE: Final = re.compile(r"^(\w+)(?:\((\d+)\))?(.*)$", re.DOTALL)
_WIDER: Final = (
    ("tinyint", "smallint", "mediumint", "int", "bigint"),
    ("tinytext", "text", "mediumtext", "longtext"),
    ("tinyblob", "blob", "mediumblob", "longblob"),
)
_RIGHTS: Final = ("SELECT", "INSERT", "DELETE", "CREATE", "ALTER", "INDEX")


def look(session: MySqlSession, selection: Selection, table: TableName) -> Outlook:
    """See whether the table can hold the rows, and what has to be done before."""
    refusals = [*_database_refusals(session, table), *_own_names(selection)]
    if refusals:
        return Outlook(tuple(refusals))
    rows = session.execute(_TABLE, (table.schema, table.table))
    texts = _create_texts(session, table)
    if not rows:
        return Outlook((), (_create(selection, table), *texts))
    refusals += _table_refusals(session, table, ordinary=bool(rows[0][0]))
    found = types_of(session, table)
    refusals = refusals or [*_column_refusals(selection, table, found)]
    gained = [column for column in selection.columns if column.name not in found]
    return Outlook(tuple(refusals), (*_add(table, gained), *texts))


def change(session: MySqlSession, statements: Sequence[str]) -> None:
    """Make the table, or bring it up to date; each statement commits by itself, and may be run again."""
    for statement in statements:
        session.execute(statement)


def _database_refusals(session: MySqlSession, table: TableName) -> Iterator[str]:
    user, schema = privileges.user(session), quoted(table.schema)
    missing = privileges.missing(session, _RIGHTS, table)
    grant = f"GRANT {', '.join(missing)} ON {schema}.* TO {user};"
    if not session.execute(_DATABASE, (table.schema,)):
        create = f"CREATE DATABASE {schema};{f' {grant}' if missing else ''}"
        yield f"its database does not exist, or {user} may not see it: {create}"
    elif missing:
        yield f"user {user} lacks rights on it: {grant}"


def _own_names(selection: Selection) -> Iterator[str]:
    for column in selection.columns:
        if column.name.lower() in cold.OWN:
            yield f"column {column.name} has a name that every cold table uses itself: rename it."


def _table_refusals(session: MySqlSession, table: TableName, *, ordinary: bool) -> Iterator[str]:
    if not ordinary:
        yield "it is a view, system-versioned or not InnoDB: only an ordinary InnoDB table can be a cold table."
    for (trigger,) in session.execute(_TRIGGERS, (table.schema, table.table)):
        yield f"trigger {trigger} could change rows on their way: drop it."


def _column_refusals(selection: Selection, table: TableName, found: dict[str, str]) -> Iterator[str]:
    own = zip(cold.OWN, _OWN_TYPES, strict=True)
    if missing := [name for name, kind in own if _bare(found.get(name, "")) != _bare(kind)]:
        yield f"it has no column {missing[0]}, so that it is no cold table: name a table that does not exist yet."
        return
    known = {column.name: column for column in selection.columns}
    alter = f"ALTER TABLE {spelled(table)}"
    for name, kind in found.items():
        if name not in known and name not in cold.OWN:
            yield (
                f"column {name} is no longer in {selection.table}, and rows archived before have values in it: "
                f"name another cold table, or give them up for good: {alter} DROP COLUMN {quoted(name)};"
            )
        elif name in known and known[name].type != kind:
            modify = f"{alter} MODIFY COLUMN {_definition(known[name])}; or "
            yield (
                f"column {name} is {kind} there and {known[name].type} in {selection.table}: "
                f"{modify if _is_wider(known[name].type, kind) else ''}name another cold table."
            )


def _is_wider(kind: str, before: str) -> bool:
    """Tell whether every value has the same text in a type as before: digests of older archives are made of that."""
    (word, length, rest), (old_word, old_length, old_rest) = (_TYPE.findall(each)[0] for each in (kind, before))
    if rest != old_rest or "zerofill" in rest:
        return False
    if word == old_word and word in {"varchar", "varbinary"}:
        return int(length) > int(old_length)
    return any({word, old_word} <= set(kinds) and kinds.index(word) > kinds.index(old_word) for kinds in _WIDER)


def _bare(kind: str) -> str:
    """Leave out what only some versions say of a type: int(11), bigint(20)."""
    return kind if kind.startswith(("binary", "datetime", "varchar")) else kind.partition("(")[0]


def _create(selection: Selection, table: TableName) -> str:
    own = [f"{name} {kind} NOT NULL" for name, kind in zip(cold.OWN, _OWN_TYPES, strict=True)]
    lines = [
        *own,
        *map(_definition, selection.columns),
        f"PRIMARY KEY ({cold.OBJECT}, {cold.ORDINAL})",
        f"KEY dbhygiene_key ({listed(selection.key)})",
    ]
    body = ",\n  ".join(lines)
    return f"CREATE TABLE IF NOT EXISTS {spelled(table)} (\n  {body}\n) ENGINE=InnoDB ROW_FORMAT=DYNAMIC"


def _create_texts(session: MySqlSession, table: TableName) -> tuple[str, ...]:
    if session.execute(_TABLE, (table.schema, cold.TEXTS)):
        return ()
    name = spelled(TableName(table.schema, cold.TEXTS))
    columns = "name varchar(700) COLLATE utf8mb4_bin PRIMARY KEY, text longtext NOT NULL"
    return (f"CREATE TABLE IF NOT EXISTS {name} ({columns}) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4",)


def _add(table: TableName, gained: Sequence[Column]) -> tuple[str, ...]:
    if not gained:
        return ()
    return (f"ALTER TABLE {spelled(table)} " + ", ".join(f"ADD COLUMN {_definition(each)}" for each in gained),)


def _definition(column: Column) -> str:
    return f"{quoted(column.name)} {column.type} NULL"
