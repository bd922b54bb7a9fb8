"""Which rows? The stale ones, as one SQL condition that any statement can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.databases.mysql import catalog, catalog_sql
from airflow_dbhygiene.databases.mysql.keys import try_condition
from airflow_dbhygiene.databases.mysql.types import INTEGERS, kind_of
from airflow_dbhygiene.databases.mysql.writing import quoted, spelled
from airflow_dbhygiene.errors import NotFound, PolicyInvalid
from airflow_dbhygiene.policy.keep import wall_time
from airflow_dbhygiene.policy.stale import Matching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pendulum import DateTime

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Column, Selection, Shape
    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.moments import Window
    from airflow_dbhygiene.policy.names import TableName
    from airflow_dbhygiene.policy.stale import Expired, OlderThan

_EPOCH: Final = {"s": 1, "ms": 1000}

_CHILD: Final = "AS _dbhygiene_child"

_EARLIEST: Final = {"date": "0001-01-01", "datetime": "0001-01-01", "timestamp": "1970-01-01 00:00:00"}
"""Before this a value is no age: the zero date above all."""

_VOLATILE: Final = frozenset(
    "rand uuid uuid_short sleep benchmark get_lock release_lock release_all_locks is_free_lock is_used_lock "
    "connection_id user current_user session_user system_user current_role database schema version found_rows "
    "row_count last_insert_id load_file nextval lastval setval random_bytes master_pos_wait source_pos_wait "
    "statement_digest ps_current_thread_id next_value_for rownum sys_guid uuid_v4 uuid_v7 binlog_gtid_pos "
    "master_gtid_wait wait_for_executed_gtid_set wsrep_last_seen_gtid wsrep_last_written_gtid "
    "wsrep_sync_wait_upto_gtid roles_graphml".split()
)


def predicate(session: MySqlSession, policy: Policy, table: Shape, window: Window) -> str:
    """Render the stale rows within the window as one SQL condition that any later statement can hold.

    :raises PolicyInvalid: when the policy's own SQL is not one boolean expression
    :raises NotFound: when the age column does not exist
    """
    text = "\n  AND ".join(f"({part})" for part in _conditions(session, policy, table, window))
    try_condition(session, table.name, text, f"policy {policy.name!r}")
    return text


def referenced(session: MySqlSession, selection: Selection) -> Iterator[str]:
    """Name the foreign keys whose rows point at stale ones, each in a transaction of its own."""
    for foreign_key in catalog.foreign_keys(session, selection.table):
        childless = _childless(selection.table, foreign_key)
        condition = f"{selection.predicate} AND NOT ({childless})"
        with session.transaction(walking=True):
            found = session.execute(f"SELECT 1 FROM {spelled(selection.table)} WHERE {condition} LIMIT 1")
        if found:
            child = spelled(foreign_key.child)
            yield f"rows of {child} point at stale rows through foreign key {foreign_key.name}"


def checked(session: MySqlSession, text: str, where: str) -> str:
    """Take a user's SQL condition after it has been parsed, and its functions looked up.

    :raises PolicyInvalid: unless it is one boolean expression without clocks, volatile and stored functions
    """
    from airflow_dbhygiene.databases.predicate import check_predicate  # noqa: PLC0415 - few policies have SQL to parse

    functions = check_predicate(text, dialect="mysql", where=where)
    if volatile := sorted(functions & _VOLATILE):
        message = f"{where}: function {volatile[0]} is volatile: it could answer differently, or change data."
        raise PolicyInvalid(message)
    if stored := _stored(session, functions):
        message = f"{where}: function {stored[0]} is stored in the server, and could do anything, whatever it declares."
        raise PolicyInvalid(message)
    return f"\n{text}\n"


def _stored(session: MySqlSession, functions: frozenset[str]) -> list[str]:
    """Name the stored functions among these: that one is DETERMINISTIC, or changes no data, is its author's word."""
    if not functions:
        return []
    statement = catalog_sql.FUNCTIONS.format(marks=", ".join(["%s"] * len(functions)))
    return [str(row[0]) for row in session.execute(statement, tuple(sorted(functions)))]


def _conditions(session: MySqlSession, policy: Policy, table: Shape, window: Window) -> Iterator[str]:
    stale = policy.stale
    if not isinstance(stale, Matching):
        yield from _aged(stale, table, window)
    if stale.where is not None:
        yield checked(session, stale.where, f"stale.where of policy {policy.name!r}")
    if policy.children == "skip":
        for foreign_key in catalog.foreign_keys(session, table.name):
            yield _childless(table.name, foreign_key)


def _aged(stale: OlderThan | Expired, table: Shape, window: Window) -> Iterator[str]:
    column = next((column for column in table.columns if column.name == stale.column), None)
    if column is None:
        known = ", ".join(column.name for column in table.columns)
        raise NotFound(f"stale.column {stale.column!r} is not a column of {table.name}; its columns are {known}.")
    name = quoted(column.name)
    assert window.cutoff is not None  # noqa: S101 - a window has one for every policy with an age
    yield f"{name} < {_moment(stale, column, window.cutoff)}"
    if window.since:
        yield f"{name} >= {_moment(stale, column, window.since)}"
    else:
        yield f"{name} > {_ageless(column)}"


def _moment(stale: OlderThan | Expired, column: Column, moment: DateTime) -> str:
    """Write a moment as a value of the age column's type; the session's zone is UTC."""
    kind = kind_of(column)
    if kind == "timestamp":
        return f"'{wall_time(moment, 'UTC').isoformat(' ')}'"
    if kind == "datetime":
        return f"'{wall_time(moment, _zone(stale, column)).isoformat(' ')}'"
    if kind == "date":
        return f"'{wall_time(moment, _zone(stale, column)).date().isoformat()}'"
    if kind in INTEGERS and stale.epoch:
        return str(int(moment.timestamp() * _EPOCH[stale.epoch]))
    if kind in INTEGERS:
        message = f"stale.epoch is missing: column {column.name} is {column.type}; say whether it counts 's' or 'ms'."
        raise PolicyInvalid(message)
    message = f"stale.column {column.name} is {column.type}, which tells no age. Use a timestamp, date or epoch column."
    raise PolicyInvalid(message)


def _ageless(column: Column) -> str:
    kind = kind_of(column)
    return "0" if kind in INTEGERS else f"'{_EARLIEST[kind]}'"


def _zone(stale: OlderThan | Expired, column: Column) -> str:
    if stale.zone is None:
        message = f"stale.zone is missing: column {column.name} is {column.type}; name the zone that its values are in."
        raise PolicyInvalid(message)
    return stale.zone


def _childless(table: TableName, foreign_key: catalog.ForeignKey) -> str:
    pairs = " AND ".join(
        f"_dbhygiene_child.{quoted(child)} = {spelled(table)}.{quoted(ours)}"
        for child, ours in zip(foreign_key.child_columns, foreign_key.our_columns, strict=True)
    )
    return f"NOT EXISTS (SELECT 1 FROM {spelled(foreign_key.child)} {_CHILD} WHERE {pairs})"


def reads_itself(selection: Selection) -> bool:
    """Tell whether the condition reads the table once more: neither server takes it in a DELETE from that table."""
    return f"FROM {spelled(selection.table)} {_CHILD}" in selection.predicate
