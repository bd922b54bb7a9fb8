"""pg_repack on PostgreSQL: the disk has its space back, under traffic, and whatever becomes of the program."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_dbhygiene.databases.postgres import repack
from airflow_dbhygiene.errors import HygieneError, PlanRefused, PolicyInvalid, StatementTimedOut
from airflow_dbhygiene.policy import Guard
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.reclaim import reclaim
from airflow_dbhygiene.steps.verify import verify
from tests.job import EVENTS, Job, window_of
from tests.least import PostgresRole
from tests.servers.postgres import PostgresServer
from tests.servers.postgres_programs import WITH_REPACK, programs

ROOM = 10**9
COPYING = 4
"""Leftovers: the trigger, its log, the log's key, and the copy at least."""

FIGURES = "SELECT count(*), count(DISTINCT id), sum(hashtextextended(note, 0)) FROM events"


@pytest.fixture(scope="module")
def repacking() -> Iterator[PostgresServer]:
    """Give a server that has the extension."""
    with PostgresServer.start(WITH_REPACK) as server:
        yield server


@pytest.fixture
def job(repacking: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """Give ten thousand events with a kilobyte each, and the program on the PATH of this worker."""
    monkeypatch.setenv("PATH", str(programs(WITH_REPACK)), prepend=os.pathsep)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(programs(WITH_REPACK).parent / "lib"))
    name = f"repack_{secrets.token_hex(4)}"
    job = Job(repacking.create_database(name), tmp_path / "cold")
    job.execute("CREATE EXTENSION pg_repack")
    job.execute(EVENTS)
    job.execute("ALTER TABLE events SET (autovacuum_enabled = false)")
    job.execute("UPDATE events SET note = rpad(note, 1000, 'x')")
    job.execute("VACUUM FULL ANALYZE events")
    yield job
    repacking.drop_database(name)


def optimizing(job: Job, room: int = ROOM, **changes: Any) -> Any:
    """Give a policy that wants the space back."""
    guard = Guard(max_fraction=1, min_chunk_rows=1_000, max_optimize_bytes=room)
    return job.policy(reclaim="optimize", guard=guard, **changes)


def purged(job: Job) -> str:
    """Do all of a run up to its reclaim, and name it."""
    tickets = job.start(optimizing(job))
    for ticket in tickets:
        for step in (archive, verify, purge):
            step(job.site, ticket.run, ticket.chunk)
    return tickets[0].run


def leftovers(job: Job) -> int:
    """Count what the program has made and not removed."""
    return int(
        job.one(
            "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname = 'repack_trigger')"
            " + (SELECT count(*) FROM pg_class WHERE relnamespace = 'repack'::regnamespace AND relname ~ '[0-9]$')"
        )
    )


