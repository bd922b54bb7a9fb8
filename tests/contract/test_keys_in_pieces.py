"""An object's keys are read back many at a time: batches begin and end amid such pieces, and go over several."""

from __future__ import annotations

import pytest

from airflow_dbhygiene.steps import doomed
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.verify import verify
from tests.job import STALE_EVENTS, Job


@pytest.mark.parametrize("changed", [0, 1])
def test_a_batch_goes_over_several_pieces(events_job: Job, monkeypatch: pytest.MonkeyPatch, changed: int) -> None:
    """All at once where its rows are as they were, row by row where one of them is not."""
    monkeypatch.setattr(doomed, "_ROWS_AT_A_TIME", 70)
    tickets = events_job.start(events_job.policy(pace={"max_batch_rows": 1_000, "target_batch_seconds": 60}))
    for ticket in tickets:
        archive(events_job.site, ticket.run, ticket.chunk)
        verify(events_job.site, ticket.run, ticket.chunk)
    events_job.execute(f"UPDATE events SET note = 'changed' WHERE id < {changed}")
    for ticket in tickets:
        purge(events_job.site, ticket.run, ticket.chunk)
    certificate = report(events_job.site, tickets[0].run)
    counts = ("rows_purged", "rows_drifted", "careful_batches")
    assert [certificate[name] for name in counts] == [STALE_EVENTS - changed, changed, changed]
    assert events_job.execute("SELECT count(*) FROM events WHERE id < 3000") == [(changed,)]
