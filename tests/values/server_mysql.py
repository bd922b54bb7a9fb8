"""Made tables on MariaDB and MySQL: laid out, and compared by the server byte for byte."""

from __future__ import annotations

import re
from typing import Any

import MySQLdb

from airflow_dbhygiene.policy.names import TableName
from tests.mysql_job import MySqlJob
from tests.values.made import ORDINAL, Table

_DUPLICATE = 1062
_PREPARE = "SET sql_mode = 'ALLOW_INVALID_DATES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'"


class MySqlTables:
    """Lays tables out in one database."""

    def __init__(self, job: MySqlJob) -> None:
        self.job = job
        self._columns: list[str] = []

    def make(self, table: Table, name: TableName) -> None:
        """Make the table and a copy of it; rows whose key is there already are left out."""
        self._columns = [_name(each.name) for each in table.columns]
        columns = ", ".join(
            f"{_name(each.name)} {each.definition.replace('{n}', _name(ORDINAL))}" for each in table.columns
        )
        given = ", ".join(_name(each.name) for each in table.columns if each.given)
        spelled, key = _spelled(name), ", ".join(map(_name, table.key))
        partitioned = _partitions(table)
        with self.job.open() as connection, connection.cursor() as cursor:
            cursor.execute(_PREPARE)
            cursor.execute(
                f"CREATE TABLE {spelled} ({columns}, PRIMARY KEY ({key})) CHARACTER SET utf8mb4{partitioned}"
            )
            for row in table.rows:
                _insert(cursor, f"INSERT INTO {spelled} ({given}) VALUES ({', '.join(row)})")
            if table.indexed:
                walk = ", ".join(map(_name, dict.fromkeys((table.age, *table.key))))
                cursor.execute(f"CREATE INDEX walk ON {spelled} ({walk})")
            cursor.execute(f"CREATE TABLE original AS SELECT {', '.join(self._columns)} FROM {spelled}")
            cursor.execute(f"ANALYZE TABLE {spelled}")

    def drop(self, name: TableName) -> None:
        """Drop the table and the copy."""
        self.job.execute(f"DROP TABLE IF EXISTS {_spelled(name)}, original")

    def count(self, name: TableName) -> int:
        """Count the rows that are there."""
        return int(self.job.one(f"SELECT count(*) FROM {_spelled(name)}"))

    def numbers(self, name: TableName) -> set[int]:
        """Give the numbers of the rows that are there and are, byte for byte, those of the copy."""
        same = " AND ".join(
            f"hex(CAST(t.{each} AS BINARY)) <=> hex(CAST(o.{each} AS BINARY)) AND t.{each} <=> o.{each}"
            for each in self._columns
        )
        ordinal = _name(ORDINAL)
        found = self.job.execute(
            f"SELECT t.{ordinal} FROM {_spelled(name)} AS t JOIN original AS o USING ({ordinal}) WHERE {same}"
        )
        return {number for (number,) in found}

    def original(self) -> set[int]:
        """Give the numbers of the copy's rows."""
        return {number for (number,) in self.job.execute(f"SELECT {_name(ORDINAL)} FROM original")}


def _insert(cursor: Any, statement: str) -> None:
    try:
        cursor.execute(statement)
    except MySQLdb.IntegrityError as error:
        if error.args[0] != _DUPLICATE:
            raise


def _name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _partitions(table: Table) -> str:
    """Cut the table up, if that is wished: MariaDB does so with none that has shapes."""
    shapes = any(re.match("geom|point|line|poly|multi", each.definition) for each in table.columns)
    if table.partition_by is None or shapes:
        return ""
    return f" PARTITION BY KEY ({_name(table.partition_by)}) PARTITIONS 3"


def _spelled(name: TableName) -> str:
    return f"{_name(name.schema)}.{_name(name.table)}"
