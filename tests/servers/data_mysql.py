"""The data of `tests.servers.data`, loaded into MariaDB and MySQL by LOAD DATA from this machine's disk."""

import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import MySQLdb

from tests.servers.data import FLIGHT_COLUMNS, STATEMENTS, flight_files, generate, pieces

_SETTINGS = "SET sql_mode = '', time_zone = '+00:00', foreign_key_checks = 0, unique_checks = 0"
_COLUMNS: Mapping[str, Sequence[str]] = {
    "airlines": ("carrier", "name"),
    "airports": ("faa", "name", "lat", "lon", "alt", "tz", "dst", "tzone"),
    "planes": ("tailnum", "year", "type", "manufacturer", "model", "engines", "seats", "speed", "engine"),
    "flights": FLIGHT_COLUMNS,
    "orders": (
        *("o_orderkey", "o_custkey", "o_orderstatus", "o_totalprice", "o_orderdate"),
        *("o_orderpriority", "o_clerk", "o_shippriority", "o_comment"),
    ),
}


def load_flights(parameters: Mapping[str, Any]) -> None:
    """Create flights, airlines, airports and planes, with the keys, foreign keys and indexes that they have elsewhere.

    :param parameters: what the driver's `connect` takes; the server must read files of this machine
    """
    files = flight_files()
    with closing(MySQLdb.connect(**parameters, autocommit=True)) as connection:
        _execute_file(connection, "flights_mysql")
        for table in ("airlines", "airports", "planes"):
            with (files / f"{table}.csv").open("rb") as file:
                _load(connection, table, pieces(file))
        with zipfile.ZipFile(files / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
            _load(connection, "flights", pieces(file))
        _execute_file(connection, "flights_mysql_keys")


def load_orders(parameters: Mapping[str, Any], scale: float = 1.0) -> None:
    """Create TPC-H's orders: 1.5 million rows times `scale`, o_orderdate from 1992-01-01 to 1998-08-02."""
    with closing(MySQLdb.connect(**parameters, autocommit=True)) as connection:
        _execute_file(connection, "orders_mysql")
        _load(connection, "orders", generate("orders", scale))
        _execute(connection, "ANALYZE TABLE orders")


def _execute_file(connection: Any, name: str) -> None:
    for statement in (STATEMENTS / f"{name}.sql").read_text().split(";\n"):
        if statement.strip():
            _execute(connection, statement)


def _execute(connection: Any, statement: str) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        cursor.fetchall()


def _load(connection: Any, table: str, content: Iterable[bytes]) -> None:
    columns = _COLUMNS[table]
    with tempfile.NamedTemporaryFile(prefix="dbhygiene-load-", suffix=".csv") as file:
        _write(file, content)
        Path(file.name).chmod(0o644)  # the server is another user
        _execute(connection, _SETTINGS)
        _execute(connection, _statement(table, columns, file.name))
        _execute(connection, "SET time_zone = DEFAULT, foreign_key_checks = 1, unique_checks = 1")


def _write(file: IO[bytes], content: Iterable[bytes]) -> None:
    for piece in content:
        file.write(piece)
    file.flush()


def _statement(table: str, columns: Sequence[str], path: str) -> str:
    """R wrote these files: it spells a missing value NA, and a moment with T and Z. TPC-H has neither."""
    moments = ("time_hour",)
    values = ", ".join(
        f"`{name}` = replace(replace(@{name}, 'T', ' '), 'Z', '')"
        if name in moments
        else f"`{name}` = nullif(@{name}, 'NA')"
        for name in columns
    )
    return (
        f"LOAD DATA INFILE '{path}' INTO TABLE `{table}` CHARACTER SET utf8mb4"
        " FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY '\\n' IGNORE 1 LINES"
        f" ({', '.join('@' + name for name in columns)}) SET {values}"
    )
