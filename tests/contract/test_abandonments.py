"""Runs that are given up, on every engine: nothing of them goes on, and nothing that they have purged is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from airflow_dbhygiene.errors import IllegalMove, NotFound, StatementTimedOut, StoreUnavailable, WrongServer
from airflow_dbhygiene.ledger import Ledger
from airflow_dbhygiene.policy import Discard, Pace, Policy
from airflow_dbhygiene.steps import archive as archiving
from airflow_dbhygiene.steps import purge as purging
from airflow_dbhygiene.steps import unarchived
from airflow_dbhygiene.steps import verify as verifying
from airflow_dbhygiene.steps.abandon import abandon
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.erase import Erased, ErasureWish, erase
from airflow_dbhygiene.steps.hold import HoldWish, place_hold
from airflow_dbhygiene.steps.plan import Ticket
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.reclaim import reclaim
from airflow_dbhygiene.steps.report import describe, report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.runs import list_runs
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.steps.verify_archive import verify_archive, verify_store
from tests.job import STALE_EVENTS, Job

Certificate = dict[str, Any]

REASON = "the bucket moves"
GIVEN_UP = r"was given up by ops \(the bucket moves\), and never goes on\. Start a new run"
BATCH = 200


class _Stopped(Exception):
    """A worker that is gone."""


def policy(job: Job, **changes: Any) -> Policy:
    """Give a policy that purges in small batches."""
    pace = Pace(max_batch_rows=BATCH, target_batch_seconds=60, max_pause_seconds=0.05)
    return job.policy(**{"pace": pace} | changes)


def give_up(job: Job, run_id: str) -> Certificate:
    """Give a run up."""
    return abandon(job.site, run_id, REASON, "ops")


def on_call(site: Site, name: str, number: int, event: Callable[[], object]) -> Site:
    """Let an event take place before the n-th call of one of the database's functions."""
    original, calls = getattr(site.database, name), 0

    def called(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            event()
        return original(*arguments, **named)

    setattr(site.database, name, called)
    return site


def stop() -> None:
    """End a worker."""
    raise _Stopped


def verified(job: Job, *tickets: Ticket) -> None:
    """Archive and verify."""
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)


def purge_in_part(job: Job, ticket: Ticket) -> None:
    """Purge two batches of a chunk, and end the worker."""
    with pytest.raises(_Stopped):
        purge(on_call(job.site, "share_gate", 3, stop), ticket.run, ticket.chunk)


def hot(job: Job) -> set[int]:
    """Give the keys of the table."""
    return {row[0] for row in job.execute("SELECT id FROM events")}


def states(job: Job) -> list[str]:
    """Give the state of each chunk."""
    return [row[0] for row in job.execute("SELECT state FROM dbhygiene.chunk ORDER BY run_id, chunk")]


def files(job: Job) -> set[str]:
    """Name the objects in the store."""
    return {str(path.relative_to(job.folder)) for path in job.folder.rglob("*.parquet")}


def named(certificate: Certificate) -> set[str]:
    """Name the objects that a certificate lists."""
    return {each["name"] for chunk in certificate["chunk_list"] for each in chunk["objects"]}


def assert_that_it_never_goes_on(job: Job, tickets: tuple[Ticket, ...], policy: Policy) -> None:
    """No step but the report does anything; each says why, and what to do."""
    before = job.execute("SELECT * FROM dbhygiene.chunk ORDER BY run_id, chunk"), hot(job), files(job)
    for ticket in tickets:
        for step in (archive, verify, purge):
            with pytest.raises(IllegalMove, match=GIVEN_UP):
                step(job.site, ticket.run, ticket.chunk)
    with pytest.raises(IllegalMove, match=GIVEN_UP):
        reclaim(job.site, tickets[0].run)
    with pytest.raises(IllegalMove, match=GIVEN_UP):
        job.start(policy)
    assert before == (job.execute("SELECT * FROM dbhygiene.chunk ORDER BY run_id, chunk"), hot(job), files(job))


