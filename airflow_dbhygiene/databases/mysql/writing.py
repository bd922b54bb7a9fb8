"""Names and values as MySQL and MariaDB read them, each quoted in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_dbhygiene.policy.names import TableName


AT_ONCE: Final = "SET STATEMENT innodb_lock_wait_timeout = 0 FOR "
"""Before a statement of MariaDB's: do not wait for a lock."""

PATIENT: Final = "SET STATEMENT innodb_lock_wait_timeout = 1 FOR "
"""MariaDB 10.11 answers SKIP LOCKED with error 1180 where a lock wait of 0 seconds is set and a row is locked."""


_LENIENT: Final = "sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'"


def lenient(statement: str, *, mariadb: bool) -> str:
    """Let the conditions of a statement that changes rows read values as a SELECT does.

    In strict modes a text that is no number, say, which a SELECT takes for 0, would end the statement.
    """
    if mariadb:
        return f"SET STATEMENT {_LENIENT} FOR {statement}"
    verb, _, rest = statement.partition(" ")
    return f"{verb} /*+ SET_VAR({_LENIENT}) */ {rest}"


def quoted(name: str) -> str:
    """Quote an identifier."""
    return "`" + name.replace("`", "``") + "`"


def spelled(table: TableName) -> str:
    """Write a table's name, its database included."""
    return f"{quoted(table.schema)}.{quoted(table.table)}"


def listed(names: Iterable[str], owner: str = "") -> str:
    """Write columns one after the other."""
    return ", ".join(owner + quoted(name) for name in names)


def literal(text: str) -> str:
    """Write text as a value that no mode of the server can misread."""
    return f"_utf8mb4 X'{text.encode().hex()}'"


def octets(value: bytes) -> str:
    """Write bytes as a value."""
    return f"X'{value.hex()}'"
