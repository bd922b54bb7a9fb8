"""Policies that another version has frozen, on every engine: archives stay readable, and no guard is passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import Field

from airflow_dbhygiene.errors import IllegalMove, LedgerIncompatible
from airflow_dbhygiene.ledger import Ledger, records
from airflow_dbhygiene.policy import Guard, OlderThan, Pace, Parquet, Policy
from airflow_dbhygiene.steps.abandon import abandon
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.erase import Erased, ErasureWish, erase
from airflow_dbhygiene.steps.plan import Ticket
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.reclaim import reclaim
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.runs import list_runs
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.steps.verify_archive import verify_archive, verify_store
from tests.job import STALE_EVENTS, Job

NAMES = ("archive.shelf", "guard.min_free_bytes", "pace.quiet_days", "stale.zones", "tide")


class LaterGuard(Guard):
    """With one guard more."""

    min_free_bytes: int = 7


class LaterPace(Pace):
    """With days on which nothing is purged."""

    quiet_days: tuple[str, ...] = ("2024-12-24",)


class LaterStale(OlderThan):
    """With a zone for each of several columns."""

    zones: dict[str, str] = Field(default_factory=lambda: {"at": "UTC"})


class LaterParquet(Parquet):
    """With a place of its own."""

    shelf: str | None = None


class LaterPolicy(Policy):
    """A policy as a later version might have it: each of its parts has a field that this version does not know."""

    stale: LaterStale
    archive: LaterParquet
    guard: LaterGuard = LaterGuard()
    pace: LaterPace = LaterPace()
    tide: str = "low"


@contextmanager
def the_later_version() -> Iterator[None]:
    """Let the ledger read policies as the version does that has frozen them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "Policy", LaterPolicy)
        yield


def policy(job: Job) -> Any:
    """Give the job's policy as the later version has it."""
    known = job.policy()
    parts = {name: getattr(known, name).model_dump() for name in ("stale", "archive", "guard", "pace")}
    return LaterPolicy(**{**known.model_dump(), **parts})


def started(job: Job) -> tuple[Ticket, ...]:
    """Let the later version plan, and archive and verify the first chunk."""
    with the_later_version():
        tickets = job.start(policy(job))
        archive(job.site, tickets[0].run, tickets[0].chunk)
        verify(job.site, tickets[0].run, tickets[0].chunk)
    return tickets


@pytest.mark.rights("restore")
def test_an_archive_of_a_later_version_is_verified_restored_and_erased(events_job: Job) -> None:
    """Its certificate stays as it is, since the policy's digest is that of the text that was frozen."""
    job = events_job
    with the_later_version():
        certificate = job.run(policy(job))
    assert (certificate["state"], certificate["policy_digest"]) == ("done", policy(job).digest)
    assert report(job.site, certificate["run"]) == certificate
    assert [run.state for run in list_runs(job.site)] == ["done"]
    for found in (verify_archive(job.site, policy="events"), verify_store(job.store())):
        assert (found.rows, found.findings) == (STALE_EVENTS, [])
    assert restore(job.site, Wish(certificate["run"], "back")).restored == STALE_EVENTS
    assert erase(job.site, ErasureWish("events", (("5",),), "request 17", "dpo")) == Erased(1)
    assert verify_archive(job.site, policy="events").findings == []


def test_what_copies_or_deletes_refuses_such_a_run(events_job: Job) -> None:
    """Each field is named: it may be a guard. Nothing is changed; the version that knows it goes on."""
    job = events_job
    first, second, *_ = tickets = started(job)
    before = job.execute("SELECT * FROM dbhygiene.chunk ORDER BY chunk"), job.one("SELECT count(*) FROM events")
    steps: tuple[Callable[[], object], ...] = (
        lambda: archive(job.site, second.run, second.chunk),
        lambda: verify(job.site, first.run, first.chunk),
        lambda: purge(job.site, first.run, first.chunk),
        lambda: reclaim(job.site, first.run),
        lambda: job.start(job.policy()),
    )
    said = rf"run {first.run}: .*does not know what its policy says of {', '.join(NAMES)}, .*Start a new run"
    for step in steps:
        with pytest.raises(LedgerIncompatible, match=said):
            step()
    after = job.execute("SELECT * FROM dbhygiene.chunk ORDER BY chunk"), job.one("SELECT count(*) FROM events")
    assert after == before
    with the_later_version():
        assert job.finish(tickets)["rows_purged"] == STALE_EVENTS


def test_such_a_run_stands_against_erasure_until_it_is_given_up(events_job: Job) -> None:
    """The version that knows the field may still go on with it."""
    job = events_job
    tickets = started(job)
    with the_later_version():
        purge(job.site, tickets[0].run, tickets[0].chunk)
    wish = ErasureWish("events", (("5",),), "request 17", "dpo")
    with pytest.raises(IllegalMove, match="is not purged"):
        erase(job.site, wish)
    assert abandon(job.site, tickets[0].run, "its version is gone", "ops")["state"] == "abandoned"
    assert erase(job.site, wish) == Erased(1)


def test_a_policy_that_cannot_be_read_at_all_names_its_run(events_job: Job) -> None:
    """A kind of archive that only another version has is no field that could be left out."""
    job = events_job
    (ticket, *_) = job.start(job.policy())
    plan = job.one("SELECT plan FROM dbhygiene.run").replace('\\"kind\\": \\"parquet\\"', '\\"kind\\": \\"tape\\"')
    job.execute("UPDATE dbhygiene.run SET plan = %s", (plan,))
    with (
        job.site.database.session() as session,
        pytest.raises(LedgerIncompatible, match=rf"(?s)run {ticket.run} .*tape"),
    ):
        Ledger(session).existing_run(ticket.run)
