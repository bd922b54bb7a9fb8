"""Processes that stop, or kill themselves, at a chosen point of a step.

A process without threads imports everything once and forks a child for each order that it reads. The child puts a
point before and after each thing that a step does to the world outside: connections, statements, BEGIN, COMMIT and
ROLLBACK, reads of the archive's rows, each move of an upload, fetches and removals. Nothing in the package knows of it.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, NoReturn, Self

import adbc_driver_manager.dbapi
import adbc_driver_postgresql.dbapi
import MySQLdb
import MySQLdb.cursors
import psycopg
from fsspec.implementations.local import LocalFileSystem
from psycopg import sql

from airflow_dbhygiene.errors import Transient
from tests.faults.mysql_stage import MySqlStage
from tests.faults.stage import POLICY, Stage, perform
from tests.servers.cache import PROJECT_ROOT

TRIES: Final = 5
"""How often a step is retried on errors that a retry may help, as Airflow would."""


_ROWS_PER_POINT: Final = 200


class Point(NamedTuple):
    """A place in a step: what happens there, before or after it, and for the how many-th time."""

    kind: str
    moment: str
    nth: int

    def __str__(self) -> str:
        return f"{self.moment} {self.kind} no. {self.nth}"


@dataclass(frozen=True)
class Order:
    """What a child does.

    :param steps: the steps to run, by their names in STEPS
    :param at: the point at which it gets the signal; None: it only notes the points that it passes
    :param locked_row: key of a row that the application locks until the step waits for it
    :param remote: whether the store is one that files are put to, as to S3, and not a local folder
    :param engine: which stage it is: one of PostgreSQL, or one of MariaDB and MySQL
    """

    dsn: str
    folder: str
    steps: tuple[str, ...]
    result: str
    at: Point | None = None
    signal: int = signal.SIGKILL
    locked_row: int | None = None
    remote: bool = False
    policy_json: str = POLICY.json_text
    engine: str = "postgresql"

    def stage(self) -> Stage:
        """Give the stage that it works on."""
        kind = Stage if self.engine == "postgresql" else MySqlStage
        return kind(self.dsn, Path(self.folder), POLICY.from_json(self.policy_json))


@dataclass(frozen=True)
class Ending:
    """How a child ended: the signal that killed it, or the points that it passed and its error."""

    signal: int
    points: tuple[Point, ...] = ()
    error: str | None = None

    def succeeded(self) -> Self:
        """Give itself, if the child did its work to the end."""
        assert not self.signal, f"killed by signal {self.signal}"
        assert self.error is None, self.error
        return self


@dataclass(frozen=True)
class Child:
    """A child under way."""

    forge: Forge
    pid: int
    result: Path

    def stopped(self) -> bool:
        """Wait until it stops at its point, or ends without: then False."""
        return os.WIFSTOPPED(self.forge.ask({"wait": self.pid, "stopped": True}))

    def go_on(self) -> None:
        """Let it go on from where it stopped."""
        os.kill(self.pid, signal.SIGCONT)

    def ending(self) -> Ending:
        """Wait for its end."""
        status = self.forge.ask({"wait": self.pid, "stopped": False})
        if os.WIFSIGNALED(status):
            return Ending(os.WTERMSIG(status))
        told = json.loads(self.result.read_text())
        return Ending(0, tuple(Point(*point) for point in told["points"]), told["error"])


class Forge:
    """The process that forks the children. Leaving the `with` block ends it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
        command = [sys.executable, "-c", "from tests.faults.kill_points import serve; serve()"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=PROJECT_ROOT
        )

    def start(self, stage: Stage, *steps: str, at: Point | None = None, **details: Any) -> Child:
        """Fork a child that runs the steps."""
        self._made += 1
        result = self._folder / f"child-{self._made}.json"
        order = Order(
            stage.dsn, str(stage.folder), steps, str(result), at, policy_json=stage.policy.json_text,
            engine="mysql" if isinstance(stage, MySqlStage) else "postgresql", **details,
        )  # fmt: skip
        return Child(self, self.ask({"order": asdict(order)}), result)

    def run(self, stage: Stage, *steps: str, at: Point | None = None, **details: Any) -> Ending:
        """Fork a child and wait for its end."""
        return self.start(stage, *steps, at=at, **details).ending()

    def kill(self, child: Child) -> None:
        """Kill a child where it is."""
        os.kill(child.pid, signal.SIGKILL)
        assert child.ending().signal == signal.SIGKILL

    def ask(self, question: dict[str, Any]) -> int:
        """Send a line, and give the number that comes back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


# In the process that forks


def serve() -> None:
    """Read orders and questions until there are no more."""
    for line in sys.stdin:
        question = json.loads(line)
        answer = _fork(Order(**question["order"])) if "order" in question else _wait(**question)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _fork(order: Order) -> int:
    pid = os.fork()
    if not pid:
        _work(order)
    return pid


def _wait(wait: int, *, stopped: bool) -> int:
    if wait in _ended:
        return _ended.pop(wait)
    _, status = os.waitpid(wait, os.WUNTRACED if stopped else 0)
    if stopped and not os.WIFSTOPPED(status):
        _ended[wait] = status
    return status


_ended: dict[int, int] = {}
"""Children that ended where they should have stopped: their end is asked for once more."""


# In a child


def _work(order: Order) -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    points = Points(Point(*order.at) if order.at else None, order.signal)
    error = None
    try:
        with _locked_row(order):
            points.install()
            _perform(order)
    except BaseException:  # noqa: BLE001 - it is told to the test
        error = traceback.format_exc()
    Path(order.result).write_text(json.dumps({"points": points.passed, "error": error}))
    os._exit(0)


def _perform(order: Order) -> None:
    stage = order.stage()
    site = stage.site()
    if order.remote:
        LocalFileSystem.protocol = ("remote",)
        LocalFileSystem.auto_mkdir = True
    for step in order.steps:
        for attempt in range(1, TRIES + 1):
            try:
                perform(site, step, stage.policy)
                break
            except Transient:
                if attempt == TRIES:
                    raise


@contextmanager
def _locked_row(order: Order) -> Iterator[None]:
    """Lock a row as the application would, until a step waits for it; nobody really waits."""
    if order.locked_row is None:
        yield
        return
    with order.stage().locked_row(order.locked_row) as let_go:

        def release(seconds: float) -> None:
            if seconds:
                let_go()

        setattr(time, "sleep", release)  # noqa: B010 - mypy would not have it otherwise
        yield


@dataclass
class Points:
    """Counts the points that a child passes, and sends it the signal at the one that was chosen."""

    at: Point | None
    signal: int
    passed: list[Point] = field(default_factory=list)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, kind: str, moment: str) -> None:
        """Pass a point, or not."""
        with self._lock:
            self._counts[kind, moment] += 1
            point = Point(kind, moment, self._counts[kind, moment])
            self.passed.append(point)
        if point == self.at:
            os.kill(os.getpid(), self.signal)

    @contextmanager
    def around(self, kind: str) -> Iterator[None]:
        """Put a point before and one after what happens inside; none after an error."""
        self.reach(kind, "before")
        yield
        self.reach(kind, "after")

    def install(self) -> None:
        """Put points around everything that a step does to the world outside."""
        self._wrap(psycopg, "connect", "connect")
        self._wrap(psycopg.Cursor, "execute", _kind_of)
        self._wrap(psycopg.Transaction, "__enter__", "BEGIN")
        self._wrap(psycopg.Transaction, "__exit__", _kind_of_exit)
        self._wrap(adbc_driver_postgresql.dbapi, "connect", "connect (Arrow)")
        self._wrap(adbc_driver_manager.dbapi.Cursor, "execute", "statement (Arrow)")
        self._wrap(MySQLdb, "connect", "connect")
        self._wrap(MySQLdb.cursors.BaseCursor, "execute", _kind_of_mysql)
        self._wrap(MySQLdb.cursors.SSCursor, "fetchmany", "batch of rows")
        for name, kind in (("get_file", "fetch"), ("put_file", "upload"), ("cat_file", "fetch"), ("rm_file", "remove")):
            self._wrap(LocalFileSystem, name, kind)
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "mkdir")):
            self._wrap(owner, name, "upload")
        self._wrap_streams()

    def _wrap(self, owner: Any, name: str, kind: str | Callable[..., str]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.around(kind if isinstance(kind, str) else kind(*args)):
                return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    def _wrap_streams(self) -> None:
        """Put points into what goes piece by piece: COPY both ways, rows to be archived, and a file's bytes."""
        begin_copy, fetch = psycopg.Cursor.copy, adbc_driver_manager.dbapi.Cursor.fetch_record_batch
        self._wrap_copied_rows()

        @contextmanager
        def copy(cursor: Any, statement: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            with self.around(_kind_of(cursor, statement)), begin_copy(cursor, statement, *args, **kwargs) as copying:
                yield copying

        def batches(cursor: Any) -> Iterator[Any]:
            for batch in fetch(cursor):
                with self.around("batch of rows"):
                    yield batch

        def copy_bytes(reading: IO[bytes], writing: IO[bytes], *_: int) -> None:
            content = reading.read()
            with self.around("upload"):
                writing.write(content[: len(content) // 2])
                writing.flush()
                self.reach("upload", "amid")
                writing.write(content[len(content) // 2 :])

        for owner, name, function in (
            (psycopg.Cursor, "copy", copy),
            (adbc_driver_manager.dbapi.Cursor, "fetch_record_batch", batches),
            (shutil, "copyfileobj", copy_bytes),
        ):
            setattr(owner, name, function)

    def _wrap_copied_rows(self) -> None:
        """Put a point before a first and then every 200th row that a COPY brings."""
        read, rows = psycopg.Copy.read, itertools.count()

        def reading(copying: Any) -> Any:
            if next(rows) % _ROWS_PER_POINT == 0:
                self.reach("DELETE", "amid")
            return read(copying)

        setattr(psycopg.Copy, "read", reading)  # noqa: B010 - mypy would not have it otherwise


def _kind_of(_cursor: Any, statement: Any, *_: object) -> str:
    text = statement.as_string(None) if isinstance(statement, sql.Composable) else str(statement)
    words = text.split()
    if "DELETE FROM" in text and "dbhygiene." not in text:
        return "DELETE"
    if words[0] in ("INSERT", "UPDATE", "DELETE", "CREATE", "--") and "dbhygiene" in text:
        return "ledger write"
    if "record_send" in text:
        return "digest"
    return "row lock" if "FOR UPDATE" in text else "statement"


def _kind_of_mysql(_cursor: Any, statement: str, *_: object) -> str:
    word, names_table = statement.split(maxsplit=1)[0], "`flights`" in statement
    if word in ("COMMIT", "ROLLBACK", "START"):
        return "BEGIN" if word == "START" else word
    if "DELETE" in statement and names_table and "dbhygiene" not in statement.split("WHERE", maxsplit=1)[0]:
        return "DELETE"
    if "FOR UPDATE" in statement:
        return "row lock"
    if statement.startswith("SELECT dbhygiene_version"):
        return "digest"
    if "_dbhygiene_check" in statement and word in ("CREATE", "DROP", "INSERT"):
        return "temporary table"
    return (
        "ledger write" if word in ("INSERT", "UPDATE", "DELETE", "CREATE") and "dbhygiene" in statement else "statement"
    )


def _kind_of_exit(_transaction: Any, error: object = None, *_: object) -> str:
    return "ROLLBACK" if error else "COMMIT"
