"""Connections to MySQL and MariaDB: their settings, their cancellation, and their errors as ours."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from airflow_dbhygiene import errors
from airflow_dbhygiene.databases.mysql.drivers import driver_errors, driver_of, errno_of, run

Values = Sequence[object] | Mapping[str, object]

_IDLE_TRANSACTION_SECONDS: Final = 60

SETTINGS: Final[Mapping[str, object]] = {
    "autocommit": 1,  # MySQL greets with it on where its default is off, and the driver believes that
    "time_zone": "'+00:00'",
    # No mode that changes how SQL is read: predicates were parsed with backslash escapes and without ANSI_QUOTES.
    "sql_mode": "'STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'",
    "lock_wait_timeout": 5,  # of metadata locks; the default is a year
    # A store may take longer for an object than a server lets connections stand idle. It is no more than that, since on
    # MySQL a machine that is gone keeps its locks as long.
    "wait_timeout": "CAST(greatest(@@wait_timeout, 600) AS SIGNED)",
    "net_write_timeout": 600,  # while rows are archived the server may have to wait for us
    "sql_safe_updates": 0,
    "sql_select_limit": 2**64 - 1,  # its DEFAULT is the server's own, and would cut holds, outcomes and copies short
    "sql_big_selects": 1,  # or a max_join_size of the server's would refuse to count, to plan, to compare
    "foreign_key_checks": 1,
    "sql_auto_is_null": 0,
    "sql_quote_show_create": 1,
    "completion_type": "'NO_CHAIN'",  # under CHAIN what follows a commit would be rolled back at the end
}
_MYSQL: Final[Mapping[str, object]] = {
    "transaction_isolation": "'READ-COMMITTED'",
    "max_execution_time": 0,  # a chunk is read for as long as it takes
    "information_schema_stats_expiry": 0,  # or estimates would be a day old
    "range_optimizer_max_mem_size": 0,  # a batch's keys are many ranges; beyond the limit it would scan the table
}
_MARIADB: Final[Mapping[str, object]] = {
    "tx_isolation": "'READ-COMMITTED'",
    "max_statement_time": 0,  # a chunk is read for as long as it takes
    "idle_transaction_timeout": _IDLE_TRANSACTION_SECONDS,
    "innodb_strict_mode": 0,  # tables that are older than it may have more columns than it lets us put beside them
    "in_predicate_conversion_threshold": 0,  # a list of keys made into a subquery would scan the table
}
_MARIADB_FROM_10_11: Final[Mapping[str, object]] = {"optimizer_max_sel_arg_weight": 0}

_LOCK_SECONDS: Final = 2.0
_WATCH_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 5.0
_MARIADB_10_11: Final = 101100

_DENIED: Final = frozenset({1044, 1142, 1143, 1227, 1370, 1410, 1419})
_LOGIN: Final = frozenset({1045, 1130, 1698, 1820, 1862, 3118})
_NOT_FOUND: Final = frozenset({1049, 1051, 1054, 1109, 1146, 1305})
_READ_ONLY: Final = frozenset({1290, 1792, 1836})
_REFERENCED: Final = frozenset({1216, 1217, 1451, 1452})
_TIMED_OUT: Final = frozenset({1020, 1205, 1213, 1412, 1614, 3058, 3572})
_TOO_LONG: Final = frozenset({1317, 1969, 3024})
_UNAVAILABLE: Final = frozenset(
    {1040, 1043, 1053, 1077, 1129, 1152, 1158, 1159, 1160, 1161, 1180, 1203, 1226, 1927, 3169, 4031}
)
_FULL: Final = frozenset({3, 20, 1021, 1026, 1030, 1114, 1878})
"""The disk, or a table's room: 3 and 20 are of the system's files below the server."""
_CLIENT: Final = range(2000, 2100)
"""Errors of the client's library: the server was not reached, or went away."""


def translate(error: Exception) -> errors.HygieneError:
    """Tell by the error's number, never by its text, whether a retry may help."""
    number = errno_of(error)
    text = " ".join(str(error.args[-1] if error.args else error).split())
    if number in {None, 0} or number in _CLIENT:
        return errors.DatabaseUnavailable(f"the database did not answer: {text}. Is it up, and its address right?")
    if number in _LOGIN:
        return errors.PrivilegeMissing(f"the database refused the login: {text}. Correct the Airflow connection.")
    return error_of(number, f"{text} (error {number})")


def error_of(number: int, message: str) -> errors.HygieneError:
    """Make ours of an error of the server's, by its number."""
    return _kind_of(number)(message)


