"""What is this table? Read from PostgreSQL's own catalogue, with every refusal and warning by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from airflow_dbhygiene.databases.postgres import catalog_sql, repack
from airflow_dbhygiene.databases.postgres.types import TypeFact, form_of
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Column, Facts, Server, Shape, refuse_if_changed
from airflow_dbhygiene.errors import NotFound, PrivilegeMissing, ReadOnlyServer, StatementFailed
from airflow_dbhygiene.policy.archive import ColdTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.names import TableName


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of another table that points at ours.

    ``our_columns`` are compared as the server does when it checks the key: by their own collations.
    """

    name: str
    child: str
    child_columns: tuple[str, ...]
    our_columns: tuple[str, ...]
    action: str
    indexed: bool
    readable: bool


_COMPARISONS = frozenset({"<", "<=", "=", ">=", ">"})
_MOST_COLUMNS = 1_599
_KNOWS_MAINTAIN = 170000
_ODD = {
    "session_replication_role": "session_replication_role is replica, so that the server checks no foreign key",
    "quote_all_identifiers": "quote_all_identifiers is on, so that the server spells types in quotes",
}
_ACTIONS = {"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


def server(session: PostgresSession) -> Server:
    """Tell which server answers, and in which history.

    :raises ReadOnlyServer: when it is a standby or read-only
    :raises StatementFailed: when a setting of the role or database keeps it from checking foreign keys, or has it spell
        types in quotes
    """
    standby, read_only, system, timeline, transaction, odd = session.execute(catalog_sql.SERVER)[0]
    if standby or read_only == "on":
        what = "is a standby" if standby else "is read-only"
        raise ReadOnlyServer(f"the database server {what}: point the Airflow connection at the primary.")
    for setting in odd:
        raise StatementFailed(f"{_ODD[setting]}: ALTER ROLE … RESET {setting}; or ALTER DATABASE … RESET {setting};")
    return Server("postgresql", session.version, str(system), timeline, transaction)


def quoted(session: PostgresSession, table: TableName) -> str:
    """Write the table's name as SQL."""
    return session.render(sql.Identifier(table.schema, table.table))


def fingerprint(session: PostgresSession, table: TableName) -> str:
    """Digest everything about the table's schema that a purge relies on.

    :raises NotFound: when there is no such table
    """
    rows = session.execute(catalog_sql.FINGERPRINT, {"schema": table.schema, "table": table.table})
    if not rows:
        raise _not_found(table)
    return hashlib.sha256("\n".join(str(row[0]) for row in rows).encode()).hexdigest()


def inspect(session: PostgresSession, policy: Policy) -> Facts:
    """Read the table's facts, refusals and warnings.

    :raises NotFound: when there is no such table
    :raises StatementTimedOut: when the table changes meanwhile: half of the facts would be of another table
    """
    name = policy.table_name
    with session.transaction(search_path="pg_catalog"):
        before = fingerprint(session, name)
        table = table_row(session, name)
        columns, lossy = _columns(session, table["oid"], policy)
        key = _key(session, table["oid"])
        facts = {
            "columns": columns,
            "key": key,
            "ddl": _ddl(session, name, table["oid"], key),
            "fingerprint": before,
            "row_estimate": table["row_estimate"],
            "table_bytes": table["table_bytes"],
        }
        refusals = (*_refusals(session, policy, table, columns, key), *lossy)
        warnings = tuple(_warnings(session, table))
    refusals = (*refusals, *_operator_refusals(session, table["oid"]))
    refuse_if_changed(name, before, fingerprint(session, name))
    return Facts(name=name, refusals=refusals, warnings=warnings, **facts)


def shape(session: PostgresSession, policy: Policy) -> Shape:
    """Read the table's columns and key alone.

    :raises NotFound: when there is no such table
    :raises PrivilegeMissing: when the role may not read it; the message holds every GRANT that a run needs
    """
    with session.transaction(search_path="pg_catalog"):
        oid = _oid(session, policy.table_name)
        key = _key(session, oid)
        usage, select = session.execute(catalog_sql.PRIVILEGES, {"oid": oid})[0][:2]
        if not (usage and select):
            raise PrivilegeMissing(f"{policy.table}: {' '.join(_privilege_refusals(session, policy, oid, key))}")
        return Shape(policy.table_name, _columns(session, oid, policy)[0], key)


def ddl(session: PostgresSession, table: TableName) -> str:
    """Write the table's columns and key as SQL, a line for each."""
    with session.transaction(search_path="pg_catalog"):
        oid = _oid(session, table)
        return _ddl(session, table, oid, _key(session, oid))


def foreign_keys(session: PostgresSession, table: TableName) -> tuple[ForeignKey, ...]:
    """Give the foreign keys of any table that point at ours."""
    rows = session.execute(catalog_sql.FOREIGN_KEYS, {"oid": _oid(session, table)})
    return tuple(ForeignKey(n, c, tuple(cc), tuple(oc), *rest) for n, c, cc, oc, *rest in rows)


def table_row(session: PostgresSession, name: TableName) -> dict[str, Any]:
    """Read what the catalogue says of a table itself.

    :raises NotFound: when there is no such table
    """
    rows = session.execute(catalog_sql.TABLE, {"schema": name.schema, "table": name.table})
    if not rows:
        raise _not_found(name)
    fields = "oid kind persistence heap row_security tuples row_estimate table_bytes encoding all_leaves_heap".split()
    return dict(zip(fields, rows[0], strict=True))


def _oid(session: PostgresSession, name: TableName) -> int:
    rows = session.execute(catalog_sql.OID, {"schema": name.schema, "table": name.table})
    if not rows:
        raise _not_found(name)
    return int(rows[0][0])


def _not_found(name: TableName) -> NotFound:
    return NotFound(
        f"table {name} does not exist, or the role may not see its schema. Names are not folded to lower case."
    )


def _columns(session: PostgresSession, oid: int, policy: Policy) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    rows = session.execute(catalog_sql.COLUMNS, (oid,))
    as_text = set(policy.archive.as_text)
    if unknown := as_text - {row[0] for row in rows}:
        raise NotFound(f"archive.as_text names {min(unknown)!r}, which is not a column of {policy.table}.")
    columns, refusals = [], []
    for name, spelled, precision, scale, types in rows:
        # The fields of a record without a type come as text: a boolean too.
        facts = tuple(TypeFact(typename, kind, builtin == "t") for typename, kind, builtin in types)
        form = form_of(facts, precision, scale)
        if form is None:
            refusals.append(f"column {name} has type {spelled}, whose values cannot be archived exactly.")
        odd_values = form == "decimal" or spelled.startswith(("date", "timestamp"))  # NaN, infinite dates
        textual = name in as_text or (odd_values and isinstance(policy.archive, ColdTable))
        columns.append(Column(name, spelled, "text" if textual else form or "text"))
    return tuple(columns), tuple(refusals)


def _key(session: PostgresSession, oid: int) -> tuple[str, ...]:
    return tuple(row[0] for row in session.execute(catalog_sql.KEY, (oid,)))


def _ddl(session: PostgresSession, name: TableName, oid: int, key: tuple[str, ...]) -> str:
    lines = [f"  {row[0]}" for row in session.execute(catalog_sql.DDL, (oid,))]
    if key:
        lines.append(f"  PRIMARY KEY ({session.render(sql.SQL(', ').join(map(sql.Identifier, key)))})")
    return f"CREATE TABLE {quoted(session, name)} (\n" + ",\n".join(lines) + "\n)"


def _refusals(
    session: PostgresSession, policy: Policy, table: dict[str, Any], columns: tuple[Column, ...], key: tuple[str, ...]
) -> Iterator[str]:
    oid = {"oid": table["oid"]}
    yield from _kind_refusals(table)
    yield from _key_refusals(columns, key)
    for trigger, owner in session.execute(catalog_sql.DELETE_TRIGGERS, oid):
        yield f"trigger {trigger} on {owner} fires on DELETE and could change other rows: disable or drop it."
    for rule, owner in session.execute(catalog_sql.RULES, oid):
        yield f"rule {rule} on {owner} rewrites statements: drop it."
    for parent, child in session.execute(catalog_sql.INHERITANCE, oid):
        yield f"{child} inherits from {parent}, so that deletes reach its rows: purge the tables one by one."
    for foreign_key in foreign_keys(session, policy.table_name):
        yield from _foreign_key_refusals(foreign_key)
    for owner, publication in session.execute(catalog_sql.WITHOUT_IDENTITY, oid):
        yield (
            f"{owner} has no replica identity, and publication {publication} publishes its deletes, so that the server "
            f"refuses each of them: ALTER TABLE {owner} REPLICA IDENTITY DEFAULT;"
        )
    yield from _privilege_refusals(session, policy, table["oid"], key)


def _kind_refusals(table: dict[str, Any]) -> Iterator[str]:
    kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "c": "a type"}
    if table["kind"] not in "rp":
        yield f"it is {kinds.get(table['kind'], 'not a table')}: only ordinary and partitioned tables can be purged."
    elif not table["heap"] or not table["all_leaves_heap"]:
        yield "it, or one of its partitions, is not an ordinary heap table: rows there have no version to compare."
    if table["persistence"] == "t":
        yield "it is a temporary table of one session."
    if table["row_security"]:
        yield "row security would hide rows from this role: use a role with BYPASSRLS, or the owner."
    if table["encoding"] == "SQL_ASCII":
        yield "the database's encoding is SQL_ASCII: its text may be no text at all, and would not come back equal."
    elif table["encoding"] != "UTF8":
        yield (
            f"the database's encoding is {table['encoding']}, which cannot hold all that the ledger writes: move it to "
            f"a database with encoding UTF8."
        )
    if table["row_estimate"] is None:
        yield "its number of rows is unknown, so that guard.max_fraction cannot be checked: run ANALYZE on it once."


