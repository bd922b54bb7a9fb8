"""Where the next batch of a discard ends is found out beside the one before it, on each engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from airflow_dbhygiene.databases.protocol import Span
from airflow_dbhygiene.errors import DatabaseUnavailable, RowsLocked
from airflow_dbhygiene.policy import Discard, Pace
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.scout import Scout, scouting
from tests.contract.test_discards import application
from tests.job import STALE_EVENTS, Job


@contextmanager
def scout_of(job: Job) -> Iterator[tuple[Scout, Span]]:
    """Give a scout, and where the stale events lie."""
    run = job.plan(job.policy()).run
    with scouting(job.site, run.selection) as scout:
        yield scout, Span(None, None)


def number(place: Any) -> int:
    """Give the event at a place: they are hourly, and their ids rise with their age."""
    return int(place[-1])


def test_it_looks_from_where_a_batch_will_end(events_job: Job) -> None:
    """What was found is taken, and there is an end to it."""
    with scout_of(events_job) as (scout, span):
        place, rows = scout.place(span, 1_000)
        assert (number(place), rows) == (1_000, 1_000)
        rest = replace(span, lower=place)
        scout.begin(rest, 1_500)
        found, rows = scout.place(rest, 1_800)
        assert (number(found), rows) == (2_500, 1_500)
        assert scout.place(replace(span, lower=found), 500) == (None, 500)


def test_a_smaller_batch_is_looked_for_anew(events_job: Job) -> None:
    """The server has become slow meanwhile: no batch is larger than it may be now."""
    with scout_of(events_job) as (scout, span):
        scout.begin(span, 2_000)
        place, rows = scout.place(span, 300)
        assert (number(place), rows) == (300, 300)


def test_a_stopped_task_ends_its_scout(events_job: Job) -> None:
    """Its thread is gone when the purge has raised, and the error is the purge's own."""
    pace = Pace(max_batch_rows=200, target_batch_seconds=60)
    (ticket, *_) = events_job.start(events_job.policy(archive=Discard(reason="test"), pace=pace))
    site = events_job.site
    site.database.cancel()
    with pytest.raises(DatabaseUnavailable, match="told to stop"):
        purge(site, ticket.run, ticket.chunk)
    assert not [thread for thread in threading.enumerate() if "scout" in thread.name]


def test_rows_that_come_behind_the_scout_go_with_their_batch(events_job: Job) -> None:
    """It had counted without them."""
    pace = Pace(max_batch_rows=200, target_batch_seconds=60)
    tickets = events_job.start(events_job.policy(archive=Discard(reason="test"), pace=pace))
    site = events_job.site
    delete = site.database.delete_stale
    late = ["INSERT INTO events SELECT id + 100000, at, 'late' FROM (SELECT * FROM events WHERE id < 3000) AS copied"]

    def delete_after_others_came(*arguments: Any, **options: Any) -> Any:
        if late:
            events_job.execute(late.pop())
        return delete(*arguments, **options)

    site.database.delete_stale = delete_after_others_came  # type: ignore[method-assign]
    purged = sum(purge(site, ticket.run, ticket.chunk).purged for ticket in tickets)
    assert purged == 2 * STALE_EVENTS
    assert events_job.one("SELECT count(*) FROM events WHERE at < '2023-05-06 00:00'") == 0


def test_a_late_row_does_not_stand_in_for_a_locked_one(events_job: Job) -> None:
    """As many rows go as were counted, and still one is left: the chunk is not done before that has gone."""
    pace = Pace(max_batch_rows=200, target_batch_seconds=60, max_pause_seconds=0.05)
    (ticket, *_) = events_job.start(events_job.policy(archive=Discard(reason="test"), pace=pace))
    site = events_job.site
    delete = site.database.delete_stale
    late = ["INSERT INTO events SELECT id + 100000, at, 'late' FROM (SELECT * FROM events WHERE id = 41) AS copied"]

    def delete_after_one_came(*arguments: Any, **options: Any) -> Any:
        if late:
            events_job.execute(late.pop())
        return delete(*arguments, **options)

    site.database.delete_stale = delete_after_one_came  # type: ignore[method-assign]
    with application(events_job) as execute:
        execute("SELECT id FROM events WHERE id = 40 FOR UPDATE")
        with pytest.raises(RowsLocked):
            purge(site, ticket.run, ticket.chunk)
        assert events_job.one("SELECT state FROM dbhygiene.chunk WHERE chunk = 1") == "purging"
    assert purge(events_job.site, ticket.run, ticket.chunk).state == "purged"
    assert events_job.one("SELECT count(*) FROM events WHERE id = 40") == 0
