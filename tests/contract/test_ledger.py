"""One ledger, three engines: its moves, its receipts and its sums are the same on PostgreSQL, MariaDB and MySQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from airflow_dbhygiene.databases.protocol import Outcomes, Restored
from airflow_dbhygiene.errors import (
    HygieneError,
    IllegalMove,
    LedgerIncompatible,
    StatementFailed,
    StatementTimedOut,
)
from airflow_dbhygiene.ledger import Chunk, Ledger, ObjectReceipt, migrate, migrations
from airflow_dbhygiene.ledger.batches import Batches
from airflow_dbhygiene.ledger.moves import ARCHIVED, DAMAGED, MOVES, PURGED, PURGING, VERIFIED
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.ledger.restores import Restores
from airflow_dbhygiene.policy import Guard
from airflow_dbhygiene.steps import restore as restoring
from tests.job import ORIGIN, STALE_EVENTS, Job
from tests.mysql_job import MySqlJob

ROWS = 100


@pytest.fixture
def job(events_job: Job) -> Job:
    """Give a job on each engine in turn, with one run of one chunk that is planned."""
    events_job.start(events_job.policy(guard=Guard(max_fraction=1, max_rows=ROWS, min_chunk_rows=ROWS)))
    return events_job


@contextmanager
def ledger(job: Job) -> Iterator[Ledger]:
    """Open the ledger in a session of its own, in which each statement commits by itself."""
    with job.site.database.session() as session:
        yield Ledger(session)


def chunk_of(job: Job) -> Chunk:
    """Read the chunk as it is now."""
    with ledger(job) as opened:
        return opened.chunk(run_of(job), 1)


def run_of(job: Job) -> str:
    """Name the run."""
    return str(job.one("SELECT run_id FROM dbhygiene.run"))


def put(job: Job, state: str) -> Chunk:
    """Bring the chunk into a state, whatever it was in, with all of its rows accounted for."""
    job.execute(
        "UPDATE dbhygiene.chunk SET state = %s, nonce = 'n1', archived_rows = %s, purged = %s, purged_through = %s",
        (state, ROWS, ROWS, ROWS),
    )
    return chunk_of(job)


# Moves


def test_every_legal_move_is_made_and_every_other_is_refused(job: Job) -> None:
    """All pairs of states; a refused move leaves the chunk as it was."""
    for before, allowed in MOVES.items():
        for after in MOVES:
            seen = put(job, before)
            with ledger(job) as opened:
                if after in allowed:
                    assert opened.move(seen, after), (before, after)
                else:
                    with pytest.raises(IllegalMove, match=f"is {before}: it cannot become {after}"):
                        opened.move(seen, after)
            assert chunk_of(job).state == (after if after in allowed else before)


def test_a_state_that_nobody_knows_is_refused_by_the_database(job: Job) -> None:
    """Should a later version write one, this table of states is not silently widened."""
    with pytest.raises(Exception, match=r"(?i)check|constraint"):
        job.execute("UPDATE dbhygiene.chunk SET state = 'lost'")


@pytest.mark.parametrize("change", ["state = 'verified'", "nonce = 'n2'"])
def test_a_move_from_what_is_no_more_loses(job: Job, change: str) -> None:
    """A worker that saw another state, or another archive, changes nothing."""
    seen = put(job, ARCHIVED)
    job.execute(f"UPDATE dbhygiene.chunk SET {change}")
    with ledger(job) as opened:
        assert not opened.move(seen, VERIFIED)
        assert not opened.move(seen, DAMAGED)
    now = chunk_of(job)
    assert (now.state, now.nonce) == (("verified", "n1") if "state" in change else ("archived", "n2"))


def test_of_many_workers_one_wins(job: Job) -> None:
    """All have seen the same chunk, and move it at once."""
    seen, won = put(job, ARCHIVED), []
    ready = threading.Barrier(4)

    def move() -> None:
        with ledger(job) as opened:
            ready.wait()
            won.append(opened.move(seen, VERIFIED, compared_rows=1))

    workers = [threading.Thread(target=move) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(won) == [False, False, False, True]


def test_a_run_is_recorded_once(job: Job) -> None:
    """The second worker with the same plan loses quietly, and its chunks are not written."""
    with ledger(job) as opened:
        run = opened.existing_run(run_of(job))
        other = replace(opened.chunks(run.run_id)[0], chunk=2)
        assert not opened.record_run(run, [other])
        assert len(opened.chunks(run.run_id)) == 1
        assert opened.has_planned(run.policy.name, ORIGIN)
        assert not opened.has_planned(run.policy.name, ORIGIN | {"dag_run": "another"})


# Receipts


def receipt(chunk: Chunk, nonce: str, part: int = 0) -> ObjectReceipt:
    """Write the receipt of an object of fifty rows."""
    name = f"{nonce}-{part}"
    return ObjectReceipt(chunk.run_id, chunk.chunk, nonce, part, name, 50 * part, 50, 9, "a" * 64, "b" * 64)


def uploaded(opened: Ledger, chunk: Chunk, nonce: str, parts: int) -> list[ObjectReceipt]:
    """Note intent and receipt of an attempt's objects."""
    receipts = [receipt(chunk, nonce, part) for part in range(parts)]
    for each in receipts:
        Objects(opened.session).intend(chunk, nonce, each.part, each.name)
        assert Objects(opened.session).receive(each)
    return receipts