def _key_refusals(columns: tuple[Column, ...], key: tuple[str, ...]) -> Iterator[str]:
    if not key:
        yield "it has no primary key, so that a row could not be told from its twin: add one."
    if len(columns) > _MOST_COLUMNS:
        yield f"it has more than {_MOST_COLUMNS:,} columns: with their version its rows are too wide to be compared."
    for column in columns:
        if column.name in key and column.type in ("real", "double precision"):
            yield f"key column {column.name} is {column.type}: floating point is no identity."
        if column.name == VERSION_COLUMN:
            yield f"column {column.name} has the name that the archive uses for row versions: rename it."


def _operator_refusals(session: PostgresSession, oid: int) -> Iterator[str]:
    """Look with the role's own search_path: of citext, out of reach, PostgreSQL would take the operators of text."""
    for column, kind, operator, schema in session.execute(catalog_sql.OTHER_OPERATORS, (oid,)):
        if operator in _COMPARISONS:
            yield (
                f"key column {column} is {kind}, whose operators are not on this role's search_path, so that its order "
                f"would be another than the index's: add schema {schema} to it (ALTER ROLE … SET search_path)."
            )
        else:
            yield (
                f"key column {column} is {kind}, which is ordered by {operator} instead of by < and >: no walk can "
                f"follow such a key. Make other columns the primary key."
            )