@contextmanager
def transaction(job: Job, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """Let an application keep a transaction open."""
    with psycopg.connect(job.dsn) as connection:
        connection.execute(statement)  # type: ignore[arg-type]
        yield connection


OF_THE_TABLE = "SELECT 1 FROM events LIMIT 1"
"""The copy cannot begin."""

OF_ANY = "SELECT txid_current()"
"""The copy waits for its end before it takes the table's place."""


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Do work in a thread of its own; it has ended when the context has."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except HygieneError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        thread.join(60)
        assert not thread.is_alive()


def wait_for(look: Callable[[], Any]) -> Any:
    """Wait until there is something to see."""
    deadline = time.monotonic() + 30
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def program_of(job: Job) -> int | None:
    """Give the number of the program that works on this job's database, by the environment that it was given."""
    name = f"PGDATABASE={psycopg.conninfo.conninfo_to_dict(job.dsn)['dbname']}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = folder.joinpath("comm").read_text() == "pg_repack\n"
            if ours and name in folder.joinpath("environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:
            continue
    return None


def test_the_disk_has_its_space_back_under_traffic(job: Job) -> None:
    """What the certificate says is what the files are smaller by, and the application's changes are all there."""
    run, over, changes = purged(job), threading.Event(), []

    def traffic() -> None:
        with psycopg.connect(job.dsn, autocommit=True) as connection:
            while not over.is_set():
                changes.append(f"change {len(changes)}")
                connection.execute("UPDATE events SET note = %s WHERE id = %s", (changes[-1], 3_000 + len(changes)))

    with beside(traffic):
        before = job.one("SELECT pg_total_relation_size('events')")
        done = reclaim(job.site, run)
        over.set()
    assert (done.action, done.skipped) == ("optimize", "")
    assert done.bytes_given_back == pytest.approx(before - job.one("SELECT pg_total_relation_size('events')"), abs=2e5)
    assert done.bytes_given_back > 2e6
    assert job.one("SELECT count(*) FROM events") == 7_000
    assert job.one("SELECT array_agg(note ORDER BY id) FROM events WHERE note LIKE 'change%%'", ()) == changes
    assert job.one("SELECT relallvisible > 0 FROM pg_class WHERE relname = 'events'")  # for index-only scans
    assert leftovers(job) == 0
    assert reclaim(job.site, run) == done  # cleared, it is not done again


def test_who_has_the_table_open_is_not_cancelled(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program calls it a success when it has given up. The task is red, and a retry does it."""
    monkeypatch.setattr(repack, "_LOCK_SECONDS", 1)
    run = purged(job)
    figures = job.execute(FIGURES)
    with transaction(job, OF_THE_TABLE) as application:
        with pytest.raises(StatementTimedOut, match=r"pg_repack did not copy public\.events; a retry tries again"):
            reclaim(job.site, run)
        assert application.execute("SELECT 1 FROM events LIMIT 1").fetchall() == [(1,)]
    assert (leftovers(job), job.execute(FIGURES)) == (0, figures)
    assert reclaim(job.site, run).action == "optimize"
    assert job.execute(FIGURES) == figures


def test_a_killed_program_leaves_nothing_that_a_retry_does_not_remove(job: Job) -> None:
    """Its trigger would fill a log for ever, and stop each plan that comes after."""
    run = purged(job)
    with transaction(job, OF_ANY), beside(lambda: reclaim(job.site, run)) as raised:
        wait_for(lambda: leftovers(job) >= COPYING)
        os.kill(wait_for(lambda: program_of(job)), signal.SIGKILL)
    assert isinstance(raised[0], StatementTimedOut)
    assert leftovers(job)
    assert reclaim(job.site, run).action == "optimize"
    assert leftovers(job) == 0


def test_a_task_that_is_told_to_stop_ends_its_program(job: Job) -> None:
    """Within the time that Airflow gives; the program removes what it has made."""
    run, site = purged(job), job.site
    with transaction(job, OF_ANY) as application, beside(lambda: reclaim(site, run)) as raised:
        wait_for(lambda: leftovers(job) >= COPYING)
        site.database.cancel()
        wait_for(lambda: raised)
        application.rollback()
        wait_for(lambda: program_of(job) is None)
    assert "told to stop" in str(raised[0])
    wait_for(lambda: leftovers(job) == 0)


def test_the_password_is_in_no_command_line(job: Job) -> None:
    """Everybody on the machine can read these."""
    run, password = purged(job), psycopg.conninfo.conninfo_to_dict(job.dsn)["password"]
    with transaction(job, OF_ANY) as application, beside(lambda: reclaim(job.site, run)) as raised:
        program = wait_for(lambda: program_of(job))
        assert str(password) not in Path(f"/proc/{program}/cmdline").read_text()
        application.rollback()
    assert not raised


def test_a_copy_that_would_hurt_is_left_out(job: Job) -> None:
    """The reason is told, and the table is vacuumed all the same."""
    done = job.run(optimizing(job, room=10**6))["reclaim"]
    assert done["action"] == "vacuum"
    assert "more than guard.max_optimize_bytes 1,000,000" in done["skipped"]
    assert done["after"]["dead_tuples"] == 0


def test_it_does_not_wait_for_a_forgotten_transaction(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose it is stands in the certificate."""
    monkeypatch.setattr(repack, "_OLD_SECONDS", 0)
    run = purged(job)
    with transaction(job, OF_ANY) as application:
        done = reclaim(job.site, run)
        assert f"session {application.info.backend_pid} () has had a transaction open" in done.skipped
    assert done.action == "vacuum"


def test_a_run_between_archive_and_purge_is_not_disturbed(job: Job) -> None:
    """A copy gives its rows another xmin: none of them would be purged."""
    other = job.policy(name="others", stale=optimizing(job).stale.model_copy(update={"where": "id % 2 = 0"}))
    tickets = job.start(other)
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
    odd = optimizing(job).stale.model_copy(update={"where": "id % 2 = 1"})
    done = job.run(optimizing(job, stale=odd))["reclaim"]
    assert (done["action"], f"the runs {tickets[0].run} are between" in done["skipped"]) == ("vacuum", True)
    for ticket in tickets:
        verify(job.site, ticket.run, ticket.chunk)
        assert purge(job.site, ticket.run, ticket.chunk).drifted == 0


REFUSALS = {
    "no extension": ("DROP EXTENSION pg_repack", r"CREATE EXTENSION pg_repack; or set reclaim to 'vacuum'"),
    "published": (
        "CREATE PUBLICATION news FOR TABLE events",
        "logical decoding, which publication news needs",
    ),
    "not the owner": ("", r"role \S+ may not copy it, which only its owner may"),
    "no program": ("", r"program pg_repack is not on this worker's PATH: install the extension's version, 1\.4\.8"),
    "another version": ("", r"program pg_repack is version 1\.3\.0 here: install the extension's version, 1\.4\.8"),
    "partitioned": (
        (
            "DROP TABLE events; CREATE TABLE events (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at))"
            " PARTITION BY RANGE (at); CREATE TABLE part PARTITION OF events FOR VALUES FROM ('2020-01-01') TO"
            " (MAXVALUE); CREATE INDEX ON events (at, id); ANALYZE events"
        ),
        "pg_repack copies no partitioned table: set reclaim to 'vacuum'",
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_the_plan_refuses_what_cannot_be(job: Job, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, with the fix, before anything happens."""
    change, message = REFUSALS[why]
    if change:
        job.execute(change)
    if why == "not the owner":
        job.role = PostgresRole(job.dsn)
    if why in ("no program", "another version"):
        monkeypatch.setenv("PATH", str(tmp_path))
    if why == "another version":
        (tmp_path / "pg_repack").write_text("#!/bin/sh\necho pg_repack 1.3.0\n")
        (tmp_path / "pg_repack").chmod(0o755)
    with pytest.raises(PlanRefused, match=message):
        job.plan(optimizing(job), window_of(optimizing(job)))


def test_room_must_be_told(job: Job) -> None:
    """No server tells over SQL how much of its disk is free."""
    with pytest.raises(PolicyInvalid, match="say by guard"):
        job.policy(reclaim="optimize")
