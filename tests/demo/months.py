"""The same statement on both sides: what the table held, asked of PostgreSQL, and what the archive holds, of DuckDB."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from tests.servers.data import FLIGHT_COLUMNS

_VALUES = ", '|', ".join(
    f"coalesce(CAST({value} AS text), '~')"
    for value in ("id", *FLIGHT_COLUMNS[:-1], "CAST(extract(epoch FROM time_hour) AS bigint)")
)
_STATEMENT = f"""
SELECT year, month, count(*),
       CAST(sum(distance) AS bigint),
       CAST(coalesce(sum(arr_delay), 0) AS bigint),
       md5(string_agg(concat({_VALUES}), '\n' ORDER BY id))
FROM {{source}} WHERE {{condition}} GROUP BY year, month ORDER BY year, month
"""


@dataclass(frozen=True)
class Month:
    """One month's flights: how many, sums of two columns, and a digest over every value of every row."""

    year: int
    month: int
    flights: int
    distance: int
    arr_delay: int
    md5: str

    @property
    def name(self) -> str:
        """Name the month: 2013-01."""
        return f"{self.year}-{self.month:02}"


Months = tuple[Month, ...]


def in_table(connection: psycopg.Connection[Any], condition: str) -> Months:
    """Ask PostgreSQL for the flights that fulfil a condition."""
    statement = _STATEMENT.format(source="public.flights", condition=condition)
    return _months(connection.execute(statement.encode()).fetchall())


def in_archive(folder: Path) -> Months:
    """Ask DuckDB for the flights in all Parquet files below a folder."""
    statement = _STATEMENT.format(source=f"read_parquet('{folder}/**/*.parquet')", condition="true")
    with duckdb.connect() as connection:
        return _months(connection.execute(statement).fetchall())


def flights(months: Months) -> int:
    """Count the flights of all months."""
    return sum(month.flights for month in months)


def _months(rows: Iterable[tuple[Any, ...]]) -> Months:
    return tuple(Month(*row) for row in rows)
