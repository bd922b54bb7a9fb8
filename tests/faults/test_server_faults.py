"""Database servers that are full, crowded, hurried, read-only, restored to an earlier moment, or no longer the one.

Invariants 1, 3, 4 and 8, on PostgreSQL, MariaDB and MySQL. After each fault the error is ours and says what to do; a
retry, or after a failover a new run, ends as if nothing had been.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import MySQLdb
import psycopg
import pytest

from airflow_dbhygiene.errors import (
    DatabaseUnavailable,
    HygieneError,
    PrivilegeMissing,
    ReadOnlyServer,
    Transient,
    WrongServer,
)
from airflow_dbhygiene.policy import ColdTable
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import make_plan, record_plan
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.verify import verify
from tests.faults.between import after_delete, before_batch
from tests.faults.mysql_stage import HOT, MySqlStage
from tests.faults.mysql_stage import lay_out as lay_out_mysql
from tests.faults.share import SHARE, chosen
from tests.faults.stage import (
    ALL_ROWS,
    BATCH_ROWS,
    OBJECT_ROWS,
    POLICY,
    REST,
    STALE_ROWS,
    STEPS,
    VERIFIED,
    WINDOW,
    Stage,
    assert_every_row_is_accounted_for,
    assert_ledger_adds_up,
    keys_of,
    lay_out,
    strangers,
)
from tests.servers.mysql import MariaDbServer, MySqlServer
from tests.servers.mysql_programs import ServerUnavailable
from tests.servers.postgres import PostgresServer
from tests.servers.small_disk import filled, small_disk

Server = PostgresServer | MySqlServer

ENGINES: Final = ("postgresql", "mariadb", "mysql")

FEW: Final = {"max_connections": "12"}
"""So few connections that an application can take them all."""


_HURRY: Final[dict[type[Server], tuple[str, ...]]] = {
    PostgresServer: tuple(
        f"ALTER DATABASE flights SET {setting}"
        for setting in (
            "default_transaction_isolation = 'serializable'",
            "default_transaction_deferrable = on",
            "lock_timeout = '1ms'",
            "idle_in_transaction_session_timeout = '500ms'",
            "statement_timeout = '500ms'",
            "vacuum_cost_limit = 1",  # so that it takes longer than that
            "search_path = cold, public",
            "synchronous_commit = off",
        )
    ),
    **dict.fromkeys(
        (MariaDbServer, MySqlServer),
        (
            "SET GLOBAL TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET GLOBAL innodb_lock_wait_timeout = 1",
            "SET GLOBAL lock_wait_timeout = 1",
            "SET GLOBAL sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES'",
            "SET GLOBAL autocommit = 0",
            "SET GLOBAL time_zone = '+09:00'",
            "SET GLOBAL sql_safe_updates = 1",
        ),
    ),
}


@dataclass(frozen=True)
class Own:
    """A server of this file's own, with the flights of four days, and a way to open the stage on it."""

    server: Server
    folder: Path
    disk: Path

    @property
    def postgres(self) -> bool:
        """Tell the one engine from the two."""
        return isinstance(self.server, PostgresServer)

    def stage(self, *, cold: bool = False, password: str | None = None) -> Stage:
        """Give the stage, with its archive in a folder or in a cold table."""
        table = POLICY.table if self.postgres else f"{HOT}.flights"
        place: dict[str, Any] = {"archive": ColdTable("cold.flights", object_rows=OBJECT_ROWS)} if cold else {}
        policy = POLICY.model_copy(update={"table": table, **place})
        if isinstance(self.server, PostgresServer):
            dsn = self.server.dsn("flights")
            return Stage(dsn.replace(self.server.password, password or self.server.password), self.folder, policy)
        parameters = self.server.parameters(HOT)
        return MySqlStage(
            json.dumps({**parameters, "password": password or parameters["password"]}), self.folder, policy
        )

    def execute(self, statement: str) -> None:
        """Run a statement as the administrator, with the password that the server began with."""
        with contextlib.closing(self.connect()) as connection, contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(statement)

    def make_read_only(self, *, yes: bool) -> None:
        """Let the server refuse to be written to, or not."""
        if not self.postgres:
            self.execute(f"SET GLOBAL read_only = {int(yes)}")
            return
        self.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if yes else 'off'}")
        self.execute("SELECT pg_reload_conf()")
        time.sleep(0.2)  # each session reads it by itself

    def end_sessions(self) -> None:
        """End those that are open to the flights, but for the one that does so."""
        if self.postgres:
            self.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        with contextlib.closing(self.connect()) as connection, contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(
                f"SELECT id FROM information_schema.processlist WHERE db = '{HOT}' AND id <> connection_id()"
            )
            for (session,) in cursor.fetchall():
                cursor.execute(f"KILL {int(session)}")

    def hurry(self) -> None:
        """Set defaults under which nothing that takes its time would end well."""
        for statement in _HURRY[type(self.server)]:
            self.execute(statement)

    def connect(self) -> Any:
        """Open a connection as an application does."""
        if isinstance(self.server, PostgresServer):
            return psycopg.connect(self.server.dsn("flights"), autocommit=True)
        return self.server.connect(HOT)


