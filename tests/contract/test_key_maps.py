"""Whole-number keys are looked up in a map while their rows are deleted: what is not in it, as it was archived, stays."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from airflow_dbhygiene.databases.postgres.session import Connections
from airflow_dbhygiene.policy import Guard, Pace
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.hold import HoldWish, place_hold, release_hold
from airflow_dbhygiene.steps.plan import Ticket
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.verify import verify
from tests.job import EVENTS, STALE_EVENTS, Job
from tests.servers.postgres import PostgresServer

LATE = "INSERT INTO events VALUES (%s, '2023-01-05', 'late')"


def archived(job: Job, ids: str = "id") -> tuple[Ticket, ...]:
    """Archive and verify the stale events, under other ids."""
    job.execute(EVENTS.replace("SELECT n,", f"SELECT {ids.replace('id', 'n')},"))
    tickets = job.start(job.policy())
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    return tickets


def purged(job: Job, tickets: tuple[Ticket, ...]) -> dict[str, int]:
    """Purge, and give the certificate's counts."""
    for ticket in tickets:
        purge(job.site, ticket.run, ticket.chunk)
    certificate = report(job.site, tickets[0].run)
    return {name: certificate[f"rows_{name}"] for name in ("purged", "drifted", "held", "vanished")} | {
        "careful": certificate["careful_batches"]
    }


@pytest.mark.parametrize(("ids", "careful"), [("id * 2", 0), ("id * 100000", 1)], ids=["close", "far apart"])
def test_a_late_row_between_archived_ones_stays(job: Job, ids: str, careful: int) -> None:
    """It does not even slow its batch, which looks keys up in a map; keys that are too far apart are compared later."""
    tickets = archived(job, ids)
    job.execute(LATE, (201,))
    assert purged(job, tickets) == {
        "purged": STALE_EVENTS, "drifted": 0, "held": 0, "vanished": 0, "careful": careful,
    }  # fmt: skip
    assert job.one("SELECT note FROM events WHERE id = 201") == "late"


def test_a_row_that_took_an_archived_key_stays(job: Job) -> None:
    """Its values are the same to the bit: it is another row all the same."""
    tickets = archived(job)
    job.execute("DELETE FROM events WHERE id = 77")
    job.execute("INSERT INTO events SELECT 77, timestamptz '2023-01-01 00:00+00' + 77 * interval '1 hour', 'row 77'")
    assert purged(job, tickets)["drifted"] == 1
    assert job.execute("SELECT id FROM events WHERE id < 3000") == [(77,)]


def test_a_change_that_had_begun_before_the_plan_is_not_lost(job: Job) -> None:
    """Its transaction is older than the run, and ends between verify and purge."""
    with psycopg.connect(job.dsn) as application:
        job.execute(EVENTS)
        application.execute("SELECT pg_catalog.pg_current_xact_id()")
        tickets = job.start(job.policy())
        for ticket in tickets:
            archive(job.site, ticket.run, ticket.chunk)
            verify(job.site, ticket.run, ticket.chunk)
        application.execute("UPDATE events SET note = 'changed' WHERE id = 5")
        application.commit()
    assert purged(job, tickets)["drifted"] == 1
    assert job.execute("SELECT id, note FROM events WHERE id < 3000") == [(5, "changed")]


def test_a_row_that_was_held_while_others_were_archived_does_not_take_a_vanished_ones_place(job: Job) -> None:
    """Their number would be right."""
    job.execute(EVENTS)
    wish = HoldWish("public.events", "a dispute", "legal", where="id = 10")
    hold = place_hold(job.site, wish).hold
    tickets = job.start(job.policy())
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    release_hold(job.site, hold.hold_id, "legal")
    job.execute("DELETE FROM events WHERE id = 11")
    assert purged(job, tickets)["vanished"] == 1
    assert job.execute("SELECT id FROM events WHERE id < 3000") == [(10,)]


def test_a_partition_that_took_anothers_place_stays(job: Job) -> None:
    """Its rows came under archived keys without anybody writing them, from a transaction that wrote archived rows too."""
    rows = (
        "SELECT n, timestamptz '2023-01-01 00:00+00' + n * interval '1 hour', '{}' FROM generate_series({}, {}) AS n;"
    )
    job.execute(
        "CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz NOT NULL, note text) PARTITION BY RANGE (id);"
        "CREATE TABLE events_0 PARTITION OF events FOR VALUES FROM (0) TO (1500);"
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1500) TO (10000);"
        "CREATE INDEX ON events (at, id); CREATE TABLE corrected (LIKE events_0 INCLUDING ALL);"
    )
    job.execute("INSERT INTO events " + rows.format("as it was", 0, 1499))
    job.execute(
        "INSERT INTO events {} INSERT INTO corrected {} ANALYZE events".format(
            rows.format("as it was", 1500, 9999), rows.format("corrected", 0, 1499)
        )
    )
    at_once = {"guard": Guard(max_fraction=1, min_chunk_rows=3_000), "pace": Pace(max_batch_rows=12_000)}
    tickets = job.start(job.policy(**at_once))
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    job.execute(
        "ALTER TABLE events DETACH PARTITION events_0;"
        "ALTER TABLE events ATTACH PARTITION corrected FOR VALUES FROM (0) TO (1500)"
    )
    assert purged(job, tickets)["drifted"] == 1500
    assert job.one("SELECT count(*) FROM events WHERE note = 'corrected'") == 1500


def test_changes_that_the_archive_missed_stay(postgres: PostgresServer, tmp_path: Path) -> None:
    """Some balancer sent its reading connection to a standby that was behind."""
    job = Job(postgres.create_database("balanced"), tmp_path)
    job.execute(EVENTS)
    with postgres.start_replica() as standby:
        behind = standby.dsn("balanced")
        wait_for(behind, "SELECT count(*) = 10000 FROM events")
        with psycopg.connect(behind, autocommit=True) as connection:
            connection.execute("SELECT pg_wal_replay_pause()")
        wait_for(behind, "SELECT pg_get_wal_replay_pause_state() = 'paused'")
        job.execute("UPDATE events SET note = 'paid' WHERE id < 100")
        tickets = job.start(job.policy(verify="sample"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connections, "reader", lambda _: READER(Connections(lambda: psycopg.connect(behind))))
            for ticket in tickets:
                archive(job.site, ticket.run, ticket.chunk)
    for ticket in tickets:
        verify(job.site, ticket.run, ticket.chunk)
    assert purged(job, tickets)["drifted"] == 100
    assert job.one("SELECT count(*) FROM events WHERE note = 'paid'") == 100
    postgres.drop_database("balanced")


READER = Connections.reader


def wait_for(dsn: str, question: str) -> None:
    """Ask until it is so."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(300):
            if connection.execute(question).fetchall() == [(True,)]:
                return
            time.sleep(0.1)
    raise AssertionError(question)
