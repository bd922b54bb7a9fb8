"""What the report task publishes, beside the certificate."""

from __future__ import annotations

from collections import Counter, defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.sdk.observability import stats

from airflow_dbhygiene.operators import ReportOperator
from airflow_dbhygiene.steps import abandon as abandoning
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.verify import verify
from tests.job import STALE_EVENTS, Job

if TYPE_CHECKING:
    import pytest


def test_each_row_is_counted_once_however_often_a_run_is_reported(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk failed, and its task was cleared: the second report counts what the first one could not."""
    counted: Counter[str] = Counter()
    monkeypatch.setattr(stats, "incr", lambda name, more, **_: counted.update({name: more}))
    monkeypatch.setattr(stats, "gauge", lambda *_, **__: None)
    policy = job.policy()
    first, *others = job.start(policy)
    task = ReportOperator(task_id="report", policy=policy, run=first.run)
    context = _context()
    for tickets in ([first], others, []):
        for ticket in tickets:
            for step in (archive, verify, purge):
                step(job.site, ticket.run, ticket.chunk)
        certificate = task.run_step(job.site, context)
        assert counted["dbhygiene.rows_purged"] == certificate["rows_purged"]
    assert counted["dbhygiene.rows_archived"] == counted["dbhygiene.rows_purged"] == STALE_EVENTS


def test_a_counter_never_goes_back(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is given up whose archive an earlier report has counted: OpenTelemetry takes no negative number."""
    counted: list[int] = []
    monkeypatch.setattr(stats, "incr", lambda _, more, **__: counted.append(more))
    monkeypatch.setattr(stats, "gauge", lambda *_, **__: None)
    (ticket, *_) = job.start(job.policy())
    archive(job.site, ticket.run, ticket.chunk)
    task = ReportOperator(task_id="report", policy=job.policy(), run=ticket.run)
    assert task.run_step(job.site, _context())["rows_archived"] > 0
    monkeypatch.setattr(abandoning, "report", lambda *_: {})  # killed before that
    abandoning.abandon(job.site, ticket.run, "the bucket moves", "ops")
    assert task.run_step(job.site, _context())["rows_archived"] == 0
    assert min(counted) == 0


def _context() -> Any:
    return {"dag_run": SimpleNamespace(triggering_user_name=None), "outlet_events": defaultdict(SimpleNamespace)}
