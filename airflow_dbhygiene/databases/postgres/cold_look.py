"""Can this cold table hold the rows? What stands against it, and what would make it or bring it up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql

from airflow_dbhygiene.databases import cold
from airflow_dbhygiene.databases.cold import Outlook
from airflow_dbhygiene.policy.names import TableName

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.databases.protocol import Column, Selection

PLACE: Final = "dbhygiene_place"
OWN: Final = (*cold.OWN, PLACE)
"""A cold table's own columns; the last says where a row lay in the table that it was copied from, if it is there."""
_OWN_TYPES: Final = ("bigint", "bigint", "xid", "timestamp with time zone", "integer", "text", "tid")

_SCHEMA: Final[LiteralString] = """
SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.has_schema_privilege(n.oid, 'CREATE')
FROM pg_catalog.pg_namespace n WHERE n.nspname = %s
"""
_TABLE: Final[LiteralString] = """
SELECT c.oid, c.relkind::text, c.relispartition, c.relhassubclass,
       EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled <> 'D'),
       EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid),
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT')
           AND pg_catalog.has_table_privilege(c.oid, 'DELETE'),
       pg_catalog.pg_has_role(c.relowner, 'USAGE')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""
_UNLOGGED: Final[LiteralString] = """
SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relpersistence = 'u'
"""
_COLUMNS: Final[LiteralString] = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


def look(session: PostgresSession, selection: Selection, table: TableName) -> Outlook:
    """See whether the table can hold the rows, and what has to be done before."""
    with session.transaction(search_path="pg_catalog"):
        refusals = [
            *_schema_refusals(session, table),
            *_unlogged(session, table),
            *_unknown_types(session, selection),
            *_own_names(selection),
        ]
        if refusals:
            return Outlook(tuple(refusals))
        rows = session.execute(_TABLE, (table.schema, table.table))
        if not rows:
            statements = [*_create(session, selection, table), *_create_texts(session, table)]
            return Outlook(tuple(_may_create(session, table)), tuple(statements))
        oid, *state = rows[0]
        refusals += _table_refusals(session, table, *state)
        if refusals:
            return Outlook(tuple(refusals))
        found = dict(session.execute(_COLUMNS, (oid,)))
        refusals += _column_refusals(session, selection, table, found)
        gained = [column for column in selection.columns if column.name not in found]
        if gained and not state[-1] and not refusals:
            refusals.append(f"role {_role(session)} may not add column {gained[0].name}, which only its owner may.")
        statements = [*_add(session, table, gained), *_create_texts(session, table)]
    return Outlook(tuple(refusals), tuple(statements))


def change(session: PostgresSession, statements: Sequence[str]) -> None:
    """Make the table, or bring it up to date, in one transaction; a twin's lock on the schema is waited for."""
    with session.transaction(lock_seconds=5):
        for statement in statements:
            session.execute(statement)


def _schema_refusals(session: PostgresSession, table: TableName) -> Iterator[str]:
    rows = session.execute(_SCHEMA, (table.schema,))
    schema, role = _quoted(session, table.schema), _role(session)
    if not rows:
        yield f"its schema does not exist: CREATE SCHEMA {schema} AUTHORIZATION {role};"
    elif not rows[0][0]:
        yield f"role {role} may not use its schema: GRANT USAGE, CREATE ON SCHEMA {schema} TO {role};"


def _unlogged(session: PostgresSession, table: TableName) -> Iterator[str]:
    for name in (table, TableName(table.schema, cold.TEXTS)):
        if session.execute(_UNLOGGED, (name.schema, name.table)):
            quoted = session.render(sql.Identifier(name.schema, name.table))
            yield f"{name} is unlogged, so that a crash of the server empties it: ALTER TABLE {quoted} SET LOGGED;"


def _may_create(session: PostgresSession, table: TableName) -> Iterator[str]:
    if not session.execute(_SCHEMA, (table.schema,))[0][1]:
        role = _role(session)
        yield f"role {role} may not create it: GRANT CREATE ON SCHEMA {_quoted(session, table.schema)} TO {role};"


