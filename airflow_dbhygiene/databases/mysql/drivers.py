"""The two drivers that Airflow's MySqlHook may use, made alike: mysqlclient, or mysql-connector-python."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Driver(Protocol):
    """One connection of a driver."""

    connection: Any
    """The driver's own connection."""

    @property
    def thread_id(self) -> int:
        """The server's number for this connection, by which another one can cancel it."""

    def begin_life(self) -> None:
        """Let every statement commit by itself, and text pass as utf8mb4."""

    def cursor(self) -> Any:
        """Open a cursor whose result is here at once."""

    def stream(self, statement: str) -> Iterator[Sequence[Any]]:
        """Run a SELECT of one binary column and give its rows, many at a time, as they come."""


_ROWS_AT_ONCE: Final = 100
_PIECE_ROWS: Final = 10_000
_PIECE_BYTES: Final = 16 * 2**20


class MySqlClient:
    """A connection of mysqlclient."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @property
    def thread_id(self) -> int:
        """The server's number for this connection."""
        return int(self.connection.thread_id())

    def begin_life(self) -> None:
        """Let every statement commit by itself, and text pass as utf8mb4."""
        self.connection.autocommit(True)  # noqa: FBT003 - the driver's own signature
        self.connection.set_character_set("utf8mb4")

    def cursor(self) -> Any:
        """Open a cursor whose result is here at once, whatever the Airflow connection asks for."""
        from MySQLdb.cursors import Cursor  # noqa: PLC0415 - only where this driver is used

        return self.connection.cursor(Cursor)

    def stream(self, statement: str) -> Iterator[Sequence[Any]]:
        """Give rows as they come. Whoever stops early closes the connection: a cursor would read to the end."""
        from MySQLdb.cursors import SSCursor  # noqa: PLC0415

        cursor = self.connection.cursor(SSCursor)
        cursor.execute(statement)
        yield from _pieces(lambda rows: [row[0] for row in cursor.fetchmany(rows)])


class MySqlConnector:
    """A connection of mysql-connector-python."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @property
    def thread_id(self) -> int:
        """The server's number for this connection."""
        return int(self.connection.connection_id)

    def begin_life(self) -> None:
        """Let every statement commit by itself, and text pass as utf8mb4."""
        self.connection.autocommit = True
        self.connection.set_charset_collation("utf8mb4")

    def cursor(self) -> Any:
        """Open a cursor whose result is here at once."""
        return self.connection.cursor(buffered=True)

    def stream(self, statement: str) -> Iterator[Sequence[Any]]:
        """Give rows as they come."""
        cursor = self.connection.cursor(raw=True)
        cursor.execute(statement)
        yield from _pieces(lambda rows: [_octets(row[0]) for row in cursor.fetchmany(rows)])


def _octets(value: bytearray | None) -> bytes | None:
    return None if value is None else bytes(value)


def _pieces(fetch: Callable[[int], list[bytes | None]]) -> Iterator[Sequence[bytes | None]]:
    """Put rows together until they are worth the work on them: many, but fewer where they are wide."""
    piece: list[bytes | None] = []
    size, at_once = 0, 1
    while rows := fetch(at_once):
        octets = sum(map(len, filter(None, rows)))
        piece += rows
        size += octets
        at_once = _ROWS_AT_ONCE if octets * _ROWS_AT_ONCE < _PIECE_BYTES * len(rows) else 1
        if len(piece) >= _PIECE_ROWS or size >= _PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def driver_of(connection: Any) -> Driver:
    """Take a driver's connection by where its class comes from."""
    return MySqlConnector(connection) if type(connection).__module__.startswith("mysql.") else MySqlClient(connection)


def driver_errors() -> tuple[type[Exception], ...]:
    """Give the errors of the drivers that are loaded."""
    loaded = (sys.modules.get("MySQLdb"), sys.modules.get("mysql.connector"))
    return tuple(module.Error for module in loaded if module is not None)


def errno_of(error: Exception) -> int | None:
    """Give the number by which the server, or the client's library, names the error."""
    number = getattr(error, "errno", None)
    if number is None and error.args and isinstance(error.args[0], int):
        number = error.args[0]
    return number


def run(driver: Driver, statement: str, values: Any) -> tuple[list[tuple[Any, ...]], int]:
    """Run one statement; give its rows and how many it changed."""
    with closing(driver.cursor()) as cursor:
        cursor.execute(statement, values or None)
        rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        return rows, int(cursor.rowcount)
