"""What is this table? Read from the server's catalogue, with every refusal and warning by name."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.databases.mysql import catalog_sql, privileges
from airflow_dbhygiene.databases.mysql.types import (
    BYTES,
    FLOATS,
    LABELS,
    MOMENTS,
    SHAPES,
    character_set,
    form_of,
    kind_of,
)
from airflow_dbhygiene.databases.mysql.writing import listed, spelled
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Column, Facts, Server, Shape, refuse_if_changed
from airflow_dbhygiene.errors import NotFound, ReadOnlyServer
from airflow_dbhygiene.policy.archive import ColdTable
from airflow_dbhygiene.policy.names import TableName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.policy.model import Policy

_MARIADB_10_11: Final = 101100
_ACTIONS: Final = {1: "CASCADE", 2: "SET NULL"}
_ACTION_ON_DELETE: Final = 3
_NO_KEY: Final = FLOATS | LABELS | SHAPES | {"json", "vector"}
_SMALLEST_PAGE: Final = 16_384


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of another table, or of its own, that points at ours."""

    name: str
    child: TableName
    child_columns: tuple[str, ...]
    our_columns: tuple[str, ...]
    action: str | None
    indexed: bool


@dataclass(frozen=True)
class Index:
    """An index, and whether a walk may follow it: visible, of whole columns, ascending."""

    name: str
    columns: tuple[str, ...]
    walkable: bool


def server(session: MySqlSession) -> Server:
    """Tell which server answers.

    There is no timeline: a version is a digest of what a row holds, and means the same in any history. After a
    failover another server answers, and that is enough to plan anew.

    :raises ReadOnlyServer: when it is a replica or read-only
    """
    flavour = session.flavour
    statement = catalog_sql.SERVER_MYSQL
    if flavour.mariadb:
        new = flavour.version >= _MARIADB_10_11
        statement = catalog_sql.SERVER_MARIADB if new else catalog_sql.SERVER_MARIADB_OLD
    read_only, forbidden, identity = session.execute(statement)[0]
    if not (_is_off(read_only) and _is_off(forbidden)):
        raise ReadOnlyServer("the database server is read-only: point the Airflow connection at the primary.")
    return Server(flavour.engine, flavour.version, str(identity), "", 0)


def _is_off(setting: object) -> bool:
    """Tell whether a switch is off: MariaDB 12's read_only is one of several words."""
    return str(setting).upper() in {"0", "OFF"}


def fingerprint(session: MySqlSession, table: TableName) -> str:
    """Digest everything about the table's schema that a purge relies on.

    :raises NotFound: when there is no such table
    """
    values = {"schema": table.schema, "table": table.table}
    rows = [repr(row) for row in session.execute(catalog_sql.FINGERPRINT, values)]
    if not rows:
        raise _not_found(table)
    keys = [repr(replace(key, indexed=False)) for key in foreign_keys(session, table)]
    return hashlib.sha256("\n".join(rows + keys).encode()).hexdigest()


def inspect(session: MySqlSession, policy: Policy) -> Facts:
    """Read the table's facts, refusals and warnings.

    :raises NotFound: when there is no such table
    :raises PrivilegeMissing: when the user may not see all that hangs on it; the message holds the GRANT
    :raises StatementTimedOut: when the table changes meanwhile: half of the facts would be of another table
    """
    name = policy.table_name
    table = table_row(session, name)
    privileges.check(session, policy)
    before = fingerprint(session, name)
    columns, lossy = _columns(session, policy)
    key = _key(session, name)
    refusals = (*_refusals(session, policy, table, columns, key), *lossy)
    written = ddl(session, name)
    refuse_if_changed(name, before, fingerprint(session, name))
    return Facts(
        name=name,
        columns=columns,
        key=key.columns if key else (),
        ddl=written,
        fingerprint=before,
        row_estimate=table["row_estimate"],
        table_bytes=int(table["data_bytes"]),
        refusals=refusals,
        warnings=tuple(_warnings(session)),
    )


def shape(session: MySqlSession, policy: Policy) -> Shape:
    """Read the table's columns and key alone.

    :raises NotFound: when there is no such table
    :raises PrivilegeMissing: when the user may not see all that hangs on it; the message holds the GRANT
    """
    name = policy.table_name
    table_row(session, name)
    privileges.check(session, policy)
    key = _key(session, name)
    return Shape(name, _columns(session, policy)[0], key.columns if key else ())


def ddl(session: MySqlSession, table: TableName) -> str:
    """Write the table as SQL, a line for each column, index and constraint."""
    text = str(session.execute(f"SHOW CREATE TABLE {spelled(table)}")[0][1])
    return re.sub(r" AUTO_INCREMENT=\d+", "", text)


