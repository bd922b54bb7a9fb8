"""Policies that discard: stale rows go without a copy, and nothing else goes, on each engine."""

from __future__ import annotations

import itertools
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from airflow_dbhygiene.errors import IllegalMove, PolicyInvalid, RowsLocked
from airflow_dbhygiene.ledger import Ledger
from airflow_dbhygiene.ledger.discards import Discards
from airflow_dbhygiene.policy import Discard, Pace, Policy
from airflow_dbhygiene.steps import unarchived
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import describe, report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify import verify
from tests.job import AS_OF, STALE_EVENTS, Job, window_of
from tests.mysql_job import MySqlJob

if TYPE_CHECKING:
    from collections.abc import Iterator


def policy(job: Job, **changes: Any) -> Policy:
    """Give a policy that discards stale events, two hundred at a time."""
    pace = Pace(max_batch_rows=200, target_batch_seconds=60, max_pause_seconds=0.05)
    return job.policy(**{"archive": Discard(reason="test"), "pace": pace} | changes)


@contextmanager
def application(job: Job) -> Iterator[Any]:
    """Open a transaction of the application's; give what runs a statement in it."""
    connection: Any = job.open(autocommit=False) if isinstance(job, MySqlJob) else psycopg.connect(job.dsn)
    with closing(connection), closing(connection.cursor()) as cursor:
        yield cursor.execute
        connection.commit()


