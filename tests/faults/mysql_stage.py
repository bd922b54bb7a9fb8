"""The same stage on MariaDB and MySQL, whose ledger lies in a database of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import MySQLdb

from airflow_dbhygiene.databases.mysql import MySqlDatabase
from airflow_dbhygiene.databases.protocol import Database
from tests.faults.stage import Stage

HOT: Final = "hot"
COLD: Final = "cold"
LEDGER: Final = "dbhygiene"
LIVE: Final = (HOT, COLD, LEDGER)
"""The databases that a run works on; beside each there are copies of it."""


@dataclass(frozen=True)
class MySqlStage(Stage):
    """One server, and one folder for the archive; ``dsn`` holds what the driver's connect takes, as JSON."""

    def database(self, dsn: str | None = None) -> Database:
        """Open the database as the steps see it."""
        parameters = json.loads(dsn or self.dsn)
        return MySqlDatabase(lambda: MySQLdb.connect(**parameters))

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement as the application, or as an onlooker, and give its rows."""
        with closing(self._open()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def hot_rows(self) -> bytes:
        """Give all rows of the table as text, in the order of their keys."""
        return repr(self.execute("SELECT * FROM flights ORDER BY id")).encode()

    def id_at(self, ordinal: int) -> int:
        """Give the key of a row by its place in the walk, which here is the key's own order."""
        return int(self.one("SELECT id FROM flights ORDER BY id LIMIT 1 OFFSET %s", (ordinal,)))

    @contextmanager
    def locked_row(self, key: int) -> Iterator[Callable[[], None]]:
        """Lock a row as the application does; give what lets it go."""
        with closing(self._open(autocommit=False)) as application, closing(application.cursor()) as cursor:
            cursor.execute("SELECT id FROM flights WHERE id = %s FOR UPDATE", (key,))
            yield application.rollback

    def _open(self, *, autocommit: bool = True) -> Any:
        return MySQLdb.connect(**json.loads(self.dsn), autocommit=autocommit)


class Shelf:
    """Copies of all the databases that a run works on, by a name, and back again."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters

    def keep(self, name: str) -> None:
        """Copy what there is now."""
        for live in LIVE:
            self._copy(live, f"{name}_{live}")

    def put_back(self, name: str) -> None:
        """Make the databases what they were."""
        for live in LIVE:
            self._copy(f"{name}_{live}", live)

    def clear(self) -> None:
        """Drop all copies."""
        with self._cursor() as cursor:
            for name in self._databases(cursor):
                if name.startswith("before_") or name in LIVE:
                    cursor.execute(f"DROP DATABASE `{name}`")

    def _copy(self, source: str, target: str) -> None:
        with self._cursor() as cursor:
            databases = self._databases(cursor)
            if source not in databases:
                cursor.execute(f"DROP DATABASE IF EXISTS `{target}`")
                return
            if target not in databases:
                cursor.execute(f"CREATE DATABASE `{target}` CHARACTER SET utf8mb4")
            wanted, there = _tables(cursor, source), _tables(cursor, target)
            cursor.execute("SET foreign_key_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
            for table in there - wanted:
                cursor.execute(f"DROP TABLE `{target}`.`{table}`")
            for table in wanted - there:
                cursor.execute(f"SHOW CREATE TABLE `{source}`.`{table}`")
                statement = cursor.fetchone()[1]
                cursor.execute(f"USE `{target}`")
                cursor.execute(statement)
            cursor.execute("START TRANSACTION")
            for table in wanted:
                cursor.execute(f"DELETE FROM `{target}`.`{table}`")
                cursor.execute(f"INSERT INTO `{target}`.`{table}` SELECT * FROM `{source}`.`{table}`")
            cursor.execute("COMMIT")

    @staticmethod
    def _databases(cursor: Any) -> set[str]:
        cursor.execute("SHOW DATABASES")
        return {row[0] for row in cursor.fetchall()}

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        parameters = self._parameters | {"database": ""}
        with (
            closing(MySQLdb.connect(**parameters, autocommit=True)) as connection,
            closing(connection.cursor()) as cursor,
        ):
            yield cursor


def _tables(cursor: Any, database: str) -> set[str]:
    cursor.execute(f"SHOW TABLES FROM `{database}`")
    return {row[0] for row in cursor.fetchall()}


def lay_out(parameters: dict[str, Any], rows: list[tuple[Any, ...]]) -> None:
    """Make the databases, and in one of them the flights of the first four days of 2013."""
    with closing(MySQLdb.connect(**parameters, autocommit=True)) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {COLD} CHARACTER SET utf8mb4")
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute(_FLIGHTS)
        cursor.executemany(f"INSERT INTO flights VALUES ({', '.join(['%s'] * len(rows[0]))})", rows)
        cursor.execute("ANALYZE TABLE flights")


_FLIGHTS: Final = """
CREATE TABLE flights (
    id bigint NOT NULL PRIMARY KEY, year smallint, month smallint, day smallint, dep_time smallint,
    sched_dep_time smallint, dep_delay smallint, arr_time smallint, sched_arr_time smallint, arr_delay smallint,
    carrier varchar(10), flight int, tailnum varchar(10), origin varchar(10), dest varchar(10), air_time smallint,
    distance int, hour smallint, minute smallint, time_hour timestamp NULL, KEY flights_time_hour_id (time_hour, id)
)
"""
