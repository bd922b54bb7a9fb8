"""Connections to PostgreSQL: their settings, their cancellation, and their errors as ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

import adbc_driver_manager
import psycopg
from psycopg import sql

from airflow_dbhygiene import errors
from airflow_dbhygiene.databases.postgres.keepalive import KEEPALIVE, keep_alive

if TYPE_CHECKING:
    from adbc_driver_manager import dbapi

Query = str | sql.Composable

KNOWS_TRANSACTION_TIMEOUT: Final = 170000

SETTINGS: Mapping[str, object] = {
    "application_name": "airflow-dbhygiene",
    "row_security": "off",  # an error instead of silently filtered rows
    "client_encoding": "UTF8",  # as Arrow and Parquet have it, whatever the database's own
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": 1,
    "lc_monetary": "C",
    "xmloption": "content",
    "array_nulls": "on",
    "standard_conforming_strings": "on",  # a predicate was parsed by that rule
    "jit": "off",  # a batch is over before the compiler would be
    "lock_timeout": "2s",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "60s",
    "transaction_timeout": "0",  # an archive reads its chunk in one transaction; only from version 17 on
    "client_connection_check_interval": "1s",  # a killed worker's DELETE ends, and rolls back
    "enable_seqscan": "on",
    "enable_incremental_sort": "on",  # rows of one age are sorted by their keys
}

_WALKING: Mapping[str, object] = {"enable_seqscan": "off", "enable_sort": "off"}
"""Planner settings under which a walk follows its index unless there is no way at all."""

READING: Mapping[str, object] = {
    "transaction_read_only": "on",
    **_WALKING,
}

_ONE_BY_ONE: Mapping[str, object] = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
}
_SHARED: Mapping[str, object] = {
    "parallel_setup_cost": 0,
    "min_parallel_table_scan_size": 0,
    "min_parallel_index_scan_size": 0,
}
_AS_THEY_LIE: Mapping[str, object] = {"enable_indexscan": "off"}

_TERMINAL: Mapping[str, type[errors.Terminal]] = {
    "42501": errors.PrivilegeMissing,
    "42P01": errors.NotFound,
    "42703": errors.NotFound,
    "3F000": errors.NotFound,
    "3D000": errors.NotFound,
    "25006": errors.ReadOnlyServer,
    "23503": errors.RowsReferenced,
}
_TRANSIENT: Mapping[str, type[errors.Transient]] = {
    "55P03": errors.StatementTimedOut,
    "57014": errors.StatementTooLong,
    "40P01": errors.StatementTimedOut,
    "40001": errors.StatementTimedOut,
    "25P03": errors.DatabaseUnavailable,
    "53000": errors.DatabaseUnavailable,
    "53100": errors.DatabaseUnavailable,
    "53200": errors.DatabaseUnavailable,
    "53300": errors.DatabaseUnavailable,
    "57P01": errors.DatabaseUnavailable,
    "57P02": errors.DatabaseUnavailable,
    "57P03": errors.DatabaseUnavailable,
    "57P05": errors.DatabaseUnavailable,
}


def translate(error: Exception) -> errors.HygieneError:
    """Tell by SQLSTATE, never by text, whether a retry may help.

    An error without SQLSTATE is the connection's own: the server was not reached, or went away.
    """
    state = getattr(error, "sqlstate", None)
    text = " ".join(str(error).split())
    if state is None or state.startswith("08"):
        return errors.DatabaseUnavailable(
            f"the database did not answer: {text}. Is it up, and are address and login right?"
        )
    if state in ("28P01", "28000"):
        return errors.PrivilegeMissing(f"the database refused the login: {text}. Correct the Airflow connection.")
    kind: type[errors.HygieneError] = _TERMINAL.get(state) or _TRANSIENT.get(state) or errors.StatementFailed
    return kind(f"{text} (SQLSTATE {state})")


@contextmanager
def translated() -> Iterator[None]:
    """Let driver errors leave as ours."""
    try:
        yield
    except (psycopg.Error, adbc_driver_manager.Error) as error:
        raise translate(error) from error


def refuse_if(stopped: threading.Event) -> None:
    """Begin nothing more once the task was told to stop: a cancelled query looks like a timeout, and steps go on.

    :raises DatabaseUnavailable: since a retry goes on where this try stopped
    """
    if stopped.is_set():
        raise errors.DatabaseUnavailable("the task was told to stop: its queries were cancelled. A retry goes on.")


class PostgresSession:
    """One connection. Outside ``transaction`` every statement commits by itself."""

    def __init__(self, connection: psycopg.Connection[Any], stopped: threading.Event | None = None) -> None:
        connection.autocommit = True
        # Under a stricter default a batch would not see a hold that was placed while it waited.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        if connection.info.encoding != "utf-8":
            connection.execute("SET client_encoding = 'UTF8'")
        if not (connection.info.parameter_status("DateStyle") or "").startswith("ISO"):
            connection.execute("SET DateStyle = 'ISO, YMD'")  # psycopg reads no other
        connection.prepare_threshold = None  # poolers in transaction mode know no prepared statements
        self.connection = connection
        self._stopped = stopped or threading.Event()
        self.notices: list[tuple[str, str]] = []
        """What the server remarked: the function of its own that did, and the words."""
        connection.add_notice_handler(
            lambda notice: self.notices.append((notice.source_function or "", notice.message_primary or ""))
        )

    @property
    def version(self) -> int:
        """The server's version as it numbers itself: 160004."""
        return self.connection.info.server_version

    @contextmanager
    def transaction(
        self,
        *,
        walking: bool = False,
        durable: bool | None = None,
        statement_seconds: float | None = None,
        lock_seconds: float | None = None,
        idle_seconds: float | None = None,
        **settings: object,
    ) -> Iterator[None]:
        """Commit on leaving, roll back on an exception; settings hold for this transaction only."""
        limits = {
            "statement_timeout": statement_seconds,
            "lock_timeout": lock_seconds,
            "idle_in_transaction_session_timeout": idle_seconds,
        }
        asked: dict[str, object] = {
            **({} if durable is None else {"synchronous_commit": "on" if durable else "off"}),
            **(_WALKING if walking else {}),
            **{name: f"{int(seconds * 1000)}ms" for name, seconds in limits.items() if seconds is not None},
        }
        with translated(), self.connection.transaction():
            self.execute(settings_query({**SETTINGS, **asked, **settings}, self.version))
            yield

    @contextmanager
    def before_a_deadlock(self) -> Iterator[None]:
        """Let statements inside end before others look for a deadlock.

        Whoever waits for one of our rows looks for one after deadlock_timeout, and gives up if there is one: by then we
        wait for nobody any more. A statement that is cut short leaves its transaction to be rolled back.
        """
        self.execute(
            "SELECT pg_catalog.set_config('statement_timeout', greatest(1, extract(epoch FROM"
            " current_setting('deadlock_timeout')::interval) * 800)::int || 'ms', true)"
        )
        yield
        self.execute("SELECT pg_catalog.set_config('statement_timeout', '0', true)")

    def one_by_one(self) -> None:
        """Look joined rows up one by one from here on: of rows just copied, or sent, no statistics tell."""
        self.set({**_ONE_BY_ONE, "max_parallel_workers_per_gather": 0})

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Share the work of each query inside between as many processes as the server allows for one."""
        allowed = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'max_parallel_workers_per_gather'"
        self.set({**_SHARED, "max_parallel_workers_per_gather": self.execute(allowed)[0][0]})
        yield
        self.set({"max_parallel_workers_per_gather": 0})

    def as_they_lie(self) -> None:
        """Read rows page by page from here on, and not in the order of the index that leads to them."""
        self.set(_AS_THEY_LIE)

    def set(self, settings: Mapping[str, object]) -> None:
        """Change settings until the transaction ends."""
        self.execute(settings_query(settings, self.version))

    @staticmethod
    def rollback() -> NoReturn:
        """Undo the transaction that it is called in, and go on behind it."""
        raise psycopg.Rollback

    def execute(self, statement: Query, values: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement with bound values and give all its rows."""
        refuse_if(self._stopped)
        with translated():
            cursor = self.connection.execute(statement, values or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def change(self, statement: Query, values: Sequence[object] | Mapping[str, object] = ()) -> int:
        """Run one statement that changes rows, and give their number."""
        refuse_if(self._stopped)
        with translated():
            return self.connection.execute(statement, values or None).rowcount  # type: ignore[arg-type]

    def insert_new(self, table: str, row: Mapping[str, object]) -> bool:
        """Insert a row; False when its key is there already."""
        names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
        statement = f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        return self.change(statement, tuple(row.values())) == 1

    def execute_binary(self, statement: sql.Composed) -> list[tuple[Any, ...]]:
        """Run one statement and take its rows in the server's binary form, which is half the size for bytes."""
        refuse_if(self._stopped)
        with translated():
            return self.connection.execute(statement, binary=True).fetchall()

    def render(self, statement: sql.Composable) -> str:
        """Show the SQL that would be sent."""
        return statement.as_string(self.connection)


class Connections:
    """Opens connections, and remembers those in use so that another thread can cancel them."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._in_use: set[psycopg.Connection[Any]] = set()
        self._reading: set[int] = set()
        self._stopped = threading.Event()
        self._lock = threading.RLock()  # a signal may call cancel while this very thread holds it

    @contextmanager
    def session(self) -> Iterator[PostgresSession]:
        """Open a connection and close it at the end."""
        with translated():
            connection = self._connect()
            keep_alive(connection)
            with self._lock:
                self._in_use.add(connection)
            try:
                yield PostgresSession(connection, self._stopped)
            finally:
                with self._lock:
                    self._in_use.discard(connection)
                connection.close()

    @contextmanager
    def reader(self) -> Iterator[dbapi.Connection]:
        """Open a read-only connection that gives Arrow data."""
        import adbc_driver_postgresql.dbapi as adbc  # noqa: PLC0415 - it loads pandas; few steps need it

        refuse_if(self._stopped)
        with translated(), self._connect() as known:
            parameters: dict[str, Any] = {**KEEPALIVE, **known.info.get_parameters()}
            conninfo = psycopg.conninfo.make_conninfo(**parameters, password=known.info.password)
            version = known.info.server_version
        with translated(), adbc.connect(conninfo) as connection, connection.cursor() as cursor:
            # A serializable reader, of a role's default, would make serializable transactions of the application fail.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute(settings_query({**SETTINGS, **READING}, version).as_string())
            pid = _one(cursor, "SELECT pg_backend_pid()")
            with self._lock:
                self._reading.add(pid)
            try:
                yield connection
            finally:
                with self._lock:
                    self._reading.discard(pid)

    def cancel(self) -> None:
        """Cancel what every open connection is running, and let none begin anything more."""
        self._stopped.set()
        with self._lock:
            connections, pids = tuple(self._in_use), tuple(self._reading)
        for connection in connections:
            connection.cancel_safe(timeout=2)
        if pids:
            with self._connect() as connection:
                connection.execute("SELECT pg_cancel_backend(pid) FROM unnest(%s::int[]) AS pid", (list(pids),))


def settings_query(settings: Mapping[str, object], version: int) -> sql.Composed:
    """SELECT the settings into force for the transaction: one statement, and poolers in transaction mode obey."""
    known = {name: value for name, value in settings.items() if value is not None and _known(name, version)}
    calls = [
        sql.SQL("set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(str(value)))
        for name, value in known.items()
    ]
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls))


def _known(name: str, version: int) -> bool:
    return name != "transaction_timeout" or version >= KNOWS_TRANSACTION_TIMEOUT


def _one(cursor: dbapi.Cursor, statement: str) -> int:
    cursor.execute(statement)
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has a row
    return int(row[0])