def _kind_of(number: int) -> type[errors.HygieneError]:
    kinds: tuple[tuple[frozenset[int], type[errors.HygieneError]], ...] = (
        (_DENIED, errors.PrivilegeMissing),
        (_NOT_FOUND, errors.NotFound),
        (_READ_ONLY, errors.ReadOnlyServer),
        (_REFERENCED, errors.RowsReferenced),
        (_TIMED_OUT, errors.StatementTimedOut),
        (_TOO_LONG, errors.StatementTooLong),
        (_UNAVAILABLE | _FULL, errors.DatabaseUnavailable),
    )
    return next((kind for numbers, kind in kinds if number in numbers), errors.StatementFailed)


@contextmanager
def translated() -> Iterator[None]:
    """Let driver errors leave as ours."""
    try:
        yield
    except Exception as error:
        if isinstance(error, driver_errors()):
            raise translate(error) from error
        raise


@dataclass(frozen=True)
class Flavour:
    """Which of the two servers answers, and its version as one number: 90704, 101119."""

    mariadb: bool
    version: int

    @property
    def engine(self) -> str:
        """The name that people know it by."""
        return "mariadb" if self.mariadb else "mysql"


def flavour_of(version: str) -> Flavour:
    """Read what the server says of itself: "9.7.4-2", "10.11.19-MariaDB-log" or "5.5.5-10.11.19-MariaDB"."""
    mariadb = "mariadb" in version.lower()
    found = re.findall(r"(\d+)\.(\d+)\.(\d+)", version)
    major, minor, patch = map(int, found[-1 if mariadb else 0])
    return Flavour(mariadb, major * 10_000 + minor * 100 + patch)


def refuse_if(stopped: threading.Event) -> None:
    """Begin nothing more once the task was told to stop: a cancelled query looks like a timeout, and steps go on.

    :raises DatabaseUnavailable: since a retry goes on where this try stopped
    """
    if stopped.is_set():
        raise errors.DatabaseUnavailable("the task was told to stop: its queries were cancelled. A retry goes on.")


class _Rollback(Exception):
    """The transaction is to be undone, and nothing is wrong."""


