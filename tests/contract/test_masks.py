"""Masked columns never reach the archive, on every engine; all else is compared and purged as ever."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Any

import pytest

from airflow_dbhygiene.errors import ArchiveDamaged, IllegalMove, PlanRefused
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.steps.verify_archive import verify_archive
from tests.job import STALE_EVENTS, Job

KEY = b"a key of the law's"
MASK = {"email": "hash", "iban": "drop", "remark": "null"}


@pytest.fixture
def people(events_job: Job) -> Job:
    """Give the events some columns about people."""
    events_job.execute("ALTER TABLE events ADD email varchar(50), ADD iban varchar(50), ADD remark varchar(50)")
    events_job.execute("UPDATE events SET email = concat('p', id, '@x.org'), iban = concat('DE', id), remark = 'tall'")
    events_job.execute("UPDATE events SET email = NULL WHERE id = 7")
    return events_job


def policy_of(job: Job, **changes: Any) -> Any:
    """Mask what is about people."""
    return job.policy(**{"mask": MASK, "mask_conn_id": "hash_key"} | changes)


def test_masked_columns_are_not_in_the_archive(people: Job, tmp_path: Any) -> None:
    """Hashed, dropped or null; keys, other columns and the purge are as ever, and the run cannot claim to be restorable."""
    site = replace(people.site, secret=lambda conn_id: {"hash_key": KEY}[conn_id])
    tickets = people.start(policy_of(people))
    for ticket in tickets:
        for step in (archive, verify, purge):
            step(site, ticket.run, ticket.chunk)
    certificate = report(site, tickets[0].run)
    assert (certificate["rows_purged"], certificate["restorable"], certificate["mask"]) == (STALE_EVENTS, False, MASK)
    rows = people.archived(certificate)
    assert "iban" not in rows.column_names
    assert set(rows.column("remark").to_pylist()) == {None}
    hashes = [
        None if n == 7 else hmac.new(KEY, f"p{n}@x.org".encode(), hashlib.sha256).hexdigest() for n in range(3_000)
    ]
    assert rows.column("email").to_pylist() == hashes
    assert rows.column("note").to_pylist() == [f"row {n}" for n in range(3_000)]
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in content
    assert verify_archive(site, policy="events").findings == []
    with pytest.raises(IllegalMove, match=r"under a mask, email \(hash\), iban \(drop\), remark \(null\)"):
        restore(people.site, Wish(certificate["run"], "back"))


def test_what_is_not_masked_is_still_compared(people: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive whose other columns differ from the server's own is refused, and nothing is purged."""
    (ticket, *_) = people.start(people.policy(mask={"email": "drop"}))

    def breaking(values: Any, field: Any, *_: Any) -> Any:
        return values[::-1] if field.name == "note" else values

    monkeypatch.setattr("airflow_dbhygiene.steps.mask._masked", breaking)
    archive(people.site, ticket.run, ticket.chunk)
    with pytest.raises(ArchiveDamaged, match="differ from the server's own rows"):
        verify(people.site, ticket.run, ticket.chunk)


def test_what_a_purge_must_read_back_cannot_be_masked(people: Job) -> None:
    """The key, the age column, and what is no column at all, each by name."""
    with pytest.raises(PlanRefused) as refused:
        people.plan(people.policy(mask={"id": "drop", "at": "null", "typo": "drop"}))
    assert len(refused.value.refusals) == 3
    assert all(f"'{name}'" in str(refused.value) for name in ("id", "at", "typo"))