@pytest.mark.rights("restore")
def test_a_run_is_given_up_in_the_midst_of_everything(events_job: Job) -> None:
    """One chunk is purged, one in part, one is verified: what went stays in the archive, and all else in the table."""
    job, everything = events_job, hot(events_job)
    tickets = job.start(policy(job))
    verified(job, *tickets)
    purge(job.site, tickets[0].run, tickets[0].chunk)
    left = job.one("SELECT min(id) FROM events")
    job.execute(f"UPDATE events SET note = 'new' WHERE id = {left}")
    place_hold(job.site, HoldWish(policy(job).table, "case 7", "legal", where=f"id = {left + 1}", hold_id="case 7"))
    purge_in_part(job, tickets[1])
    gone = everything - hot(job)
    certificate = give_up(job, tickets[0].run)
    assert (certificate["state"], states(job)) == ("abandoned", ["purged", "purging", "planned"])
    told = certificate["abandonment"]
    assert (told["reason"], told["abandoned_by"], told["abandoned_at"][-6:]) == (REASON, "ops", "+00:00")
    assert_that_it_never_goes_on(job, tickets, policy(job))
    counts = {name: certificate[f"rows_{name}"] for name in ("archived", "purged", "drifted", "held", "left")}
    assert counts == {"archived": 2_000, "purged": len(gone), "drifted": 1, "held": 1, "left": 1_998 - len(gone)}
    assert [chunk["left"] for chunk in certificate["chunk_list"]] == [0, counts["left"], 0]
    assert (files(job), certificate["objects_discarded"]) == (named(certificate), 1)
    assert f"is abandoned by ops: {REASON}" in describe(certificate)
    assert [run.state for run in list_runs(job.site)] == ["abandoned"]
    for found in (verify_archive(job.site, policy="events"), verify_store(job.store())):
        assert (found.rows, found.findings) == (2_000, [])
    again = job.run(policy(job, name="again"))
    assert again["rows_archived"] == STALE_EVENTS - len(gone) - 1
    assert hot(job) == {n for n in everything if n >= STALE_EVENTS} | {left + 1}
    assert restore(job.site, Wish(tickets[0].run, "back")).restored == len(gone)
    assert hot(job) == {n for n in everything if n >= STALE_EVENTS} | {left + 1} | gone


@pytest.mark.rights("restore")
def test_what_is_only_archived_leaves_nothing_behind(events_job: Job) -> None:
    """An archived chunk, a damaged one, and one whose archive was never finished: all objects go, all rows stay."""
    job, everything = events_job, hot(events_job)
    tickets = job.start(policy(job))
    for ticket in tickets[:2]:
        archive(job.site, ticket.run, ticket.chunk)
    job.execute("UPDATE dbhygiene.chunk SET state = 'damaged' WHERE chunk = 2")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Stopped):
        patch.setattr(archiving, "_claim", lambda *_: stop())
        archive(job.site, tickets[2].run, tickets[2].chunk)
    assert len(files(job)) == 3
    certificate = give_up(job, tickets[0].run)
    assert (files(job), hot(job), states(job)) == (set(), everything, ["planned"] * 3)
    figures = {name: certificate[name] for name in ("objects", "objects_discarded", "rows_archived", "rows_left")}
    assert figures == {"objects": 0, "objects_discarded": 3, "rows_archived": 0, "rows_left": 0}
    assert_that_it_never_goes_on(job, tickets, policy(job))
    assert verify_archive(job.site, policy="events").findings == []
    with pytest.raises(IllegalMove, match="there is nothing to restore"):
        restore(job.site, Wish(tickets[0].run, "back"))
    assert job.run(policy(job, name="again"))["rows_purged"] == STALE_EVENTS


