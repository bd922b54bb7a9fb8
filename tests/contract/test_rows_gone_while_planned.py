"""What happens after a plan has counted stale rows, and before it has cut them into chunks.

The application deletes rows. Invariants 1 and 10, on every engine: the run takes what is left, or a part of it that the
guard allows, and the next run the rest; whatever leaves the table is in the archive. Or somebody changes the table.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from airflow_dbhygiene.errors import StatementTimedOut
from airflow_dbhygiene.policy import Guard
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import make_plan, record_plan
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.verify import verify
from tests.job import AS_OF, ORIGIN, STALE_EVENTS, Job, window_of
from tests.mysql_job import MySqlJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_dbhygiene.steps.plan import Plan

FRESH: Final = range(STALE_EVENTS, 10_000)
_LARGEST, _MIDDLE = 1_000, 500


@pytest.mark.parametrize(
    ("hop", "left", "most"), [(1, 1_500, STALE_EVENTS), (1, 0, 2_000), (2, 1_500, 2_000), (2, 0, STALE_EVENTS)]
)
def test_rows_go_between_their_count_and_a_hop(
    events_job: Job, monkeypatch: pytest.MonkeyPatch, hop: int, left: int, most: int
) -> None:
    """The first hop finds fewer rows than were counted, or the second begins where there are none any more.

    :param hop: before it the rows go
    :param left: how many stale rows stay
    :param most: guard.max_rows, whether or not all stale rows are within it
    """
    policy = events_job.policy(guard=Guard(max_fraction=1, min_chunk_rows=500, max_chunks=3, max_rows=most))
    site, hops = events_job.site, 0
    original = site.database.hop

    def hopped(*args: object) -> object:
        nonlocal hops
        hops += 1
        if hops == hop:
            events_job.execute(f"DELETE FROM events WHERE id < {STALE_EVENTS - left}")
        return original(*args)

    monkeypatch.setattr(type(site.database), "hop", staticmethod(hopped))
    tickets = record_plan(site, make_plan(site, policy, window_of(policy), ORIGIN))
    monkeypatch.undo()
    assert hops >= hop
    archived: list[int] = []
    if tickets:
        for step in (archive, verify, purge):  # of all chunks, as mapped tasks do: no row belongs to two of them
            for ticket in tickets:
                step(site, ticket.run, ticket.chunk)
        told = report(site, tickets[0].run)
        assert told["state"] == "done"
        assert told["rows_purged"] == told["rows_archived"] <= min(left, most)
        archived += events_job.archived(told).column("id").to_pylist()
    there = [key for (key,) in events_job.execute("SELECT id FROM events ORDER BY id")]
    assert sorted([*archived, *there]) == [*range(STALE_EVENTS - left, STALE_EVENTS), *FRESH]
    if len(archived) < left:
        told = events_job.run(policy, window_of(policy, AS_OF.subtract(seconds=1)))
        archived += events_job.archived(told).column("id").to_pylist()
        assert archived == [*range(STALE_EVENTS - left, STALE_EVENTS)]
    assert events_job.one("SELECT count(*) FROM events") == len(FRESH)


def plan_with(job: Job, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> Plan:
    """Plan two chunks, and let something happen before the only hop."""
    site = job.site
    original = site.database.hop

    def hopped(*args: object) -> object:
        meanwhile()
        return original(*args)

    monkeypatch.setattr(type(site.database), "hop", staticmethod(hopped))
    policy = job.policy(guard=Guard(max_fraction=1, min_chunk_rows=STALE_EVENTS // 2))
    return make_plan(site, policy, window_of(policy), ORIGIN)


def test_who_waits_to_change_the_table_has_his_turn(events_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan of a large table takes long: it holds no lock from one look to the next, or others would queue for it."""

    def lock() -> None:
        if isinstance(events_job, MySqlJob):
            with closing(events_job.open()) as owner, closing(owner.cursor()) as cursor:
                cursor.execute("SET lock_wait_timeout = 1")
                cursor.execute("LOCK TABLES events WRITE")
        else:
            events_job.execute("SET lock_timeout = '1s'; BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE; COMMIT")

    assert len(plan_with(events_job, monkeypatch, lock).chunks) == 2


def test_a_table_that_changes_between_two_looks_is_planned_anew(
    events_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its columns were read before: a retry reads them again."""
    with pytest.raises(StatementTimedOut, match="events was changed while it was looked at"):
        plan_with(events_job, monkeypatch, lambda: events_job.execute("ALTER TABLE events ADD COLUMN more int"))