def indexes_of(session: MySqlSession, table: TableName) -> tuple[Index, ...]:
    """Give the indexes of a table as far as the user may see them."""
    visible = "is_visible = 'YES'"
    if session.flavour.mariadb:
        visible = "ignored = 'NO'"
    statement = catalog_sql.INDEXES.format(visible=visible)
    rows = session.execute(statement, (table.schema, table.table))
    return tuple(
        Index(name, tuple(str(part[1]) for part in parts), all(part[2] for part in parts))
        for name, group in groupby(rows, key=lambda row: str(row[0]))
        for parts in [list(group)]
    )


def _key(session: MySqlSession, table: TableName) -> Index | None:
    return next((index for index in indexes_of(session, table) if index.name == "PRIMARY"), None)


def foreign_keys(session: MySqlSession, table: TableName) -> tuple[ForeignKey, ...]:
    """Give the foreign keys of any table, in any schema, that point at ours."""
    prefix = "innodb_sys_foreign" if session.flavour.mariadb else "innodb_foreign"
    statement = catalog_sql.FOREIGN_KEYS.format(foreign=prefix, foreign_columns=f"{prefix}_cols")
    rows = session.execute(statement, {"name": "/".join(encoded(session, table))})
    return tuple(_foreign_key(session, list(group)) for _, group in groupby(rows, key=lambda row: str(row[0])))


def _foreign_key(session: MySqlSession, rows: list[tuple[Any, ...]]) -> ForeignKey:
    name, child_name, action = str(rows[0][0]), str(rows[0][1]), int(rows[0][2])
    child = _decoded(session, *child_name.split("/", 1))
    columns = tuple(str(row[3]) for row in rows)
    indexed = any(set(index.columns[: len(columns)]) == set(columns) for index in indexes_of(session, child))
    return ForeignKey(
        name.rpartition("/")[2], child, columns, tuple(str(row[4]) for row in rows),
        _ACTIONS.get(action & _ACTION_ON_DELETE), indexed,
    )  # fmt: skip


def encoded(session: MySqlSession, table: TableName) -> tuple[str, str]:
    """Give a table's name as InnoDB's own views spell it."""
    if not session.flavour.mariadb:
        return table.schema, table.table
    schema, name = session.execute(catalog_sql.ENCODE_NAME, (table.schema, table.table))[0]
    return str(schema), str(name)


def _decoded(session: MySqlSession, schema: str, table: str) -> TableName:
    if not session.flavour.mariadb:
        return TableName(schema, table)
    names = session.execute(catalog_sql.DECODE_NAME, (schema, table))[0]
    return TableName(*map(str, names))


def table_row(session: MySqlSession, name: TableName) -> dict[str, Any]:
    """Read what the catalogue says of a table itself.

    :raises NotFound: when there is no such table
    """
    rows = session.execute(catalog_sql.TABLE, (name.schema, name.table))
    if not rows:
        raise _not_found(name)
    fields = "schema table kind engine rows data_bytes index_bytes free_bytes options partitions".split()
    table = dict(zip(fields, rows[0], strict=True))
    # Before its statistics are gathered InnoDB says 0 or 1 rows, whatever there is. An empty partition has a page, too.
    empty_bytes = _SMALLEST_PAGE * max(table["partitions"], 1)
    absurd = table["rows"] is not None and table["rows"] <= 1 and table["data_bytes"] > empty_bytes
    return table | {"row_estimate": None if table["rows"] is None or absurd else int(table["rows"])}


def other_spelling(name: TableName, table: dict[str, Any]) -> str | None:
    """Say how to write a name for which the server takes another: holds and pauses go by the catalogue's."""
    found = TableName(str(table["schema"]), str(table["table"]))
    return None if name == found else f"the catalogue spells {name} as {found}: write it so, or no hold would bind it."


def _not_found(name: TableName) -> NotFound:
    return NotFound(f"table {name} does not exist, or the user may not see it. Write its name as the catalogue does.")


def types_of(session: MySqlSession, table: TableName) -> dict[str, str]:
    """Give the columns of a table, and their types with character set and collation."""
    rows = session.execute(catalog_sql.COLUMNS, (table.schema, table.table))
    return {str(name): spelled_type(str(kind), charset, collation) for name, kind, charset, collation, _ in rows}


def _columns(session: MySqlSession, policy: Policy) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    found = types_of(session, policy.table_name)
    as_text = set(policy.archive.as_text)
    if unknown := as_text - set(found):
        raise NotFound(f"archive.as_text names {min(unknown)!r}, which is not a column of {policy.table}.")
    columns, refusals = [], []
    for column_name, kind in found.items():
        column = Column(column_name, kind, "native")
        form = form_of(column)
        if form is None or (kind_of(column) == "enum" and re.search(r"\((.*,)?''[,)]", column.type)):
            refusals.append(f"column {column_name} has type {column.type}, whose values cannot be archived exactly.")
        elif _hides_labels(column):
            refusals.append(
                f"column {column_name} has type {column.type}: a ? there may stand for any character beyond U+FFFF, "
                f"which the catalogue cannot show, so that no such column can be made anew. Use other labels."
            )
        odd_values = kind_of(column) in MOMENTS and isinstance(policy.archive, ColdTable)  # the zero date
        columns.append(replace(column, form="text" if odd_values or column_name in as_text else form or "text"))
    return tuple(columns), tuple(refusals)


