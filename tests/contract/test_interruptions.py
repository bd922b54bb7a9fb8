"""What held a purge up is told: in the ledger, in the certificate, and in the report that a person reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from airflow_dbhygiene.errors import Idle, Paused
from airflow_dbhygiene.policy import Pace
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.pause import pause, resume
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import describe
from airflow_dbhygiene.steps.verify import verify
from tests.job import STALE_EVENTS, Job
from tests.mysql_job import MySqlJob

ROWS = 1_200


def verified(job: Job) -> Any:
    """Plan, archive and verify; batches are of as many rows each, since none lasts as long as it may."""
    pace = Pace(max_batch_rows=ROWS, target_batch_seconds=60, max_pause_seconds=0.1)
    tickets = job.start(job.policy(pace=pace))
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    return tickets


def batches(job: Job) -> list[int]:
    """Give the sizes of the batches so far."""
    return [row[0] for row in job.execute("SELECT purged FROM dbhygiene.batch ORDER BY chunk, batch")]


def waiting(job: Job) -> int:
    """Count the sessions that wait for a row."""
    if isinstance(job, MySqlJob):
        return int(job.execute("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")[0][1])
    return int(job.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"))


@contextmanager
def application(job: Job) -> Iterator[Any]:
    """Give a session of the application in a transaction, which is rolled back at the end."""
    with closing(job.open(autocommit=False) if isinstance(job, MySqlJob) else psycopg.connect(job.dsn)) as connection:
        yield connection.cursor()


def wait_until_it_waits(job: Job) -> None:
    """Wait until a session waits for a row."""
    deadline = time.monotonic() + 20
    while not waiting(job):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_whoever_waits_for_a_batch_makes_the_next_one_half_as_large(events_job: Job) -> None:
    """An application changes a row that a batch has just deleted, and has to wait for its end."""
    tickets, site = verified(events_job), events_job.site
    delete, calls, changes = site.database.delete, list[int](), list[threading.Thread]()

    def delete_beside(*arguments: Any) -> bool:
        calls.append(arguments[2].num_rows)
        deleted = bool(delete(*arguments))
        if len(calls) == 2:
            change = f"UPDATE events SET note = 'new' WHERE id = {arguments[2].column('id')[0]}"
            changes.append(threading.Thread(target=events_job.execute, args=(change,)))
            changes[0].start()
            wait_until_it_waits(events_job)
        return deleted

    site.database.delete = delete_beside  # type: ignore[method-assign]
    purge(site, tickets[0].run, tickets[0].chunk)
    changes[0].join()
    assert calls[:3] == [300, 450, 225]
    assert batches(events_job)[:3] == calls[:3]
    certificate = events_job.finish(tickets)
    assert (certificate["rows_purged"], certificate["state"]) == (STALE_EVENTS, "done")
    found = certificate["interruptions"]
    assert (found["pauses"], found["batches_made_smaller"]) == (0, 1)
    why = "sessions waited for rows as a batch ended: 1; the next one was half as large"
    assert f"paused: 0 times, 0.0 s in all; batches made smaller: 1. {why}" in describe(certificate)


def test_who_waits_for_somebody_else_all_the_time_slows_nothing_down(events_job: Job) -> None:
    """Two sessions of the application want the same row, which is not stale."""
    tickets = verified(events_job)
    change = "UPDATE events SET note = 'new' WHERE id = 9000"
    waiter = threading.Thread(target=events_job.execute, args=(change,))
    with application(events_job) as cursor:
        cursor.execute(change)
        waiter.start()
        wait_until_it_waits(events_job)
        purge(events_job.site, tickets[0].run, tickets[0].chunk)
    waiter.join()
    assert events_job.execute("SELECT reason FROM dbhygiene.interruption") in ([], ())


def test_pauses_and_their_reasons_are_in_ledger_certificate_and_report(events_job: Job) -> None:
    """Those that outlasted the policy's patience too, after which the task is deferred."""
    tickets = verified(events_job)
    pause(events_job.site, "all", "month end", "finance")
    for _ in range(2):
        with pytest.raises(Paused):
            purge(events_job.site, tickets[0].run, tickets[0].chunk)
    told = events_job.execute("SELECT run_id, chunk, seconds > 0, reason FROM dbhygiene.interruption")
    why = "paused (all) by finance: month end"
    assert [tuple(row) for row in told] == [(tickets[0].run, tickets[0].chunk, True, why)] * 2
    resume(events_job.site, "all")
    certificate = events_job.finish(tickets)
    found = certificate["interruptions"]
    assert (found["pauses"], found["longest"][0]["reason"]) == (2, why)
    assert 0.2 < found["paused_seconds"] == pytest.approx(sum(each["seconds"] for each in found["longest"]))
    assert f"paused: 2 times, {found['paused_seconds']:.1f} s in all" in describe(certificate)
    assert why in describe(certificate)


def test_a_task_that_is_cleared_after_days_has_its_time_again(events_job: Job) -> None:
    """It waits, as any does; one that has waited since then, in all its deferrals, has had it."""
    ticket, *_ = verified(events_job)
    events_job.execute("UPDATE dbhygiene.chunk SET changed_at = changed_at - INTERVAL '3' DAY")
    pause(events_job.site, "all", "month end", "finance")
    with pytest.raises(Paused):
        purge(events_job.site, ticket.run, ticket.chunk)
    with pytest.raises(Paused):
        purge(events_job.site, ticket.run, ticket.chunk, began=time.time() - 3_600)
    with pytest.raises(Idle, match=r"has not moved for longer than pace.max_idle_seconds: paused \(all\)"):
        purge(events_job.site, ticket.run, ticket.chunk, began=time.time() - 2 * 86_400)
    resume(events_job.site, "all")
    assert purge(events_job.site, ticket.run, ticket.chunk, began=time.time() - 2 * 86_400).purged > 0
