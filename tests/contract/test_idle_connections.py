"""Servers close connections that stand idle: those that only help must not end a step that is at work, or pauses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_dbhygiene.databases.mysql import session as mysql_session
from airflow_dbhygiene.databases.postgres import session as postgres_session
from airflow_dbhygiene.ledger.moves import PURGED
from airflow_dbhygiene.policy import ColdTable, Discard
from airflow_dbhygiene.steps import scout, work
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.stores.cold_table import ColdTableStore
from airflow_dbhygiene.stores.parquet import ParquetStore
from tests.job import EVENTS, STALE_EVENTS, Job
from tests.mysql_job import EVENTS as MYSQL_EVENTS
from tests.mysql_job import MySqlJob
from tests.servers.mysql import MariaDbServer, MySqlServer
from tests.servers.postgres import PostgresServer

IDLE_SECONDS = 2
PACE = {"max_batch_rows": 500, "target_batch_seconds": 60, "max_pause_seconds": 60}


@pytest.fixture(params=["postgres", "mariadb", "mysql"])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Job]:
    """Give ten thousand events on a server that closes what stands idle for two seconds."""
    if request.param == "postgres":
        with PostgresServer.start("16", settings={"idle_session_timeout": f"{IDLE_SECONDS}s"}) as postgres:
            job = Job(postgres.create_database("shop"), tmp_path)
            job.execute(EVENTS + "CREATE SCHEMA cold;")
            yield job
        return
    kind: Any = MariaDbServer if request.param == "mariadb" else MySqlServer
    with kind.start(settings={"wait-timeout": str(IDLE_SECONDS)}) as server:
        job = MySqlJob(folder=tmp_path, parameters=server.create_database("shop"))
        server.create_database("cold")
        for statement in MYSQL_EVENTS:
            job.execute(statement)
        yield job


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take for idle what has stood for a second."""
    monkeypatch.setattr(scout, "_FRESH_SECONDS", 1.0)
    monkeypatch.setattr(mysql_session, "_IDLE_SECONDS", 1.0)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the limit as it is: what closes connections may be a proxy, which nobody can tell."""
    monkeypatch.delitem(mysql_session.SETTINGS, "wait_timeout")
    monkeypatch.setattr(postgres_session, "_PATIENT", "SELECT 1")


def pause_before_the_second_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a reason to wait last longer than that; the purge's own connection asks for it again and again."""
    asked: list[float] = []

    def reason(_: Any, session: Any, *__: Any) -> str | None:
        session.execute("SELECT 1")
        asked.append(time.monotonic())
        began = asked[1] if len(asked) > 1 else None
        return "somebody works" if began and time.monotonic() < began + IDLE_SECONDS + 1.5 else None

    monkeypatch.setattr(work, "pause_reason", reason)


@pytest.mark.usefixtures("silent")
def test_a_discard_goes_on_after_a_pause(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks ahead connects anew."""
    tickets = job.start(job.policy(archive=Discard(reason="test"), pace=PACE))
    pause_before_the_second_batch(monkeypatch)
    assert [purge(job.site, ticket.run, ticket.chunk).state for ticket in tickets] == [PURGED] * len(tickets)


@pytest.mark.usefixtures("silent")
def test_a_purge_by_copies_goes_on_after_a_pause(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does what reads the copies."""
    tickets = job.start(job.policy(archive=ColdTable("cold.events"), pace=PACE))
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    pause_before_the_second_batch(monkeypatch)
    assert [purge(job.site, ticket.run, ticket.chunk).state for ticket in tickets] == [PURGED] * len(tickets)


@pytest.mark.usefixtures("silent")
def test_an_object_may_take_longer_than_that(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try archives it."""
    copy, sleeping = ColdTableStore.copy, "SELECT SLEEP(3)" if isinstance(job, MySqlJob) else "SELECT pg_sleep(3)"

    def copy_slowly(self: Any, session: Any, *how: Any) -> Any:
        session.execute(sleeping)
        return copy(self, session, *how)

    monkeypatch.setattr(ColdTableStore, "copy", copy_slowly)
    (ticket, *_) = job.start(job.policy(archive=ColdTable("cold.events", object_rows=1_000)))
    assert archive(job.site, ticket.run, ticket.chunk) > 0


def test_a_store_may_take_longer_than_that(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's own connection is still there when its object has come."""
    fetch = ParquetStore.fetch

    def fetch_slowly(*how: Any, **named: Any) -> Any:
        time.sleep(IDLE_SECONDS + 0.5)
        return fetch(*how, **named)

    (ticket, *_) = job.start(job.policy())
    archive(job.site, ticket.run, ticket.chunk)
    monkeypatch.setattr(ParquetStore, "fetch", fetch_slowly)
    assert verify(job.site, ticket.run, ticket.chunk) > 0


def test_what_a_database_allows_transactions_is_for_the_application(tmp_path: Path) -> None:
    """Archive and VACUUM take as long as they take: PostgreSQL 17 and later may have a limit for all that log in."""
    with PostgresServer.start("18") as postgres:
        job = Job(postgres.create_database("shop"), tmp_path)
        job.execute(EVENTS + "ALTER DATABASE shop SET transaction_timeout = '500ms'")
        with job.site.database.session() as session, session.transaction():
            time.sleep(1.5)
            assert session.execute("SELECT count(*) FROM events") == [(10_000,)]
        assert job.run(job.policy())["rows_purged"] == STALE_EVENTS
        with job.site.database.session() as session:
            session.execute("SET vacuum_cost_limit = 1")  # it takes longer than that
            session.execute("SET transaction_timeout = '100ms'")
            job.site.database.vacuum(session, job.policy().table_name)