def _hides_labels(column: Column) -> bool:
    """Tell whether a label may be another than the catalogue says, which itself holds three-byte characters only."""
    return kind_of(column) in LABELS and character_set(column) == "utf8mb4" and "?" in column.type


def spelled_type(spelling: str, charset: str | None, collation: str | None) -> str:
    """Spell a column's type with its character set and collation."""
    plain = re.sub(r" /\*.*?\*/", "", spelling)  # MariaDB's note that a column is compressed
    return f"{plain} CHARACTER SET {charset} COLLATE {collation}" if charset else plain


def _refusals(
    session: MySqlSession, policy: Policy, table: dict[str, Any], columns: tuple[Column, ...], key: Index | None
) -> Iterator[str]:
    name = policy.table_name
    if odd := other_spelling(name, table):
        yield odd
    yield from _kind_refusals(table)
    yield from _key_refusals(columns, key)
    for (trigger,) in session.execute(catalog_sql.DELETE_TRIGGERS, (name.schema, name.table)):
        yield f"trigger {trigger} fires on DELETE and could change other rows: drop it."
    for foreign_key in foreign_keys(session, name):
        yield from _foreign_key_refusals(foreign_key)
    yield from cluster_refusals(session)


def _kind_refusals(table: dict[str, Any]) -> Iterator[str]:
    kind = str(table["kind"])
    if kind == "SYSTEM VERSIONED":
        yield "it is system-versioned: deleted rows would live on as history. Purge it with DELETE HISTORY."
    elif kind != "BASE TABLE":
        yield f"it is a {kind.lower()}: only ordinary and partitioned tables can be purged."
    elif table["engine"] != "InnoDB":
        yield f"its engine is {table['engine']}, which has no transactions: ALTER TABLE … ENGINE=InnoDB."
    if table["row_estimate"] is None:
        yield "its number of rows is unknown, so that guard.max_fraction cannot be checked: run ANALYZE TABLE once."


def _key_refusals(columns: tuple[Column, ...], key: Index | None) -> Iterator[str]:
    if key is None:
        yield "it has no primary key, so that a row could not be told from its twin: add one."
    elif not key.walkable:
        yield f"its primary key ({', '.join(key.columns)}) is of prefixes or descending: no walk can follow it."
    for column in columns:
        if key and column.name in key.columns and kind_of(column) in _NO_KEY:
            yield f"key column {column.name} is {column.type}: its order or identity is not that of its values."
        if column.name == VERSION_COLUMN:
            yield f"column {column.name} has the name that the archive uses for row versions: rename it."


def _foreign_key_refusals(foreign_key: ForeignKey) -> Iterator[str]:
    child, columns = spelled(foreign_key.child), listed(foreign_key.child_columns)
    if foreign_key.action:
        yield (
            f"foreign key {foreign_key.name} of {child} ({columns}) is ON DELETE {foreign_key.action}: it would change "
            f"rows that were not archived. Make it NO ACTION."
        )
    if not foreign_key.indexed:
        yield (
            f"foreign key {foreign_key.name} of {child} has no index on ({columns}), or the user may not see it: each "
            f"deleted row would scan that table. CREATE INDEX … ON {child} ({columns}), or GRANT SELECT ON {child}."
        )


def cluster_refusals(session: MySqlSession) -> Iterator[str]:
    """Say why a server that shares its changes in this way is not to be cleaned."""
    log_bin, binlog_format = session.execute("SELECT @@log_bin, @@binlog_format")[0]
    if log_bin and binlog_format == "STATEMENT":
        yield "the server's binlog_format is STATEMENT, which replays deletes by their text: set it to ROW."
    if session.flavour.mariadb:
        if session.execute("SELECT @@wsrep_on")[0][0]:
            yield "the server is part of a Galera cluster, where row locks hold on one node only."
    elif session.execute("SELECT 1 FROM information_schema.plugins WHERE plugin_name = 'group_replication'"
                         " AND plugin_status = 'ACTIVE'"):  # fmt: skip
        yield "the server is part of group replication, where row locks hold on one member only."


def _warnings(session: MySqlSession) -> Iterator[str]:
    if session.execute("SELECT 1 FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%' LIMIT 1"):
        yield "the server sends its changes to replicas, which will delete the rows too."


def column_of(columns: tuple[Column, ...], name: str) -> Column:
    """Find a column by its name."""
    return next(column for column in columns if column.name == name)


def is_bytes(column: Column) -> bool:
    """Tell whether a column holds bytes, not text."""
    return kind_of(column) in BYTES | SHAPES