def _foreign_key_refusals(foreign_key: ForeignKey) -> Iterator[str]:
    columns = ", ".join(foreign_key.child_columns)
    if action := _ACTIONS.get(foreign_key.action):
        yield (
            f"foreign key {foreign_key.name} of {foreign_key.child} ({columns}) is ON DELETE {action}: it would change "
            f"rows that were not archived. Make it NO ACTION."
        )
    if not foreign_key.readable:
        yield (
            f"foreign key {foreign_key.name} of {foreign_key.child} points at it, and this role may not read that "
            f"table: GRANT SELECT ON {foreign_key.child}."
        )
    if not foreign_key.indexed:
        yield (
            f"foreign key {foreign_key.name} of {foreign_key.child} has no index on ({columns}): each deleted row "
            f"would scan that table. CREATE INDEX CONCURRENTLY ON {foreign_key.child} ({columns})."
        )


def _privilege_refusals(session: PostgresSession, policy: Policy, oid: int, key: tuple[str, ...]) -> Iterator[str]:
    name = quoted(session, policy.table_name)
    rights = session.execute(catalog_sql.PRIVILEGES, {"oid": oid})[0]
    usage, select, delete, update, temporary, maintain, role, database = rights
    if not usage:
        schema = session.render(sql.Identifier(policy.table_name.schema))
        yield f"role {role} may not use its schema: GRANT USAGE ON SCHEMA {schema} TO {role};"
    if not (select and delete and update):
        column = session.render(sql.Identifier(key[0])) if key else "…"
        yield f"role {role} lacks rights on it: GRANT SELECT, DELETE, UPDATE ({column}) ON {name} TO {role};"
    if not temporary:
        yield f"role {role} may not create temporary tables: GRANT TEMPORARY ON DATABASE {database} TO {role};"
    if policy.reclaim == "optimize":
        yield from repack.refusals(session, policy.table_name)
    elif not maintain and policy.reclaim != "none":
        grant = f"GRANT MAINTAIN ON {name} TO {role}; or " if session.version >= _KNOWS_MAINTAIN else ""
        yield (
            f"role {role} may not {policy.reclaim} it, which only its owner may: {grant}set the policy's reclaim to "
            f"'none' and leave it to autovacuum, or make the role the table's owner."
        )


def _warnings(session: PostgresSession, table: dict[str, Any]) -> Iterator[str]:
    for publication, all_tables in session.execute(catalog_sql.PUBLICATIONS, {"oid": table["oid"]}):
        yield f"publication {publication} sends the deletes to its subscribers, which will delete the rows too."
        if all_tables:
            yield (
                f"publication {publication} is FOR ALL TABLES: its subscribers need the tables of schema dbhygiene, "
                f"or replication stops."
            )
