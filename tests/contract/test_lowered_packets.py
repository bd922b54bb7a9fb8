"""A server whose max_allowed_packet was lowered since it was archived: it makes NULL of rows that are too long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from airflow_dbhygiene.databases.mysql import purge as deletes
from airflow_dbhygiene.errors import ArchiveDamaged, NotLossless
from airflow_dbhygiene.policy import ColdTable
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import Ticket
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.verify import verify
from tests.mysql_job import MySqlJob
from tests.servers.mysql import MariaDbServer, MySqlServer

ROWS = 600
WIDE = 2 * ROWS
NUMBERS = "WITH RECURSIVE n AS (SELECT 1 AS seq UNION ALL SELECT seq + 1 FROM n WHERE seq < 900)"
LAID_OUT = (
    "CREATE TABLE events (id bigint PRIMARY KEY, at datetime NOT NULL, note longtext, KEY events_at_id (at, id))",
    f"INSERT INTO events {NUMBERS} SELECT 2 * seq, '2023-01-01' + INTERVAL seq HOUR, 'old' FROM n WHERE seq <= {ROWS}",
    f"INSERT INTO events {NUMBERS} SELECT 20000 + seq, '2024-02-01', 'young' FROM n",
    f"UPDATE events SET note = repeat('x', 2000000) WHERE id = {WIDE}",
    "ANALYZE TABLE events",
)


@pytest.fixture(params=[MariaDbServer, MySqlServer], ids=["mariadb", "mysql"])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MySqlJob]:
    """Give a table with one row of two megabytes, on a server of the test's own."""
    with request.param.start() as server:
        job = MySqlJob(folder=tmp_path, parameters=server.create_database("shop"))
        server.create_database("cold")
        for statement in LAID_OUT:
            job.execute(statement)
        yield job


def verified(job: MySqlJob) -> list[Ticket]:
    """Archive into a cold table beside, in batches that take all rows, and verify."""
    policy = job.policy(
        archive=ColdTable("cold.events", object_rows=100_000),
        guard={"max_fraction": 1, "min_chunk_rows": 5000},
        pace={"max_batch_rows": 5000, "target_batch_seconds": 60},
    )
    tickets = list(job.start(policy))
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    return tickets


def purge_all(job: MySqlJob, tickets: list[Ticket]) -> None:
    """Purge, and take a refusal for an answer."""
    try:
        for ticket in tickets:
            purge(job.site, ticket.run, ticket.chunk)
    except ArchiveDamaged:
        pass


def test_no_late_row_goes_in_place_of_a_wide_one(job: MySqlJob) -> None:
    """As many rows as were archived, and two digests that could not be made: that is not the same."""
    tickets = verified(job)
    job.execute("SET GLOBAL max_allowed_packet = 1048576")
    job.execute("INSERT INTO events VALUES (101, '2023-01-02 12:00:00', 'late')")
    purge_all(job, tickets)
    assert job.execute("SELECT note FROM events WHERE id = 101") == [("late",)]


def test_a_wide_row_that_was_changed_stays(job: MySqlJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two texts that could not be made are not the same text; by either way to delete."""
    tickets = verified(job)
    job.execute(f"UPDATE events SET note = repeat('paid', 400000) WHERE id = {WIDE}")
    job.execute("SET GLOBAL max_allowed_packet = 1048576")
    monkeypatch.setattr(deletes, "at_once", lambda *_: False)
    purge_all(job, tickets)
    assert job.execute(f"SELECT left(note, 4) FROM events WHERE id = {WIDE}") == [("paid",)]


def test_verify_calls_nothing_the_same_that_it_could_not_compare(job: MySqlJob) -> None:
    """MariaDB: no purge begins. MySQL makes a text of any length, and compares it."""
    policy = job.policy(archive=ColdTable("cold.events"), guard={"max_fraction": 1, "min_chunk_rows": 5000})
    (ticket,) = job.start(policy)
    archive(job.site, ticket.run, ticket.chunk)
    job.execute("SET GLOBAL max_allowed_packet = 1048576")
    with pytest.raises(ArchiveDamaged) if _mariadb(job) else nullcontext():
        assert verify(job.site, ticket.run, ticket.chunk) == ROWS


def test_a_row_that_is_too_long_is_not_archived(job: MySqlJob) -> None:
    """It would have no version, by which a restore knows it."""
    (ticket,) = job.start(job.policy(archive=ColdTable("cold.events"), guard={"max_fraction": 1}))
    job.execute("SET GLOBAL max_allowed_packet = 1048576")
    with pytest.raises(NotLossless, match=r"a row of shop\.events is longer than the server's max_allowed_packet"):
        archive(job.site, ticket.run, ticket.chunk)


def _mariadb(job: MySqlJob) -> bool:
    return "mariadb" in str(job.one("SELECT version()")).lower()