def _unknown_types(session: PostgresSession, selection: Selection) -> Iterator[str]:
    for column in selection.columns:
        if session.execute("SELECT pg_catalog.to_regtype(%s)", (column.type,))[0][0] is None:
            yield f"column {column.name} has type {column.type}, which does not exist there: create the type there too."


def _own_names(selection: Selection) -> Iterator[str]:
    for column in selection.columns:
        if column.name in OWN:
            yield f"column {column.name} has a name that every cold table uses itself: rename it."


def _table_refusals(  # noqa: PLR0913, PLR0917 - what the catalogue says of it
    session: PostgresSession,
    table: TableName,
    kind: str,
    partition: bool,  # noqa: FBT001
    parent: bool,  # noqa: FBT001
    triggers: bool,  # noqa: FBT001
    rules: bool,  # noqa: FBT001
    usable: bool,  # noqa: FBT001
    _: bool,  # noqa: FBT001
) -> Iterator[str]:
    if kind != "r" or partition or parent:
        yield "it is a view, a partition or the like: only an ordinary table of its own can be a cold table."
    if triggers or rules:
        yield "it has triggers or rules, which could change rows on their way: drop them."
    if not usable:
        role, name = _role(session), session.render(sql.Identifier(table.schema, table.table))
        yield f"role {role} lacks rights on it: GRANT SELECT, INSERT, DELETE ON {name} TO {role};"


def _column_refusals(
    session: PostgresSession, selection: Selection, table: TableName, found: dict[str, str]
) -> Iterator[str]:
    if missing := [name for name, kind in zip(OWN, _OWN_TYPES, strict=True) if found.get(name) != kind]:
        yield f"it has no column {missing[0]}, so that it is no cold table: name a table that does not exist yet."
        return
    known = {column.name: column for column in selection.columns}
    alter = f"ALTER TABLE {session.render(sql.Identifier(table.schema, table.table))}"
    for name, kind in found.items():
        quoted = _quoted(session, name)
        if name not in known and name not in OWN:
            yield (
                f"column {name} is no longer in {selection.table}, and rows archived before have values in it: "
                f"name another cold table, or give them up for good: {alter} DROP COLUMN {quoted};"
            )
        elif name in known and known[name].type != kind:
            yield (
                f"column {name} is {kind} there and {known[name].type} in {selection.table}: "
                f"{alter} ALTER COLUMN {quoted} TYPE {known[name].type}; or name another cold table."
            )


def _create(session: PostgresSession, selection: Selection, table: TableName) -> Iterator[str]:
    own = [f"{name} {kind}{' NOT NULL' * (name != PLACE)}" for name, kind in zip(OWN, _OWN_TYPES, strict=True)]
    columns = [*own, *(_definition(session, column) for column in selection.columns)]
    columns.append(f"PRIMARY KEY ({cold.OBJECT}, {cold.ORDINAL})")
    name = session.render(sql.Identifier(table.schema, table.table))
    yield f"CREATE TABLE {name} (\n  " + ",\n  ".join(columns) + "\n)"
    key = ", ".join(_quoted(session, column) for column in selection.key)
    yield f"CREATE INDEX ON {name} ({key})"


def _create_texts(session: PostgresSession, table: TableName) -> Iterator[str]:
    if not session.execute(_TABLE, (table.schema, cold.TEXTS)):
        name = session.render(sql.Identifier(table.schema, cold.TEXTS))
        yield f"CREATE TABLE IF NOT EXISTS {name} (name text PRIMARY KEY, text text NOT NULL)"


def _add(session: PostgresSession, table: TableName, gained: Sequence[Column]) -> Iterator[str]:
    name = session.render(sql.Identifier(table.schema, table.table))
    for column in gained:
        yield f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {_definition(session, column)}"


def _definition(session: PostgresSession, column: Column) -> str:
    return f"{_quoted(session, column.name)} {column.type}"


def _quoted(session: PostgresSession, name: str) -> str:
    return session.render(sql.Identifier(name))


def _role(session: PostgresSession) -> str:
    return str(session.execute("SELECT pg_catalog.quote_ident(current_user)")[0][0])