@contextmanager
def own_server(engine: str, postgres: PostgresServer, template: str, folder: Path) -> Iterator[Own]:
    """Start a server on a disk of its own, and lay the flights out."""
    cold = folder / "archive"
    cold.mkdir()
    with small_disk(megabytes=600) as disk, pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(tempfile, "tempdir", str(disk))
        try:
            server = stack.enter_context(_start(engine))
        except ServerUnavailable as error:
            pytest.skip(f"NOT TESTED on {engine}: {error}")
        patch.undo()
        if isinstance(server, PostgresServer):
            lay_out(server, postgres.dsn(template), "flights")
        else:
            lay_out_mysql(server.create_database(HOT), _rows(postgres.dsn(template)))
        yield Own(server, cold, disk)


def _start(engine: str) -> Server:
    if engine == "postgresql":
        wal = {"min_wal_size": "32MB", "max_wal_size": "48MB", "wal_keep_size": "32MB"}
        return PostgresServer.start("16", settings={**FEW, **wal, "superuser_reserved_connections": "0"})
    kind = MariaDbServer if engine == "mariadb" else MySqlServer
    return kind.start(settings={name.replace("_", "-"): value for name, value in FEW.items()})


def _rows(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        statement = "SELECT *, time_hour AT TIME ZONE 'UTC' FROM flights WHERE month = 1 AND day <= 4 ORDER BY id"
        return [(*row[:-2], row[-1]) for row in connection.execute(statement).fetchall()]


@pytest.fixture(params=ENGINES if SHARE >= 1 else ("one of them",))
def own(
    request: pytest.FixtureRequest, postgres: PostgresServer, flights_template: str, tmp_path: Path
) -> Iterator[Own]:
    """Give a server to be spoiled: of each engine in turn, or of one where a share is asked for."""
    (engine,) = chosen(ENGINES, request.node.name) if SHARE < 1 else (request.param,)
    with own_server(engine, postgres, flights_template, tmp_path) as own:
        yield own


def assert_ends_well(stage: Stage, keys: set[int]) -> None:
    """All stale rows are in the archive, all others in the table, and nothing lies about."""
    assert_every_row_is_accounted_for(stage, keys)
    assert stage.one("SELECT count(*) FROM flights") == ALL_ROWS - STALE_ROWS
    assert stage.one("SELECT state FROM dbhygiene.run") == "done"
    assert list(strangers(stage)) == []


# Restored, and failed over


@pytest.mark.parametrize("moment", ["planned", "verified", "purging"])
def test_a_server_that_is_put_back_to_an_earlier_moment(own: Own, moment: str) -> None:
    """Its data folder as it was then: rows and ledger went back together, and the run goes on from there.

    What was archived later than that lies in the store unknown to the ledger; what was purged is purged again.
    """
    stage = own.stage()
    keys = keys_of(stage)
    steps = {"planned": STEPS[:1], "verified": VERIFIED, "purging": VERIFIED}[moment]
    stage.perform(*steps)
    if moment == "purging":
        with pytest.raises(RuntimeError, match="here"):
            stage.perform("purge 1", site=before_batch(stage, 2, _stop))
    before = set(stage.stored())
    with _put_back_after(own):
        stage.perform(*STEPS[len(steps) :])
        assert_ends_well(stage, keys)
        later = set(stage.stored()) - before
    assert len(keys_of(stage)) == ALL_ROWS - (BATCH_ROWS if moment == "purging" else 0)
    stage.perform(*STEPS[len(steps) :])
    assert_every_row_is_accounted_for(stage, keys)
    assert stage.one("SELECT count(*) FROM flights") == ALL_ROWS - STALE_ROWS
    forgotten = {name for name in later if name.endswith(".parquet")}
    assert set(strangers(stage)) == forgotten


def test_a_standby_that_missed_the_last_batches(own: Own) -> None:
    """It is promoted: rows that were purged on the old server are hot again, and so is the ledger's word.

    On PostgreSQL the run refuses, since versions mean nothing there, and a new run takes them; elsewhere it goes on.
    """
    stage = own.stage()
    keys = keys_of(stage)
    stage.perform(*VERIFIED)
    with _promoted(own, stage, lambda: stage.perform("purge 1")) as promoted:
        assert keys_of(promoted) == keys
        if own.postgres:
            for step in ("purge 1", "purge 2"):
                with pytest.raises(WrongServer, match="start a new one"):
                    promoted.perform(step)
            new = _another_run(promoted)
            assert keys_of(promoted) | _archived_keys(promoted, new) == keys
            assert not keys_of(promoted) & _archived_keys(promoted, new)
        else:
            _goes_on_or_starts_anew(promoted, keys)


@contextmanager
def _put_back_after(own: Own) -> Iterator[None]:
    """Copy the data folder, and put it back in the end."""
    data, kept = own.server.data_dir, own.server.data_dir.with_name("kept")
    own.server.stop()
    subprocess.run(["cp", "--archive", data, kept], check=True)
    own.server.restart()
    yield
    own.server.kill()
    shutil.rmtree(data)
    kept.rename(data)
    own.server.restart()


@contextmanager
def _promoted(own: Own, stage: Stage, missed: Callable[[], object]) -> Iterator[Stage]:
    """Let something happen that the standby misses, crash the primary, and promote the standby."""
    if isinstance(own.server, PostgresServer):
        with own.server.start_replica(settings=FEW) as replica:
            with psycopg.connect(replica.dsn(), autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
                connection.execute("SELECT pg_reload_conf()")
                while connection.execute("SELECT count(*) FROM pg_stat_wal_receiver").fetchone() != (0,):
                    pass
                missed()
                own.server.kill()
                connection.execute("SELECT pg_promote()")
            yield replace(stage, dsn=replica.dsn("flights"))
        return
    # What a standby of these engines has is what its primary had: a copy of the folder, under a name of its own.
    data, kept = own.server.data_dir, own.server.data_dir.with_name("kept")
    own.server.stop()
    subprocess.run(["cp", "--archive", data, kept], check=True)
    own.server.restart()
    missed()
    own.server.kill()
    shutil.rmtree(data)
    kept.rename(data)
    (data / "auto.cnf").unlink(missing_ok=True)
    own.server.restart()
    yield stage


def _goes_on_or_starts_anew(stage: Stage, keys: set[int]) -> None:
    """Take whichever the server allows: MySQL has an identity of its own, some MariaDB that of its machine."""
    try:
        stage.perform(*REST)
    except WrongServer:
        new = _another_run(stage)
        assert keys_of(stage) | _archived_keys(stage, new) == keys
        assert not keys_of(stage) & _archived_keys(stage, new)
    else:
        assert_every_row_is_accounted_for(stage, keys)


def _another_run(stage: Stage) -> str:
    site, origin = stage.site(), {"dag": "flights_hygiene", "dag_run": "after the failover"}
    tickets = record_plan(site, make_plan(site, stage.policy, WINDOW, origin))
    for ticket in tickets:
        for step in (archive, verify, purge):
            step(stage.site(), ticket.run, ticket.chunk)
    assert report(stage.site(), tickets[0].run)["state"] == "done"
    return tickets[0].run


def _archived_keys(stage: Stage, run: str) -> set[int]:
    names = stage.execute(
        "SELECT o.name FROM dbhygiene.object o JOIN dbhygiene.chunk c USING (run_id, chunk, nonce) WHERE run_id = %s",
        (run,),
    )
    return {key for (name,) in names for key in stage.object_rows(name).column("id").to_pylist()}


def _stop() -> None:
    raise RuntimeError("the worker is stopped here")


# Full


@pytest.mark.parametrize("step", ["archive 1", "purge 1"])
def test_a_full_disk_of_the_server(own: Own, step: str) -> None:
    """Into a cold table no row fits any more, or no delete is logged: with room again the run goes on.

    MySQL waits with a commit that its binary log has no room for, and looks once in a minute whether there is some.
    """
    stage = own.stage(cold=True)
    keys = keys_of(stage)
    stage.perform(*STEPS[: STEPS.index(step)])
    if own.postgres:
        _fill_the_log(own)
    with ThreadPoolExecutor(1) as worker:
        with filled(own.disk):
            attempt = worker.submit(_fails, stage, step)
            wait([attempt], timeout=30)
        failed = attempt.result()
    assert failed is None or isinstance(failed, Transient), failed
    if own.server.pid is None:
        own.server.restart()
    assert stage.one("SELECT count(*) FROM flights") == ALL_ROWS - sum(stage.figures(n)["purged"] for n in (1, 2))
    assert_ledger_adds_up(stage)
    stage.perform(*STEPS[STEPS.index(step) :])
    assert_ends_well(stage, keys)


def _fill_the_log(own: Own) -> None:
    """Come to the end of the log that PostgreSQL has on the disk already."""
    with own.connect() as connection:
        connection.execute("CHECKPOINT")


def _fails(stage: Stage, step: str) -> HygieneError | None:
    try:
        stage.perform(step)
    except HygieneError as error:
        return error
    return None


# Crowded, and locked out


@pytest.mark.parametrize("step", ["archive 1", "verify 1", "purge 1"])
def test_no_connection_is_left(own: Own, step: str) -> None:
    """The application has them all: transient, and the retry goes on."""
    stage = own.stage()
    keys = keys_of(stage)
    stage.perform(*STEPS[: STEPS.index(step)])
    with _crowd(own), pytest.raises(DatabaseUnavailable, match=r"clients|connections"):
        stage.perform(step)
    stage.perform(*STEPS[STEPS.index(step) :])
    assert_ends_well(stage, keys)


@contextmanager
def _crowd(own: Own) -> Iterator[None]:
    """Take all connections that the server gives."""
    taken: list[Any] = []
    try:
        with contextlib.suppress(psycopg.OperationalError, MySQLdb.OperationalError):
            while True:
                taken.append(own.connect())
        assert len(taken) > 5
        yield
    finally:
        for connection in taken:
            connection.close()


def test_a_password_that_changes_midway(own: Own) -> None:
    """Who is connected goes on; the next task is refused, changes nothing, and goes on with the new password."""
    stage = own.stage()
    keys = keys_of(stage)
    stage.perform(*VERIFIED)
    user = "postgres" if own.postgres else "root@'127.0.0.1'"
    spelled = "ALTER {} {} PASSWORD 'fresh'" if own.postgres else "ALTER USER {1} IDENTIFIED BY 'fresh'"

    def change() -> None:
        own.execute(spelled.format("ROLE", user))

    stage.perform("purge 1", site=before_batch(stage, 2, change))
    # Of a refused login PostgreSQL's library tells no SQLSTATE: it looks like a server that does not answer.
    refused = DatabaseUnavailable if own.postgres else PrivilegeMissing
    with pytest.raises(refused, match=r"login|[Pp]assword"):
        stage.perform("purge 2")
    fresh = own.stage(password="fresh")  # noqa: S106 - this test's own
    assert fresh.state_of(2) == "verified"
    fresh.perform(*REST)
    assert_ends_well(fresh, keys)


# Read-only, hurried, and interrupted


def test_a_server_that_becomes_read_only_midway(own: Own) -> None:
    """Each batch asks again; what was purged has its receipt, and the rest follows when it may be written to."""
    stage = own.stage()
    keys = keys_of(stage)
    stage.perform(*VERIFIED)
    with pytest.raises(ReadOnlyServer, match="primary"):
        stage.perform("purge 1", site=before_batch(stage, 2, lambda: own.make_read_only(yes=True)))
    with pytest.raises(ReadOnlyServer):
        stage.perform("purge 2")
    own.make_read_only(yes=False)
    # The batch under way had asked already, where a transaction keeps what it began with.
    assert stage.figures(1)["purged"] == (2 * BATCH_ROWS if own.postgres else BATCH_ROWS)
    stage.perform(*REST)
    assert_ends_well(stage, keys)


@pytest.mark.parametrize("batch", [1, 2])
def test_an_administrator_ends_our_sessions(own: Own, batch: int) -> None:
    """After a delete, before its receipt: both are undone, and the retry starts where the fence stands."""
    stage = own.stage()
    keys = keys_of(stage)
    stage.perform(*VERIFIED)
    with pytest.raises(DatabaseUnavailable):
        stage.perform("purge 1", site=after_delete(stage, batch, own.end_sessions))
    assert stage.figures(1)["purged_through"] == (batch - 1) * BATCH_ROWS
    assert len(keys_of(stage)) == ALL_ROWS - (batch - 1) * BATCH_ROWS
    stage.perform(*REST)
    assert_ends_well(stage, keys)


def test_defaults_that_hurry_or_serialize_change_nothing(own: Own) -> None:
    """A role, a database or a server may have them; each transaction of ours brings its own, VACUUM included."""
    hurried = own.stage()
    stage = replace(hurried, policy=hurried.policy.model_copy(update={"reclaim": "vacuum"}))
    keys = keys_of(stage)
    own.hurry()
    stage.perform(*STEPS)
    assert_ends_well(stage, keys)