def test_the_receipts_of_the_winner_are_those_of_the_chunk(job: Job) -> None:
    """In the order of their parts; the others are on the list of what a report discards."""
    seen = chunk_of(job)
    with ledger(job) as opened:
        winner, _ = uploaded(opened, seen, "won", 2), uploaded(opened, seen, "lost", 1)
        Objects(opened.session).intend(seen, "killed", 0, "killed-0")
        assert Objects(opened.session).of(seen) == ()
        assert Objects(opened.session).count_written(seen, "won") == 2
        assert opened.move(seen, ARCHIVED, nonce="won", archived_rows=ROWS)
        now = opened.chunk(seen.run_id, 1)
        assert list(Objects(opened.session).of(now)) == winner
        losers = [(nonce, part) for _, nonce, part, _ in Objects(opened.session).losing(seen.run_id)]
        assert losers == [("killed", 0), ("lost", 0)]


def test_what_is_ruled_out_can_neither_be_received_nor_win(job: Job) -> None:
    """And what has won cannot be ruled out."""
    seen = chunk_of(job)
    with ledger(job) as opened:
        uploaded(opened, seen, "won", 1)
        Objects(opened.session).intend(seen, "slow", 0, "slow-0")
        assert opened.move(seen, ARCHIVED, nonce="won", archived_rows=50)
        assert not Objects(opened.session).rule_out(seen.run_id, 1, "won", 0)
        assert Objects(opened.session).rule_out(seen.run_id, 1, "slow", 0)
        assert not Objects(opened.session).receive(receipt(seen, "slow"))
        assert Objects(opened.session).count_written(seen, "slow") == 0
        Objects(opened.session).forget(seen.run_id, 1, "slow", 0)
        slow = [(1, "slow", 0, "slow-0")]
        assert Objects(opened.session).losing(seen.run_id) == slow, "its upload may still be under way"
        assert Objects(opened.session).count_discarded(seen.run_id) == 1


# Outcomes


