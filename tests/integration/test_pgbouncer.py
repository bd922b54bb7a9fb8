"""Behind PgBouncer in transaction mode, where settings and locks of a session mean nothing: the same job, as ever."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from airflow_dbhygiene.errors import RowsLocked
from airflow_dbhygiene.policy import Discard
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.stores import parquet_file, sending
from tests.contract.test_stores import s3_store
from tests.job import EVENTS, STALE_EVENTS, Job
from tests.servers.pgbouncer import PgBouncer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.postgres import PostgresServer
    from tests.servers.s3 import S3Server


NOISE = "(SELECT string_agg(sha256(format('%s %s', id, n)::bytea), '') FROM generate_series(1, 1000) AS n)"
"""32 kilobytes of each row's own."""


@pytest.fixture
def pooled(postgres: PostgresServer, database: str, tmp_path: Path) -> Iterator[Job]:
    """Give a job that reaches its database through a pool of three connections."""
    with PgBouncer(postgres) as pool:
        dsn = pool.dsn(database.rpartition("/")[2])
        job = Job(database, tmp_path / "cold", connect=lambda: psycopg.connect(dsn))
        job.execute(EVENTS)
        yield job


def test_the_whole_job_and_back(pooled: Job) -> None:
    """Archived, verified by content, purged, restored: the rows are as they were."""
    before = pooled.execute("SELECT *, xmin FROM events WHERE id >= 3000 ORDER BY id")
    stale = pooled.execute("SELECT * FROM events WHERE id < 3000 ORDER BY id")
    certificate = pooled.run(pooled.policy())
    assert (certificate["state"], certificate["rows_purged"]) == ("done", STALE_EVENTS)
    assert pooled.execute("SELECT *, xmin FROM events ORDER BY id") == before
    assert restore(pooled.site, Wish(certificate["run"], "back")).restored == STALE_EVENTS
    assert pooled.execute("SELECT * FROM events WHERE id < 3000 ORDER BY id") == stale


def test_locked_rows_and_holds(pooled: Job) -> None:
    """No setting is left behind for others: a locked row is given way to, a held one stays."""
    tickets = pooled.start(pooled.policy(pace={"max_pause_seconds": 0.1}))
    for ticket in tickets:
        archive(pooled.site, ticket.run, ticket.chunk)
        verify(pooled.site, ticket.run, ticket.chunk)
    pooled.execute(
        "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
        " VALUES ('case', 'public.events', 'id = 7', 'court', 'legal')"
    )
    with psycopg.connect(pooled.dsn) as application:
        application.execute("SELECT FROM events WHERE id = 40 FOR UPDATE")
        with pytest.raises(RowsLocked):
            purge(pooled.site, tickets[0].run, 1)
    for ticket in tickets:
        purge(pooled.site, ticket.run, ticket.chunk)
    assert report(pooled.site, tickets[0].run)["rows_purged"] == STALE_EVENTS - 1
    assert pooled.execute("SELECT id FROM events WHERE id < 3000") == [(7,)]
    with pooled.connect() if pooled.connect else psycopg.connect(pooled.dsn) as connection:
        assert connection.execute("SHOW enable_seqscan").fetchone() == ("on",)


def test_a_large_object_needs_one_connection_at_a_time(
    postgres: PostgresServer, database: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts go up while its rows still come, through the pool's only connection."""
    monkeypatch.setattr(sending, "PART_BYTES", 5 * 2**20)
    monkeypatch.setattr(parquet_file, "_GROUP_BYTES", 2**20)
    with PgBouncer(postgres, connections=1) as pool:
        dsn = pool.dsn(database.rpartition("/")[2])
        job = Job(database, tmp_path, connect=lambda: psycopg.connect(dsn))
        job.open_store = lambda *_: s3_store(s3, f"{s3.bucket}/{tmp_path.name}")  # type: ignore[method-assign]
        job.execute(f"{EVENTS} ALTER TABLE events ADD COLUMN noise bytea")
        job.execute(f"UPDATE events SET noise = {NOISE} WHERE id < 3000")
        tickets = job.start(job.policy(guard={"max_fraction": 1, "min_chunk_rows": STALE_EVENTS}))
        assert [archive(job.site, ticket.run, ticket.chunk) for ticket in tickets] == [STALE_EVENTS]
    assert job.one("SELECT bytes FROM dbhygiene.object") > 3 * sending.PART_BYTES


def test_workers_share_the_pool(pooled: Job) -> None:
    """More workers than connections: they take turns."""
    tickets = pooled.start(
        pooled.policy(archive=Discard(reason="test"), guard={"max_fraction": 1, "min_chunk_rows": 500})
    )
    assert len(tickets) > 3
    workers = [threading.Thread(target=purge, args=(pooled.site, ticket.run, ticket.chunk)) for ticket in tickets]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert report(pooled.site, tickets[0].run)["rows_purged"] == STALE_EVENTS