def test_giving_up_again_changes_nothing(events_job: Job) -> None:
    """The first reason stays, and so does the certificate; a run that is done, or unknown, cannot be given up."""
    job = events_job
    tickets = job.start(policy(job))
    verified(job, tickets[0])
    first = give_up(job, tickets[0].run)
    kept = job.execute("SELECT * FROM dbhygiene.abandonment"), job.execute("SELECT * FROM dbhygiene.chunk")
    assert abandon(job.site, tickets[0].run, "another", "somebody") == first
    assert kept == (job.execute("SELECT * FROM dbhygiene.abandonment"), job.execute("SELECT * FROM dbhygiene.chunk"))
    assert report(job.site, tickets[0].run) == first
    done = job.run(policy(job, name="done"))
    with pytest.raises(IllegalMove, match="is purged to its end: there is nothing to give up"):
        give_up(job, done["run"])
    assert report(job.site, done["run"])["state"] == "done"
    with pytest.raises(NotFound, match="run typo is not in this database's ledger"):
        give_up(job, "typo")


def test_two_who_give_up_at_once_agree(events_job: Job) -> None:
    """One reason is written, and both are told the same."""
    job = events_job
    tickets = job.start(policy(job))
    verified(job, *tickets)
    purge_in_part(job, tickets[0])
    ready, told = threading.Barrier(2), list[Certificate]()

    def work(who: str) -> None:
        ready.wait()
        told.append(abandon(job.site, tickets[0].run, f"{who} says so", who))

    workers = [threading.Thread(target=work, args=(who,)) for who in ("one", "two")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert told[0] == told[1]
    assert told[0]["abandonment"]["reason"].startswith(told[0]["abandonment"]["abandoned_by"])
    assert files(job) == named(told[0])


@pytest.mark.parametrize("discards", [False, True], ids=["archived", "discarded"])
def test_a_purge_stops_between_two_batches(events_job: Job, *, discards: bool) -> None:
    """The batch that is under way ends first, with its receipt; none begins afterwards, and the books are right.

    More may end before: PostgreSQL gives a lock to whoever asks first once it is free, not to whoever waited longest.
    """
    job, everything = events_job, hot(events_job)
    changes = {"pace": Pace(max_batch_rows=20, target_batch_seconds=60, max_pause_seconds=0.05)}
    wanted = policy(job, **changes | ({"archive": Discard(reason="test")} if discards else {}))
    (ticket, *_) = tickets = job.start(wanted)
    if not discards:
        verified(job, *tickets)
    name = "delete_stale" if discards else "delete"
    given_up, threads, receipts = threading.Event(), list[threading.Thread](), list[int]()

    def work() -> None:
        give_up(job, ticket.run)
        receipts.append(job.one("SELECT count(*) FROM dbhygiene.batch"))
        given_up.set()

    def disturb() -> None:
        threads.append(threading.Thread(target=work))
        threads[0].start()
        assert not given_up.wait(0.5), "the run was given up while a batch was under way"

    with pytest.raises(IllegalMove, match=GIVEN_UP):
        purge(on_call(job.site, name, 2, disturb), ticket.run, ticket.chunk)
    threads[0].join()
    assert receipts == [job.one("SELECT count(*) FROM dbhygiene.batch")]
    assert receipts[0] >= 2
    purged = int(job.one("SELECT sum(purged) FROM dbhygiene.batch"))
    assert purged == len(everything - hot(job)) > 0
    certificate = report(job.site, ticket.run)
    assert (certificate["state"], certificate["rows_purged"]) == ("abandoned", purged)
    assert certificate["rows_left"] == (0 if discards else certificate["rows_archived"] - purged)
    assert_that_it_never_goes_on(job, tickets, wanted)


@pytest.mark.parametrize("discards", [False, True], ids=["archived", "discarded"])
def test_a_purge_that_has_only_to_say_so_says_it_no_more(
    events_job: Job, monkeypatch: pytest.MonkeyPatch, *, discards: bool
) -> None:
    """All rows of a chunk are gone, and the run is given up before the chunk is called purged."""
    job = events_job
    (ticket, *_) = tickets = job.start(policy(job, **({"archive": Discard(reason="test")} if discards else {})))
    if not discards:
        verified(job, *tickets)
    module: Any = unarchived if discards else purging
    finish = module._finish

    def finish_late(work: Any) -> Any:
        give_up(job, ticket.run)
        return finish(work)

    monkeypatch.setattr(module, "_finish", finish_late)
    with pytest.raises(IllegalMove, match=GIVEN_UP):
        purge(job.site, ticket.run, ticket.chunk)
    certificate = report(job.site, ticket.run)
    assert (states(job)[0], certificate["chunk_list"][0]["left"]) == ("purging", 0)
    assert certificate["chunk_list"][0]["purged"] == len(set(range(STALE_EVENTS)) - hot(job))


def test_an_archive_under_way_is_removed(events_job: Job) -> None:
    """Before its rows are read, or when all is written: it does not win, whatever it was that it met."""
    job, everything = events_job, hot(events_job)
    first, second, _ = tickets = job.start(policy(job))
    claim = archiving._claim

    def claim_late(*arguments: Any) -> Any:
        give_up(job, second.run)
        return claim(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(IllegalMove, match=GIVEN_UP):
        patch.setattr(archiving, "_claim", claim_late)
        archive(job.site, second.run, second.chunk)
    assert (states(job), files(job), hot(job)) == (["planned"] * 3, set(), everything)
    job.execute("DELETE FROM dbhygiene.abandonment")
    with pytest.raises(StatementTimedOut, match="this attempt's objects discarded"):
        archive(on_call(job.site, "read", 1, partial(give_up, job, first.run)), first.run, first.chunk)
    with pytest.raises(IllegalMove, match=GIVEN_UP):
        archive(job.site, first.run, first.chunk)
    assert (states(job), files(job)) == (["planned"] * 3, set())
    assert report(job.site, first.run)["objects"] == 0
    assert_that_it_never_goes_on(job, tickets, policy(job))


def test_objects_that_were_removed_are_no_damage(events_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verify and a purge that read while the run is given up say that, and not that somebody altered the archive."""
    job, everything = events_job, hot(events_job)
    first, second, _ = job.start(policy(job))
    archive(job.site, first.run, first.chunk)
    verified(job, second)
    opened, disturbed = verifying.opened, list[bool]()

    def opened_late(*arguments: Any, **named: Any) -> Any:
        if not disturbed:
            disturbed.append(True)
            give_up(job, first.run)
        return opened(*arguments, **named)

    def undo() -> None:
        disturbed.clear()
        job.execute("DELETE FROM dbhygiene.abandonment")

    for module, step, ticket in ((verifying, verify, first), (purging, purge, second)):
        monkeypatch.setattr(module, "opened", opened_late)
        with pytest.raises(IllegalMove, match=GIVEN_UP):
            step(job.site, ticket.run, ticket.chunk)
        assert (states(job), hot(job)) == (["planned"] * 3, everything)
        undo()
        monkeypatch.undo()
        verified(job, second)


def test_a_verify_that_comes_too_late_says_so(events_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """All objects were sound, and the run is given up before the chunk is called verified."""
    job = events_job
    (ticket, *_) = job.start(policy(job))
    archive(job.site, ticket.run, ticket.chunk)
    monkeypatch.setattr(verifying, "_protect_objects", lambda *_: give_up(job, ticket.run))
    with pytest.raises(IllegalMove, match=GIVEN_UP):
        verify(job.site, ticket.run, ticket.chunk)
    assert (states(job), files(job)) == (["planned"] * 3, set())


def test_a_store_that_is_down_keeps_no_run_from_being_given_up(events_job: Job) -> None:
    """The ledger knows it first; what is left to remove goes with the next try, or with an erasure."""
    job = events_job
    tickets = job.start(policy(job))
    verified(job, *tickets)

    def unreachable(*_: Any) -> None:
        raise StoreUnavailable("the store did not answer")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(StoreUnavailable):
        patch.setattr("airflow_dbhygiene.stores.parquet.ParquetStore.discard", unreachable)
        give_up(job, tickets[0].run)
    assert len(files(job)) == 3
    assert job.one("SELECT state FROM dbhygiene.run") == "failed"
    assert_that_it_never_goes_on(job, tickets, policy(job))
    assert erase(job.site, ErasureWish("events", (("5",),), "request 17", "dpo")) == Erased(0, (("5",),))
    assert files(job) == set()
    assert give_up(job, tickets[0].run)["objects_discarded"] == 3


@pytest.mark.rights("restore")
def test_a_run_that_was_given_up_does_not_stand_against_erasure(events_job: Job) -> None:
    """Rows that it has archived are erased, be they purged or left; what is left of them verifies."""
    job = events_job
    tickets = job.start(policy(job))
    verified(job, *tickets)
    purge_in_part(job, tickets[0])
    purged = sorted(set(range(STALE_EVENTS)) - hot(job))
    wish = ErasureWish("events", ((str(purged[0]),), (str(purged[-1] + 1),), ("2999",)), "request 17", "dpo")
    message = rf"is not purged\..*Or give it up: airflow dbhygiene abandon {tickets[0].run}\."
    with pytest.raises(IllegalMove, match=message):
        erase(job.site, wish)
    give_up(job, tickets[0].run)
    assert erase(job.site, wish) == Erased(2, (("2999",),))
    kept = pa.concat_tables(pq.read_table(path, partitioning=None) for path in job.folder.rglob("*.parquet"))
    assert set(kept.column("id").to_pylist()) == set(range(1_000)) - {purged[0], purged[-1] + 1}
    found = verify_archive(job.site, policy="events")
    assert (found.rows_erased, found.findings) == (2, [])
    certificate = report(job.site, tickets[0].run)
    assert (certificate["state"], certificate["restorable"]) == ("abandoned", False)


def test_on_another_server_nothing_is_given_up(events_job: Job) -> None:
    """Its objects may be all that is left of the rows on the server where it was planned."""
    job = events_job
    tickets = job.start(policy(job))
    verified(job, *tickets)
    plan = json.loads(job.one("SELECT plan FROM dbhygiene.run"))
    plan["server"]["system_identifier"] = "another"
    job.execute("UPDATE dbhygiene.run SET plan = %s", (json.dumps(plan),))
    with pytest.raises(WrongServer, match="leave the run, and start a new one"):
        give_up(job, tickets[0].run)
    assert (len(files(job)), states(job)) == (3, ["verified"] * 3)
    assert job.execute("SELECT * FROM dbhygiene.abandonment") == []


def test_runs_are_listed_in_a_ledger_that_knows_of_none_given_up(events_job: Job) -> None:
    """Who only looks may have no right to bring it up to date."""
    job = events_job
    job.start(policy(job))
    job.execute("DROP TABLE dbhygiene.abandonment")
    job.execute("DELETE FROM dbhygiene.migration WHERE version >= 7")
    assert [run.state for run in list_runs(job.site)] == ["planned"]


@pytest.mark.rights("all", "a worker of the version before needs no right, but its ledger is made here")
def test_a_worker_of_the_version_before_loses_no_row(events_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not look whether the run was given up: a chunk whose objects are removed stops it all the same."""
    job, everything = events_job, hot(events_job)
    tickets = job.start(policy(job))
    verified(job, *tickets)
    for module in (purging, unarchived):
        monkeypatch.setattr(module, "refuse_abandoned", lambda *_: None)
    monkeypatch.setattr("airflow_dbhygiene.steps.work.refuse_abandoned", lambda *_: None)
    site = on_call(job.site, "share_gate", 1, partial(give_up, job, tickets[0].run))
    with pytest.raises(IllegalMove, match="became planned while it was purged"):
        purge(site, tickets[0].run, tickets[0].chunk)
    assert (hot(job), files(job)) == (everything, set())


def test_the_ledger_counts_what_is_left(events_job: Job) -> None:
    """Locked rows are left, too, as long as nobody has come back for them."""
    job = events_job
    (ticket, *_) = job.start(policy(job))
    verified(job, ticket)
    job.execute("UPDATE dbhygiene.chunk SET state = 'purging', purged_through = 9, purged = 5, drifted = 1, locked = 3")
    with job.site.database.session() as session:
        figures = Ledger(session).figures(ticket.run)
        chunk = Ledger(session).chunk(ticket.run, ticket.chunk)
    assert (figures["rows_left"], chunk.left) == (994, 994)
