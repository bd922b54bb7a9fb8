"""A statement of ours is cancelled, waits too long, meets a deadlock or a serialization failure, amid a transaction.

Invariants 3 and 4, on every engine: what the transaction had done is undone, the error is one that a retry helps, the
application's transaction goes on, and the retry leaves what an undisturbed step leaves.

A trigger on a table of our own stops a transaction between its rows and its receipt: there it waits for the
application, or sleeps until it is cancelled, or fails as the server would.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import pytest

from airflow_dbhygiene.databases.mysql import MySqlDatabase
from airflow_dbhygiene.databases.mysql import session as mysql_session
from airflow_dbhygiene.databases.postgres import session as postgres_session
from airflow_dbhygiene.errors import StatementTimedOut
from tests.faults.between import before_batch, before_careful_delete
from tests.faults.mysql_stage import MySqlStage
from tests.faults.share import chosen
from tests.faults.stage import STEPS, EndState, Stage, assert_every_row_is_accounted_for, end_state, keys_of
from tests.faults.theatre import Theatre, opened

ENGINES: Final = ("postgresql", "mariadb", "mysql")
PURGES: Final = (("parquet", "purge 1"), ("cold table", "purge 1"))
OTHERS: Final = (("cold table", "archive 1"), ("parquet", "restore"))
PLACES: Final = [
    (engine, *work)
    for engine in ENGINES
    for works in (PURGES, OTHERS)
    for work in chosen(works, f"interrupted {engine} {works[0]}")
]
"""Engine, store and step; without FAULTS_SHARE=1 one purge and one other step of each engine."""

RECEIPTS: Final = {"purge 1": "dbhygiene.batch", "restore": "dbhygiene.restore", "archive 1": "cold.dbhygiene_archive"}
"""What a step writes to last in a transaction, behind the rows that it deletes, inserts or copies."""

NO_DEADLOCK: Final = {("mariadb", "purge 1"), ("postgresql", "purge 1")}
"""MariaDB may be told not to wait at all, and PostgreSQL to wait for less than it takes to look for a deadlock."""

SERIALIZATION: Final = {"postgresql": "40001", "mariadb": "1020"}
"""MySQL has none but deadlocks."""


@dataclass(frozen=True)
class Rehearsal:
    """An undisturbed run, and everything as it was before the step that is to be disturbed."""

    engine: str
    theatre: Theatre
    step: str
    keys: set[int]
    end: EndState
    restored: bytes

    def before(self) -> Stage:
        """Set all back to where it was."""
        return self.theatre.put_back("before_it")


@pytest.fixture(scope="module", params=PLACES, ids=", ".join)
def rehearsal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """Run once without any disturbance, beside a table of the application's."""
    engine, store, step = request.param
    with opened(f"{engine}, {store}", request, tmp_path_factory.mktemp("interrupted")) as theatre:
        stage = theatre.stage
        for statement in _OBSTACLE:
            stage.execute(statement)
        keys = keys_of(stage)
        for each in STEPS:
            if each == step:
                theatre.keep("before_it")
            stage.perform(each)
        if step == "restore":
            theatre.keep("before_it")
        end = end_state(stage)
        stage.perform("restore")
        yield Rehearsal(engine, theatre, step, keys, end, stage.hot_rows())
        stage.execute("DROP TABLE obstacle")


_OBSTACLE: Final = (
    "CREATE TABLE obstacle (id int PRIMARY KEY, n int)",
    "INSERT INTO obstacle SELECT id, 0 FROM flights",
)
"""As many rows as there are flights: whoever has changed them all is not the one that InnoDB undoes in a deadlock."""