def test_every_row_is_accounted_for(job: Job) -> None:
    """Batches follow each other, locked rows are settled later, and at each moment the fence is the sum."""
    with ledger(job) as opened:
        put(job, VERIFIED)
        job.execute("UPDATE dbhygiene.chunk SET purged = 0, purged_through = 0, state = 'verified'")
        first = Outcomes(54, drifted=(3,), held=(4, 5), vanished=(6,), locked=(7, 8))
        record(opened, chunk_of(job), first, 60)
        assert sums(job) == (60, 54, 1, 2, 1, 2)
        assert Batches(opened.session).locked(chunk_of(job), range(10)) == (7, 8)
        record(opened, chunk_of(job), Outcomes(40), ROWS)
        assert sums(job) == (ROWS, 94, 1, 2, 1, 2)
        with pytest.raises(StatementFailed):
            opened.move(chunk_of(job), PURGED)
        Batches(opened.session).settle_locked(chunk_of(job), (7, 8), Outcomes(1, drifted=(8,)))
        assert sums(job) == (ROWS, 95, 2, 2, 1, 0)
        assert Batches(opened.session).left_out(chunk_of(job)) == {3, 4, 5, 6, 8}
        assert opened.move(chunk_of(job), PURGED)
    batches = job.execute("SELECT batch, first_ordinal, end_ordinal, purged FROM dbhygiene.batch ORDER BY batch")
    assert batches == [(1, 0, 60, 54), (2, 60, ROWS, 40)]
    told = job.execute("SELECT ordinal, outcome, row_key FROM dbhygiene.outcome ORDER BY ordinal")
    assert told[-1] == (8, "drifted", '["8"]')


def test_a_batch_may_leave_more_rows_than_a_statement_takes_values(job: Job) -> None:
    """PostgreSQL's protocol counts values in 16 bits, and each row has five; what is noted again is noted once."""
    many = range(14_000)
    with ledger(job) as opened:
        put(job, VERIFIED)
        for _ in range(2):
            Batches(opened.session).record_outcomes(
                chunk_of(job), Outcomes(0, vanished=tuple(many)), {ordinal: (str(ordinal),) for ordinal in many}
            )
        assert Batches(opened.session).left_out(chunk_of(job)) == {*many}


def test_a_chunk_learns_from_the_batches_of_the_last_minute(job: Job) -> None:
    """The size of the largest and the speed of all; older ones tell nothing of the server as it is now."""
    with ledger(job) as opened:
        put(job, VERIFIED)
        job.execute("UPDATE dbhygiene.chunk SET purged = 0, purged_through = 0, state = 'verified'")
        run_id = chunk_of(job).run_id
        assert Batches(opened.session).recent(run_id) is None
        record(opened, chunk_of(job), Outcomes(60), 60)
        record(opened, chunk_of(job), Outcomes(ROWS - 60), ROWS)
        assert Batches(opened.session).recent(run_id) == (60, pytest.approx(ROWS / 0.2))
        job.execute("UPDATE dbhygiene.batch SET committed_at = committed_at - INTERVAL '2' MINUTE")
        assert Batches(opened.session).recent(run_id) is None


def record(opened: Ledger, chunk: Chunk, outcomes: Outcomes, end: int) -> None:
    """Write a batch as the purge does."""
    noted = (*outcomes.drifted, *outcomes.held, *outcomes.vanished, *outcomes.locked)
    Batches(opened.session).record_outcomes(chunk, outcomes, {ordinal: (str(ordinal),) for ordinal in noted})
    Batches(opened.session).record(chunk, end, outcomes, 0.1, careful=bool(noted))
    if chunk.state != PURGING:
        assert opened.chunk(chunk.run_id, chunk.chunk).state == PURGING


def sums(job: Job) -> tuple[int, ...]:
    """Give the fence and the outcomes of the chunk."""
    now = chunk_of(job)
    assert now.purged_through == now.purged + now.drifted + now.held + now.vanished + now.locked
    return now.purged_through, now.purged, now.drifted, now.held, now.vanished, now.locked


def test_a_restored_batch_is_written_once(job: Job) -> None:
    """The same batch twice is an error of the database: rows would be counted twice."""
    seen = put(job, PURGED)
    with ledger(job) as opened:
        back = Restores(opened.session, "back")
        back.record(seen, "t", range(60), Restored(58, 2))
        assert back.through(seen) == 60
        assert Restores(opened.session, "another").through(seen) == 0
        with pytest.raises(HygieneError):
            back.record(seen, "t", range(60), Restored(58, 2))
        back.record(seen, "t", range(60, ROWS), Restored(40, 0))
        assert back.restored() == 98