def test_what_is_stale_goes_and_nothing_else(events_job: Job) -> None:
    """In batches with a receipt each; the certificate says that nothing was kept."""
    before = events_job.execute("SELECT * FROM events WHERE id >= 3000 ORDER BY id")
    certificate = events_job.run(policy(events_job))
    assert events_job.execute("SELECT * FROM events ORDER BY id") == before
    assert (certificate["state"], certificate["rows_purged"], certificate["rows_archived"]) == ("done", STALE_EVENTS, 0)
    assert (certificate["restorable"], certificate["certificate"]) == (False, None)
    assert "none, rows are discarded: test" in describe(certificate)
    batches = events_job.execute("SELECT sum(purged), count(*) FROM dbhygiene.batch")[0]
    assert (int(batches[0]), batches[1] >= STALE_EVENTS // 200) == (STALE_EVENTS, True)


def test_archive_and_verify_have_nothing_to_do(events_job: Job) -> None:
    """An explicit DAG may call them all the same."""
    ticket, *_ = events_job.start(policy(events_job))
    assert (archive(events_job.site, ticket.run, ticket.chunk), verify(events_job.site, ticket.run, ticket.chunk)) == (
        0,
        0,
    )
    assert events_job.one("SELECT count(*) FROM events") == 10_000


@pytest.mark.rights("restore")
def test_a_plan_says_so_and_a_restore_is_refused(events_job: Job) -> None:
    """Before, and after."""
    assert "archive       none, rows are discarded: test" in events_job.plan(policy(events_job)).describe()
    run = events_job.run(policy(events_job))["run"]
    with pytest.raises(IllegalMove, match="discards its rows"):
        restore(events_job.site, Wish(run, "back"))


def test_held_rows_stay(events_job: Job) -> None:
    """A hold that is placed while the purge is under way binds too."""
    tickets = events_job.start(policy(events_job))
    events_job.execute(
        "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
        " VALUES ('case', %s, 'id IN (7, 1500, 2999)', 'court', 'legal')",
        (policy(events_job).table,),
    )
    for ticket in tickets:
        purge(events_job.site, ticket.run, ticket.chunk)
    assert report(events_job.site, tickets[0].run)["rows_purged"] == STALE_EVENTS - 3
    left = events_job.execute("SELECT id FROM events WHERE id < 3000 ORDER BY id")
    assert [row[0] for row in left] == [7, 1500, 2999]


def test_locked_rows_are_skipped_and_left_to_a_later_try(events_job: Job) -> None:
    """All others of the chunk are gone by then."""
    tickets = events_job.start(policy(events_job))
    with application(events_job) as execute:
        execute("SELECT id FROM events WHERE id = 40 FOR UPDATE")
        with pytest.raises(RowsLocked):
            purge(events_job.site, tickets[0].run, tickets[0].chunk)
        assert events_job.one("SELECT min(id) FROM events") == 40
        assert events_job.one("SELECT state FROM dbhygiene.chunk WHERE chunk = 1") == "purging"
    for ticket in tickets:
        purge(events_job.site, ticket.run, ticket.chunk)
    assert report(events_job.site, tickets[0].run)["rows_purged"] == STALE_EVENTS
    assert events_job.one("SELECT min(id) FROM events") == 3_000


def test_fresh_rows_in_between_may_be_locked(events_job: Job) -> None:
    """The purge neither waits for them nor keeps the application from its own."""
    events_job.execute("UPDATE events SET at = '2030-01-01' WHERE id IN (41, 1901)")
    tickets = events_job.start(policy(events_job))
    with application(events_job) as execute:
        execute("UPDATE events SET note = 'mine' WHERE id IN (41, 1901)")
        for ticket in tickets:
            purge(events_job.site, ticket.run, ticket.chunk)
    assert report(events_job.site, tickets[0].run)["rows_purged"] == STALE_EVENTS - 2
    kept = events_job.execute("SELECT id FROM events WHERE note = 'mine' ORDER BY id")
    assert [row[0] for row in kept] == [41, 1901]


def test_rows_that_become_stale_meanwhile_are_no_locked_rows(events_job: Job) -> None:
    """The application adds stale rows all the time: the purge ends all the same."""
    tickets = events_job.start(policy(events_job, guard={"max_fraction": 1, "min_chunk_rows": 10_000}))
    ended = threading.Event()

    def add() -> None:
        with application(events_job) as execute:
            for number in itertools.count(20_000):
                execute(f"INSERT INTO events VALUES ({number}, '2023-05-05 23:30:00', 'late')")
                execute("COMMIT")
                if ended.is_set():
                    return

    busy = threading.Thread(target=add)
    busy.start()
    try:
        assert purge(events_job.site, tickets[0].run, 1).purged >= STALE_EVENTS
    finally:
        ended.set()
        busy.join()


def test_a_purge_that_stale_rows_outrun_ends(events_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application adds more of them, ahead of each batch, than it deletes: the next run takes the rest."""
    tickets = events_job.start(policy(events_job, guard={"max_fraction": 1, "min_chunk_rows": 10_000}))
    kind, numbers = type(events_job.site.database), itertools.count(20_000)
    hop = kind.hop

    def hop_and_add(*arguments: Any) -> Any:
        found = hop(*arguments)
        values = ", ".join(f"({next(numbers)}, '2023-05-05 23:30:00', 'late')" for _ in range(300))
        events_job.execute(f"INSERT INTO events VALUES {values}")
        return found

    monkeypatch.setattr(kind, "hop", staticmethod(hop_and_add))
    monkeypatch.setattr(unarchived, "_MOST_TIMES", 2)
    done = purge(events_job.site, tickets[0].run, 1)
    assert 2 * STALE_EVENTS <= done.purged <= 2 * STALE_EVENTS + 600
    assert "The next run takes the rest." in events_job.told[-2] + events_job.told[-1]
    monkeypatch.undo()
    report(events_job.site, tickets[0].run)
    left = "SELECT count(*) FROM events WHERE note = 'late'"
    assert events_job.one(left) > 0
    events_job.run(policy(events_job), window_of(policy(events_job), AS_OF.add(minutes=1)))
    assert events_job.one(left) == 0


def test_twins_count_each_row_once(events_job: Job) -> None:
    """Two workers on one chunk."""
    tickets = events_job.start(policy(events_job, guard={"max_fraction": 1, "min_chunk_rows": 10_000}))
    errors: list[Exception] = []

    def work() -> None:
        try:
            purge(events_job.site, tickets[0].run, 1)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to tell
            errors.append(error)

    twins = [threading.Thread(target=work) for _ in range(2)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    assert errors == []
    assert report(events_job.site, tickets[0].run)["rows_purged"] == STALE_EVENTS
    assert int(events_job.one("SELECT sum(purged) FROM dbhygiene.batch")) == STALE_EVENTS


def test_a_chunk_with_an_archive_is_never_discarded(events_job: Job) -> None:
    """Its rows go by what was read back, or not at all."""
    ticket, *_ = events_job.start(events_job.policy())
    archive(events_job.site, ticket.run, ticket.chunk)
    with events_job.site.database.session() as session:
        chunk = Ledger(session).chunk(ticket.run, ticket.chunk)
        with pytest.raises(IllegalMove, match="only a chunk without an archive"), session.transaction():
            Discards(session).record_batch(chunk, 1, 0.1, careful=False)
    assert events_job.one("SELECT count(*) FROM dbhygiene.batch") == 0


def test_a_reason_is_asked_for() -> None:
    """Nobody discards by a slip."""
    with pytest.raises(PolicyInvalid, match=r"archive\.reason"):
        Policy(
            name="p",
            conn_id="c",
            table="a.b",
            stale={"kind": "matching", "where": "x = 1"},
            archive={"kind": "discard"},
        )