def test_an_interrupted_step_is_made_good(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fault after the other, as far as the engine and the step know it."""
    a_cancelled_statement(rehearsal)
    with monkeypatch.context() as patch:
        a_lock_that_is_not_given_up(rehearsal, patch)
    if rehearsal.step == "purge 1":
        a_lock_that_is_given_up_in_time(rehearsal)
    if (rehearsal.engine, rehearsal.step) not in NO_DEADLOCK:
        with monkeypatch.context() as patch:
            a_deadlock(rehearsal, patch)
    if (rehearsal.engine, rehearsal.step) == ("postgresql", "purge 1"):
        a_deadlock_that_never_comes_about(rehearsal)
    if rehearsal.engine in SERIALIZATION:
        a_serialization_failure(rehearsal)


def a_cancelled_statement(rehearsal: Rehearsal) -> None:
    """By an administrator, or by a time-out of the server's: whichever try of the step meets it."""
    stage, sleep = rehearsal.before(), {"postgresql": "PERFORM pg_sleep(20)"}.get(rehearsal.engine, "DO sleep(20)")
    with triggered(rehearsal, stage, sleep), cancelling(stage) as cancelled:
        assert_undone(rehearsal, stage)
    assert cancelled
    assert_made_good(rehearsal, stage)


def a_lock_that_is_not_given_up(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step gives way, for itself alone; the application commits as if nobody else were there."""
    monkeypatch.setattr(mysql_session, "_LOCK_SECONDS", 1.0)  # half as long as ever
    monkeypatch.setitem(postgres_session.SETTINGS, "lock_timeout", "500ms")
    stage = rehearsal.before()
    with triggered(rehearsal, stage, _WAIT[stage.__class__]), application(stage) as other:
        assert_undone(rehearsal, stage)
        other.commit()
    assert other.rows_changed() == len(rehearsal.keys)
    assert_made_good(rehearsal, stage)


def a_lock_that_is_given_up_in_time(rehearsal: Rehearsal) -> None:
    """A purge tries the batch once more, row by row, and has no need of a retry."""
    stage = rehearsal.before()
    with triggered(rehearsal, stage, _WAIT[stage.__class__]), application(stage) as other:
        stage.perform("purge 1", site=before_careful_delete(stage, other.commit))
    assert stage.one("SELECT count(*) FROM dbhygiene.batch WHERE chunk = 1 AND careful") == 1
    assert_made_good(rehearsal, stage)


def a_deadlock(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application holds what a transaction of ours waits for, and then wants what that has: it gets both."""
    monkeypatch.setattr(
        mysql_session, "_LOCK_SECONDS", 10.0
    )  # so that nobody gives up before, however slow the machine
    monkeypatch.setattr(MySqlDatabase, "give_way", staticmethod(lambda session, _: session.wait_for_locks(10)))
    stage, met = rehearsal.before(), list[str]()
    site = before_careful_delete(stage, lambda: met.append(str(sys.exc_info()[1])))  # the batch's first try
    with triggered(rehearsal, stage, _WAIT[stage.__class__]), application(stage) as other:
        want = threading.Thread(target=other.want_as_others_wait, args=(rehearsal,))
        want.start()
        try:
            stage.perform(rehearsal.step, site=site)
        except StatementTimedOut as error:
            met.append(str(error))
        want.join()
    assert other.errors == []
    assert other.rows_changed() == len(rehearsal.keys)
    assert "deadlock" in met[0].lower()
    assert_made_good(rehearsal, stage)


def a_deadlock_that_never_comes_about(rehearsal: Rehearsal) -> None:
    """Whoever waits last finds a deadlock, and is its victim: when the application does, we wait no more."""
    stage = rehearsal.before()
    with triggered(rehearsal, stage, _WAIT[stage.__class__]), application(stage) as other:
        want = threading.Timer(1.5, other.want, (rehearsal,))  # by then we have looked for one in vain, if we ever do
        with suppress(StatementTimedOut):
            stage.perform(rehearsal.step, site=before_batch(stage, 1, want.start))
        want.join()
    assert other.errors == []
    assert_made_good(rehearsal, stage)


def a_serialization_failure(rehearsal: Rehearsal) -> None:
    """Where the engine has it, though never at the isolation that the steps ask for: it is as any other conflict."""
    stage, code = rehearsal.before(), SERIALIZATION[rehearsal.engine]
    fail = (
        f"RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '{code}'"
        if rehearsal.engine == "postgresql"
        else f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'Record has changed since last read'"
    )
    with triggered(rehearsal, stage, fail):
        assert_undone(rehearsal, stage)
    assert_made_good(rehearsal, stage)


def assert_undone(rehearsal: Rehearsal, stage: Stage) -> None:
    """The step fails, and leaves the table as it was, without a receipt."""
    receipts, before = f"SELECT count(*) FROM {RECEIPTS[rehearsal.step]}", stage.hot_rows()
    there = stage.one(receipts)
    with pytest.raises(StatementTimedOut):
        stage.perform(rehearsal.step)
    assert (stage.hot_rows(), stage.one(receipts)) == (before, there)


def assert_made_good(rehearsal: Rehearsal, stage: Stage) -> None:
    """The retry, and what follows it, leave what the undisturbed run has left: rows, archive, counts, and no more."""
    if rehearsal.step == "restore":
        stage.perform("restore")
        assert stage.hot_rows() == rehearsal.restored
        counted = stage.execute(
            "SELECT chunk, sum(restored), sum(existing) FROM dbhygiene.restore GROUP BY 1 ORDER BY 1"
        )
        purged = stage.execute("SELECT chunk, purged, 0 FROM dbhygiene.chunk ORDER BY 1")
        assert counted == purged
        return
    stage.perform(*STEPS[STEPS.index(rehearsal.step) :])
    assert end_state(stage) == rehearsal.end
    assert_every_row_is_accounted_for(stage, rehearsal.keys)


# The obstacle


_WAIT: Final[dict[type[Stage], str]] = {
    Stage: "PERFORM n FROM obstacle WHERE id = 1 FOR UPDATE",
    MySqlStage: "SELECT n INTO @obstacle FROM hot.obstacle WHERE id = 1 FOR UPDATE",
}


@contextmanager
def triggered(rehearsal: Rehearsal, stage: Stage, action: str) -> Iterator[None]:
    """Let something happen before each receipt that the step writes."""
    table = RECEIPTS[rehearsal.step]
    if isinstance(stage, MySqlStage):
        schema = table.partition(".")[0]
        stage.execute(f"CREATE TRIGGER {schema}.amid BEFORE INSERT ON {table} FOR EACH ROW {action}")
        try:
            yield
        finally:
            stage.execute(f"DROP TRIGGER {schema}.amid")
        return
    stage.execute(
        f"CREATE FUNCTION amid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {action}; RETURN NEW; END $$;"
        f" CREATE TRIGGER amid BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION amid()"
    )
    try:
        yield
    finally:
        stage.execute(f"DROP TRIGGER amid ON {table}; DROP FUNCTION amid")


@contextmanager
def cancelling(stage: Stage) -> Iterator[list[int]]:
    """Cancel every statement that sleeps; give the sessions whose it was."""
    ended, cancelled = threading.Event(), list[int]()

    def cancel() -> None:
        while not ended.wait(0.02):
            for (session,) in stage.execute(_ASLEEP[stage.__class__]):
                cancelled.append(session)
                stage.execute(_CANCEL[stage.__class__].format(session))

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        yield cancelled
    finally:
        ended.set()
        thread.join()


_ASLEEP: Final[dict[type[Stage], str]] = {
    Stage: "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
    MySqlStage: "SELECT id FROM information_schema.processlist WHERE state = 'User sleep'",
}
_CANCEL: Final[dict[type[Stage], str]] = {Stage: "SELECT pg_cancel_backend({})", MySqlStage: "KILL QUERY {}"}


# The application


@dataclass
class Application:
    """A transaction that has changed every row of the obstacle."""

    stage: Stage
    connection: Any
    errors: list[Exception] = field(default_factory=list)

    def execute(self, statement: str) -> None:
        """Run a statement in the transaction."""
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(statement)
            if cursor.description:
                cursor.fetchall()

    def commit(self) -> None:
        """Commit it."""
        self.connection.commit()

    def want_as_others_wait(self, rehearsal: Rehearsal) -> None:
        """As soon as others wait for it, ask for what these have changed, and commit."""
        waits, deadline = _WAITING[self.stage.__class__], time.monotonic() + 60
        while not self.stage.one(waits) and time.monotonic() < deadline:
            time.sleep(0.02 if rehearsal.engine == "postgresql" else 0.12)  # InnoDB repeats itself for 0.1 s
        self.want(rehearsal)

    def want(self, rehearsal: Rehearsal) -> None:
        """Ask for what a step has changed, and commit."""
        try:
            for statement in _wanted(rehearsal):
                self.execute(statement)
            self.commit()
        except Exception as error:  # noqa: BLE001 - it is told to the test
            self.errors.append(error)

    def rows_changed(self) -> int:
        """Count what it has left."""
        return int(self.stage.one("SELECT count(*) FROM obstacle WHERE n = 1"))


_WAITING: Final[dict[type[Stage], str]] = {
    Stage: "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
    MySqlStage: "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


def _wanted(rehearsal: Rehearsal) -> tuple[str, ...]:
    """Write what meets the rows that the step has changed, and changes nothing in the end."""
    key = min(rehearsal.keys)
    if rehearsal.step == "archive 1":
        shared = "LOCK TABLE cold.flights IN SHARE MODE"
        return (shared if rehearsal.engine == "postgresql" else "SELECT count(*) FROM cold.flights FOR UPDATE",)
    if rehearsal.step == "restore":
        return f"INSERT INTO flights (id) VALUES ({key})", f"DELETE FROM flights WHERE id = {key}"
    return (f"SELECT id FROM flights WHERE id = {key} FOR UPDATE",)


@contextmanager
def application(stage: Stage) -> Iterator[Application]:
    """Open the transaction."""
    connection = stage._open(autocommit=False) if isinstance(stage, MySqlStage) else psycopg.connect(stage.dsn)
    with closing(connection):
        other = Application(stage, connection)
        other.execute("UPDATE obstacle SET n = 1")
        yield other
