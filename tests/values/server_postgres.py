"""Made tables on PostgreSQL: laid out, and compared by the server to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from airflow_dbhygiene.policy.names import TableName
from tests.job import Job
from tests.values.made import ORDINAL, Table


class PostgresTables:
    """Lays tables out in one database."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def make(self, table: Table, name: TableName) -> None:
        """Make the table and a copy of it; rows whose key is there already are left out."""
        key = ", ".join(map(_name, table.key))
        columns = ", ".join(
            f"{_name(each.name)} {each.definition.replace('{n}', _name(ORDINAL))}" for each in table.columns
        )
        given = ", ".join(_name(each.name) for each in table.columns if each.given)
        with psycopg.connect(self.job.dsn, autocommit=True) as connection:

            def run(statement: str) -> Any:
                return connection.execute(sql.SQL(statement))  # type: ignore[arg-type]

            create = f"CREATE TABLE {_spelled(name)} ({columns}, PRIMARY KEY ({key}))"
            if table.partition_by is None:
                run(create)
            else:
                _partition(run, create, table.partition_by, _spelled(name))
            for row in table.rows:
                run(f"INSERT INTO {_spelled(name)} ({given}) VALUES ({', '.join(row)}) ON CONFLICT DO NOTHING")
            if table.indexed:
                walk = ", ".join(map(_name, dict.fromkeys((table.age, *table.key))))
                run(f"CREATE INDEX ON {_spelled(name)} ({walk})")
            run(f"CREATE TABLE odd.original AS TABLE {_spelled(name)}")
            run(f"ANALYZE {_spelled(name)}")

    def drop(self, name: TableName) -> None:
        """Drop the table and the copy."""
        self.job.execute(f"DROP TABLE IF EXISTS {_spelled(name)}, odd.original CASCADE")

    def numbers(self, name: TableName) -> set[int]:
        """Give the numbers of the rows that are there and are, to the bit, those of the copy."""
        return {
            number
            for (number,) in self.job.execute(
                f"SELECT t.{_name(ORDINAL)} FROM {_spelled(name)} AS t JOIN odd.original AS o"
                f" ON t.{_name(ORDINAL)} = o.{_name(ORDINAL)} WHERE ROW(t.*)::record *= ROW(o.*)::record"
            )
        }

    def count(self, name: TableName) -> int:
        """Count the rows that are there."""
        return int(self.job.one(f"SELECT count(*) FROM {_spelled(name)}"))

    def original(self) -> set[int]:
        """Give the numbers of the copy's rows."""
        return {number for (number,) in self.job.execute(f"SELECT {_name(ORDINAL)} FROM odd.original")}


def _partition(run: Callable[[str], Any], create: str, column: str, name: str) -> None:
    """Partition a table by hash, in three parts; or by range, in one, where a type cannot be hashed."""
    try:
        run(f"{create} PARTITION BY HASH ({_name(column)})")
    except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidObjectDefinition):
        run(f"{create} PARTITION BY RANGE ({_name(column)})")
        run(f"CREATE TABLE odd.part PARTITION OF {name} DEFAULT")
        return
    for number in range(3):
        run(f"CREATE TABLE odd.part_{number} PARTITION OF {name} FOR VALUES WITH (MODULUS 3, REMAINDER {number})")


def _name(name: str) -> str:
    return sql.Identifier(name).as_string()


def _spelled(name: TableName) -> str:
    return sql.Identifier(name.schema, name.table).as_string()
