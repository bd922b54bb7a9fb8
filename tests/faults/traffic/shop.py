"""The application's side: one table on one engine, and what an application does to it. Nothing here waits for locks."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any, Final, Protocol

import MySQLdb
import psycopg

from airflow_dbhygiene.databases.mysql import MySqlDatabase
from airflow_dbhygiene.databases.postgres import PostgresDatabase
from airflow_dbhygiene.databases.protocol import Database
from tests.faults.traffic.ddl import spelled
from tests.servers.mysql import MySqlServer
from tests.servers.postgres import PostgresServer

FIRST_DAY: Final = dt.datetime(2023, 1, 1)  # noqa: DTZ001 - moments are compared in UTC, without a zone
ROWS: Final = 60
"""Rows at the start: one for each of so many fortnights that two thirds are stale."""

Row = dict[str, object]
"""A row's values by column."""


def moment(fortnight: float) -> dt.datetime:
    """Give a row's age."""
    return FIRST_DAY + dt.timedelta(days=10 * fortnight)


def new_row(key: int, fortnight: float, note: str = "new") -> Row:
    """Make a row as the application does."""
    return {"id": key, "at": moment(fortnight), "note": note, "amount": f"{key % 97}.50", "places": key % 5}


def plain(value: object) -> object:
    """Give a value as every driver and every archive would have it."""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
    return str(value) if isinstance(value, Decimal) else value


class Shop(Protocol):
    """One application on one server."""

    table: str
    """The table's full name, as policies and statements have it."""
    cold: str
    """Where cold tables go: a schema, or a database."""
    engine: str

    def database(self) -> Database:
        """Open the database as the steps see it."""

    def open(self) -> Any:
        """Open a connection of the application's, which does not wait for locks."""

    def reset(self) -> None:
        """Begin anew: the first rows, an empty ledger, no cold tables."""


class Application:
    """Runs statements of an application, each in a transaction of its own."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.table = shop.table
        self._connection = shop.open()

    def rows(self, table: str | None = None) -> list[Row]:
        """Read a whole table."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(f"SELECT * FROM {table or self.table}")
            names = [each[0] for each in cursor.description]
            return [dict(zip(names, map(plain, row), strict=True)) for row in cursor.fetchall()]

    def query(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Read, as an onlooker."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(statement, tuple(values) or None)
            return list(cursor.fetchall()) if cursor.description else []

    def change(self, statement: str, values: Sequence[object] = ()) -> int | None:
        """Change rows and give their number; None when the statement had to give way to a lock."""
        try:
            with closing(self._connection.cursor()) as cursor:
                cursor.execute(statement, tuple(values) or None)
                return int(cursor.rowcount)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            return None
        except MySQLdb.OperationalError as error:
            if error.args[0] not in (1205, 1213):
                raise
            return None

    def insert(self, row: Mapping[str, object]) -> int | None:
        """Insert a row."""
        marks = ", ".join(["%s"] * len(row))
        return self.change(f"INSERT INTO {self.table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))

    def alter(self, change: str, **names: str) -> bool:
        """Change the schema; False when the statement had to give way to a lock."""
        statements = spelled(self.shop.engine, change, self.shop.table, **names)
        done = [self.change(statement) is not None for statement in statements]
        return all(done)

    def close(self) -> None:
        """Let go."""
        with contextlib.suppress(psycopg.Error, MySQLdb.Error):
            self._connection.close()


class PostgresShop:
    """On PostgreSQL, in a database that is copied for each example."""

    engine = "postgresql"
    table = "public.orders"
    cold = "cold"

    def __init__(self, server: PostgresServer, name: str) -> None:
        self._server = server
        self._name = name
        self.dsn = server.dsn(name)

    def database(self) -> Database:
        """Open the database as the steps see it."""
        return PostgresDatabase(lambda: psycopg.connect(self.dsn))

    def open(self) -> Any:
        """Open a connection in which each statement commits by itself."""
        return psycopg.connect(self.dsn, autocommit=True, options="-c lock_timeout=30ms -c deadlock_timeout=30s")

    def reset(self) -> None:
        """Copy the template, which the first call makes."""
        template = f"{self._name}_template"
        self._server.drop_database(self._name)
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            known = connection.execute("SELECT FROM pg_database WHERE datname = %s", (template,)).fetchall()
        if not known:
            with psycopg.connect(self._server.create_database(template), autocommit=True) as connection:
                connection.execute(
                    "CREATE SCHEMA cold; CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL,"
                    " note varchar(20), amount numeric(10,2), places integer);"
                    " CREATE INDEX orders_at_id ON orders (at, id)"
                )
                _fill(connection, self.table)
        self._server.create_database(self._name, template)

    def remove(self) -> None:
        """Leave nothing on the server."""
        self._server.drop_database(self._name)
        self._server.drop_database(f"{self._name}_template")


class MySqlShop:
    """On MariaDB or MySQL, whose ledger has but one place."""

    table = "hot.orders"
    cold = "cold"

    def __init__(self, server: MySqlServer) -> None:
        self._server = server
        self.engine = server.flavour
        for name in ("hot", "cold"):
            server.execute(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4")

    def database(self) -> Database:
        """Open the database as the steps see it."""
        parameters = self._server.parameters("hot")
        return MySqlDatabase(lambda: MySQLdb.connect(**parameters))

    def open(self) -> Any:
        """Open a connection in which each statement commits by itself."""
        connection = MySQLdb.connect(**self._server.parameters("hot"), autocommit=True)
        with closing(connection.cursor()) as cursor:
            wait = int(self.engine == "mysql")  # which knows no less than a second
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {wait}, lock_wait_timeout = {wait}")
            cursor.execute("SET SESSION sql_mode = 'STRICT_ALL_TABLES'")
        return connection

    def reset(self) -> None:
        """Make the table anew and empty the ledger."""
        with closing(self.open()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("SET foreign_key_checks = 0, lock_wait_timeout = 10")  # connections before may be ending
            cursor.execute(
                "SELECT table_schema, table_name FROM information_schema.tables"
                " WHERE table_schema IN ('hot', 'cold', 'dbhygiene')"
            )
            for schema, table in cursor.fetchall():
                kept = schema == "dbhygiene"
                if not kept:
                    cursor.execute(f"DROP TABLE {schema}.{table}")
                elif table not in ("migration", "gate"):
                    cursor.execute(f"DELETE FROM {schema}.{table}")
            cursor.execute(
                "CREATE TABLE orders (id bigint PRIMARY KEY, at datetime NOT NULL, note varchar(20),"
                " amount decimal(10,2), places int, KEY orders_at_id (at, id))"
            )
            _fill(connection, self.table)

    def remove(self) -> None:
        """Leave nothing on the server."""
        for name in ("hot", "cold", "dbhygiene"):
            self._server.drop_database(name)


def _fill(connection: Any, table: str) -> None:
    rows = [new_row(key, key, f"note {key % 6}") for key in range(ROWS)]
    with closing(connection.cursor()) as cursor:
        cursor.executemany(
            f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES (%s, %s, %s, %s, %s)",
            [tuple(row.values()) for row in rows],
        )