class MySqlSession:
    """One connection. Outside ``transaction`` every statement commits by itself."""

    def __init__(self, connection: Any, connections: Connections, stopped: threading.Event) -> None:
        self.driver = driver_of(connection)
        self._stopped = stopped
        self._connections = connections
        self._others = contextlib.ExitStack()
        self._second: MySqlSession | None = None
        self._second_asked = 0.0
        self.walk_indexes: dict[Any, str | None] = {}
        self.crowded = False
        """Whether others lock rows in between those that this session deletes."""
        self.alike = True
        """Whether all ranges that this session has deleted were what the archive says."""
        self._in_transaction = False
        with translated():
            self.driver.begin_life()
            self.flavour = flavour_of(str(self.execute("SELECT version()")[0][0]))
            self.execute(_set(_settings_of(self.flavour)))

    @contextmanager
    def transaction(
        self,
        *,
        walking: bool = False,  # noqa: ARG002 - each statement that walks names its index
        durable: bool | None = None,  # noqa: ARG002 - whether a commit waits for the disk is the server's to say
        statement_seconds: float | None = None,
        lock_seconds: float | None = None,
        idle_seconds: float | None = None,
    ) -> Iterator[None]:
        """Commit on leaving, roll back on an exception; InnoDB's own roll back after 1205 undoes one statement only.

        :param statement_seconds: how long a SELECT may take
        :param lock_seconds: how long to wait for row locks
        :param idle_seconds: how long it may be open and ask nothing
        """
        if self._in_transaction:
            raise RuntimeError("a transaction is open already")
        self.wait_for_locks(_LOCK_SECONDS if lock_seconds is None else lock_seconds)
        self._limit_statements(statement_seconds)
        if idle_seconds is not None:
            self._limit_idleness(idle_seconds)
        self.execute("START TRANSACTION")
        self._in_transaction = True
        try:
            yield
            self.execute("COMMIT")
        except _Rollback:
            self._undo()
        except BaseException:
            with contextlib.suppress(errors.HygieneError):
                self._undo()
            raise
        finally:
            self._in_transaction = False
            if statement_seconds is not None:
                with contextlib.suppress(errors.HygieneError):
                    self._limit_statements(None)
            if idle_seconds is not None:
                with contextlib.suppress(errors.HygieneError):
                    self._limit_idleness(_IDLE_TRANSACTION_SECONDS)

    @staticmethod
    def rollback() -> NoReturn:
        """Undo the transaction that it is called in, and go on behind it."""
        raise _Rollback

    def wait_for_locks(self, seconds: float) -> None:
        """Wait for row locks no longer than this; MySQL knows whole seconds from 1, MariaDB from 0."""
        whole = math.floor(seconds) if self.flavour.mariadb else max(1, math.floor(seconds))
        self.execute(f"SET SESSION innodb_lock_wait_timeout = {whole}")

    def execute(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Run one statement with bound values and give all its rows."""
        refuse_if(self._stopped)
        with translated():
            return run(self.driver, statement, values)[0]

    def execute_named(self, statement: str) -> list[dict[str, Any]]:
        """Run one statement and give its rows by the names of their columns, which vary between releases."""
        refuse_if(self._stopped)
        with translated(), contextlib.closing(self.driver.cursor()) as cursor:
            cursor.execute(statement)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def change(self, statement: str, values: Values = ()) -> int:
        """Run one statement that changes rows, and give their number."""
        refuse_if(self._stopped)
        with translated():
            return run(self.driver, statement, values)[1]

    def insert_new(self, table: str, row: Mapping[str, object]) -> bool:
        """Insert a row; False when its key is there already."""
        names, marks, first = ", ".join(row), ", ".join(["%s"] * len(row)), next(iter(row))
        statement = f"INSERT INTO {table} ({names}) VALUES ({marks}) ON DUPLICATE KEY UPDATE {first} = {first}"
        return self.change(statement, tuple(row.values())) == 1

    def second(self) -> MySqlSession:
        """Give another connection, which lasts as long as this one, unless it stood idle: servers close such."""
        if time.monotonic() - self._second_asked > _IDLE_SECONDS:
            self.close_second()
        self._second_asked = time.monotonic()
        if self._second is None:
            second = self._others.enter_context(self._connections.session())
            # Where somebody waits to change the table, the first one, which he waits for, waits for this one.
            second.execute("SET SESSION lock_wait_timeout = 1")
            self._second = second
        return self._second

    def close_second(self) -> None:
        """Close the other connection, if there is one."""
        self._second = None
        self._others.close()

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Cancel what runs inside when it takes longer: neither server has a limit of its own for every statement."""
        ended = threading.Event()
        threading.Thread(target=self._watch, args=(self.driver.thread_id, seconds, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _watch(self, thread_id: int, seconds: float, ended: threading.Event) -> None:
        """Cancel as soon as the time is over; a server that cannot be reached just then is asked again."""
        while not ended.wait(seconds):
            seconds = _WATCH_SECONDS
            with contextlib.suppress(errors.HygieneError):
                self._connections.cancel_one(thread_id)

    def _undo(self) -> None:
        """Roll back even when the task was told to stop."""
        with translated():
            run(self.driver, "ROLLBACK", None)

    def _limit_statements(self, seconds: float | None) -> None:
        limit = seconds or 0
        name, value = ("max_statement_time", limit) if self.flavour.mariadb else ("max_execution_time", limit * 1000)
        self.execute(f"SET SESSION {name} = {value if self.flavour.mariadb else int(value)}")

    def _limit_idleness(self, seconds: float) -> None:
        if self.flavour.mariadb:
            self.execute(f"SET SESSION idle_transaction_timeout = {math.ceil(seconds)}")


class Connections:
    """Opens connections, and remembers those in use so that another thread can cancel them."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._in_use: set[int] = set()
        self._stopped = threading.Event()
        self._lock = threading.RLock()  # a signal may call cancel while this very thread holds it

    @contextmanager
    def session(self) -> Iterator[MySqlSession]:
        """Open a connection and close it at the end; with a result half read, that ends the query too."""
        with translated():
            connection = self._connect()
        try:
            session = MySqlSession(connection, self, self._stopped)
            thread_id = session.driver.thread_id
            with self._lock:
                self._in_use.add(thread_id)
            try:
                yield session
            finally:
                with self._lock:
                    self._in_use.discard(thread_id)
                session.close_second()
        finally:
            with contextlib.suppress(*driver_errors()):
                connection.close()

    def cancel(self) -> None:
        """Cancel what every open connection is running, and let none begin anything more."""
        self._stopped.set()
        with self._lock:
            threads = tuple(self._in_use)
        for thread_id in threads:
            self.cancel_one(thread_id)

    def cancel_one(self, thread_id: int) -> None:
        """Cancel what one connection is running; it may have ended by itself."""
        with translated():
            driver = driver_of(self._connect())
        try:
            with contextlib.suppress(*driver_errors()):
                run(driver, f"KILL QUERY {int(thread_id)}", None)
        finally:
            driver.connection.close()


def _settings_of(flavour: Flavour) -> Mapping[str, object]:
    if not flavour.mariadb:
        return {**SETTINGS, **_MYSQL}
    later = _MARIADB_FROM_10_11 if flavour.version >= _MARIADB_10_11 else {}
    return {**SETTINGS, **_MARIADB, **later}


def _set(settings: Mapping[str, object]) -> str:
    return "SET " + ", ".join(f"SESSION {name} = {value}" for name, value in settings.items())
