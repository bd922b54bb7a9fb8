"""The same statement on both sides: what the table held, asked of its server, and what the archive holds, of DuckDB."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from tests.servers.data import FLIGHT_COLUMNS

_STATEMENT = """
SELECT year, month, count(*), sum(distance), coalesce(sum(arr_delay), 0), {digest}
FROM {source} WHERE {condition} GROUP BY year, month ORDER BY year, month
"""


@dataclass(frozen=True)
class Month:
    """One month's flights: how many, sums of two columns, and a digest over every value of every row."""

    year: int
    month: int
    flights: int
    distance: int
    arr_delay: int
    sha256: str

    @property
    def name(self) -> str:
        """Name the month: 2013-01."""
        return f"{self.year}-{self.month:02}"


Months = tuple[Month, ...]


@dataclass(frozen=True)
class Dialect:
    """How a server writes values as text, seconds since 1970, and a digest over all lines."""

    text: str
    seconds: str
    digest: str

    def statement(self, source: str, condition: str) -> str:
        """Ask for the months' flights that fulfil a condition."""
        moment = self.seconds.format("time_hour")
        texts = (self.text.format(value) for value in ("id", *FLIGHT_COLUMNS[:-1], moment))
        line = f"concat({', '.join(f'''coalesce({text}, '~'), '|' ''' for text in texts)})"
        return _STATEMENT.format(digest=self.digest.format(line), source=source, condition=condition)


_TEXT, _SECONDS, _LINES = (
    "CAST({} AS text)",
    "CAST(extract(epoch FROM {}) AS bigint)",
    "string_agg({}, '\n' ORDER BY id)",
)
DUCKDB = Dialect(_TEXT, _SECONDS, f"sha256({_LINES})")
POSTGRESQL = Dialect(_TEXT, _SECONDS, f"encode(sha256(convert_to({_LINES}, 'UTF8')), 'hex')")
MYSQL = Dialect("CAST({} AS char)", "unix_timestamp({})", "sha2(group_concat({} ORDER BY id SEPARATOR '\n'), 256)")


def in_archive(folder: Path) -> Months:
    """Ask DuckDB for the flights in all Parquet files below a folder."""
    with duckdb.connect() as connection:
        found = connection.execute(DUCKDB.statement(f"read_parquet('{folder}/**/*.parquet')", "true"))
        return months_of(found.fetchall())


def flights(months: Months) -> int:
    """Count the flights of all months."""
    return sum(month.flights for month in months)


def months_of(rows: Iterable[tuple[Any, ...]]) -> Months:
    """Take the statement's rows, whose sums are decimals on some servers."""
    return tuple(
        Month(year, month, count, int(distance), int(delay), sha256)
        for year, month, count, distance, delay, sha256 in rows
    )
