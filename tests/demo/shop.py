"""The shop whose flights are cleaned: one server of each kind that `make demo` knows."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, ClassVar, Self

import MySQLdb
import psycopg

from tests.demo.months import MYSQL, POSTGRESQL, Dialect, Months, months_of
from tests.servers.airflow_settings import ConnectionValue
from tests.servers.data import load_flights
from tests.servers.data_mysql import load_flights as load_flights_mysql
from tests.servers.mysql import MariaDbServer, MySqlServer
from tests.servers.postgres import PostgresServer

DATABASE = "shop"
Rows = list[tuple[Any, ...]]


class Shop(ABC):
    """A database named shop on a server that runs, and the example DAG that cleans it."""

    title: ClassVar[str]
    example: ClassVar[str]
    conn_id: ClassVar[str]
    table: ClassVar[str]
    dialect: ClassVar[Dialect]
    ledger_exists: ClassVar[str]
    port: int
    url: str
    connection: ConnectionValue

    @classmethod
    @abstractmethod
    def open(cls) -> AbstractContextManager[Self]:
        """Start a server with an empty shop, and stop it at the end."""

    @abstractmethod
    def load(self) -> None:
        """Load the flights of 2013."""

    @abstractmethod
    def execute(self, statement: str) -> Rows:
        """Run one statement and give its rows."""

    def months(self, condition: str) -> Months:
        """Ask for the flights that fulfil a condition."""
        return months_of(self.execute(self.dialect.statement(self.table, condition)))

    def rows_purged(self) -> int:
        """Read the receipts that are committed so far; the plan step makes the ledger."""
        if not self.execute(self.ledger_exists):
            return 0
        return int(self.execute("SELECT coalesce(sum(purged), 0) FROM dbhygiene.chunk")[0][0])


class PostgresShop(Shop):
    """On PostgreSQL."""

    title = "PostgreSQL"
    example = "flights"
    conn_id = "shop_pg"
    table = "public.flights"
    dialect = POSTGRESQL
    ledger_exists = "SELECT 1 WHERE to_regclass('dbhygiene.chunk') IS NOT NULL"

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """Start a server with an empty shop, and stop it at the end."""
        with PostgresServer.start("embedded") as server:
            yield cls(server)

    def __init__(self, server: PostgresServer) -> None:
        self.port = server.port
        self.url = server.create_database(DATABASE)
        self.connection = {
            "conn_type": "postgres",
            "host": server.host,
            "port": server.port,
            "login": server.user,
            "password": server.password,
            "schema": DATABASE,
        }

    def load(self) -> None:
        """Load the flights of 2013."""
        load_flights(self.url)

    def execute(self, statement: str) -> Rows:
        """Run one statement and give its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()


class MySqlShop(Shop):
    """On MySQL."""

    title = "MySQL"
    example = "flights_mysql"
    conn_id = "shop_my"
    table = "shop.flights"
    dialect = MYSQL
    program: ClassVar[type[MySqlServer]] = MySqlServer
    ledger_exists = "SELECT 1 FROM information_schema.tables WHERE table_schema = 'dbhygiene' AND table_name = 'chunk'"

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """Start a server with an empty shop, and stop it at the end."""
        with cls.program.start() as server:
            yield cls(server)

    def __init__(self, server: MySqlServer) -> None:
        self.port = server.port
        self._parameters = server.create_database(DATABASE)
        self.url = f"mysql://{server.user}:{server.password}@{server.host}:{server.port}/{DATABASE}"
        self.connection = {
            "conn_type": "mysql",
            "host": server.host,
            "port": server.port,
            "login": server.user,
            "password": server.password,
            "schema": DATABASE,
        }

    def load(self) -> None:
        """Load the flights of 2013."""
        load_flights_mysql(self._parameters)

    def execute(self, statement: str) -> Rows:
        """Run one statement, moments in UTC and long texts whole, and give its rows."""
        with closing(MySQLdb.connect(**self._parameters)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("SET time_zone = '+00:00', group_concat_max_len = 16777216")
            cursor.execute(statement)
            return list(cursor.fetchall())


class MariaDbShop(MySqlShop):
    """On MariaDB."""

    title = "MariaDB"
    program = MariaDbServer


SHOPS: Mapping[str, type[Shop]] = {"postgresql": PostgresShop, "mariadb": MariaDbShop, "mysql": MySqlShop}
"""What `DB` may say, the default first."""