# Migrations


def drop_ledger(job: Job) -> None:
    """Remove the ledger as if there had never been one."""
    job.execute("DROP DATABASE dbhygiene" if isinstance(job, MySqlJob) else "DROP SCHEMA dbhygiene CASCADE")


def made(job: Job) -> list[tuple[Any, ...]]:
    """Give the migrations that the ledger has seen."""
    return job.execute("SELECT version, oldest_reader FROM dbhygiene.migration ORDER BY version")


@pytest.mark.rights("all", "it drops the ledger, which only an administrator makes anew")
def test_workers_that_migrate_at_once_make_one_ledger(job: Job) -> None:
    """Each finds it complete afterwards, and each migration was run once."""
    drop_ledger(job)
    faults, ready = [], threading.Barrier(3)

    def work() -> None:
        site = job.site
        try:
            with site.database.session() as session:
                ready.wait()
                migrate(site.database, session)
                assert Ledger(session).latest_runs(None, 1) == ()
        except BaseException as error:  # noqa: BLE001 - it is told to the test
            faults.append(error)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not faults
    assert [version for version, _ in made(job)] == list(range(1, migrations.VERSION + 1))


@pytest.mark.rights("all", "it drops the ledger, which only an administrator makes anew")
def test_an_older_worker_goes_on_while_a_newer_one_has_migrated(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each version of the ledger serves a worker of the version before, whose run goes on to its end."""
    drop_ledger(job)
    newest = migrations.VERSION
    for version in range(1, newest + 1):
        monkeypatch.setattr(migrations, "VERSION", version)
        site = job.site
        with site.database.session() as session:
            migrate(site.database, session)
        assert made(job)[-1][0] == version
    monkeypatch.setattr(migrations, "VERSION", 1)
    certificate = job.run(job.policy(guard=Guard(max_fraction=1, max_rows=ROWS, min_chunk_rows=ROWS)))
    assert (certificate["state"], certificate["rows_purged"]) == ("done", ROWS)


def test_a_ledger_that_this_version_cannot_read_stops_it(job: Job) -> None:
    """It names both versions, and what to do; one that it still can read is used."""
    job.execute("INSERT INTO dbhygiene.migration (version, oldest_reader) VALUES (98, 1)")
    assert job.plan(job.policy(name="later")).stale_rows > 0
    job.execute("INSERT INTO dbhygiene.migration (version, oldest_reader) VALUES (99, 99)")
    with pytest.raises(LedgerIncompatible, match=rf"version 99, and this package knows version {migrations.VERSION}"):
        job.plan(job.policy(name="later"))


@pytest.mark.rights("restore")
def test_a_restore_beside_its_twin_is_tried_again(events_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second ends by an error that a retry helps, and the retry finds all rows back."""
    wish = restoring.Wish(events_job.run(events_job.policy())["run"], "back")
    batch, twins = restoring._restore_batch, [wish]

    def overtaken(*how: Any) -> Restored:
        while twins:
            assert restoring.restore(events_job.site, twins.pop()).restored == STALE_EVENTS
        return batch(*how)

    monkeypatch.setattr(restoring, "_restore_batch", overtaken)
    with pytest.raises(StatementTimedOut, match="another worker does this very restore"):
        restoring.restore(events_job.site, wish)
    assert restoring.restore(events_job.site, wish) == Restored(0, 0, earlier=STALE_EVENTS)
    assert events_job.one("SELECT sum(restored) FROM dbhygiene.restore") == STALE_EVENTS


@pytest.mark.rights("restore")
def test_a_restore_can_be_rehearsed_after_it_was_done(events_job: Job) -> None:
    """A dry run leaves no receipt, and meets none."""
    wish = restoring.Wish(events_job.run(events_job.policy())["run"], "back")
    assert restoring.restore(events_job.site, wish).restored == STALE_EVENTS
    assert restoring.restore(events_job.site, replace(wish, dry_run=True)) == Restored(0, STALE_EVENTS)
