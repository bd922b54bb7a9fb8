"""What becomes of the space on PostgreSQL, and that it is told truly."""

from __future__ import annotations

import pytest

from airflow_dbhygiene.errors import IllegalMove, PrivilegeMissing
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.reclaim import reclaim, rows_purged
from airflow_dbhygiene.steps.report import describe, report
from airflow_dbhygiene.steps.verify import verify
from tests.integration.test_refusals import make_role
from tests.job import STALE_EVENTS, Job


@pytest.mark.rights("reclaim")
def test_the_certificate_says_what_became_of_the_space(job: Job) -> None:
    """Dead tuples are gone, and no byte of the disk is claimed that was not given back."""
    job.execute("ALTER TABLE events SET (autovacuum_enabled = false)")
    certificate = job.run(job.policy(reclaim="vacuum"))
    done = certificate["reclaim"]
    assert done["before"]["dead_tuples"] == 3_000
    assert done["after"]["dead_tuples"] == 0
    assert done["after"]["disk_bytes"] == job.one("SELECT pg_total_relation_size('events')")
    assert done["bytes_given_back"] == done["before"]["disk_bytes"] - done["after"]["disk_bytes"] <= 0
    assert f"reclaim: {done['line']}" in describe(certificate)


def test_a_warning_is_heard_by_a_role_that_hears_errors_alone(job: Job) -> None:
    """The server only warns that it skipped a table, and a role may have been told not to listen."""
    role = make_role(job, "GRANT TEMPORARY ON DATABASE {database} TO {role}", ledger=True)
    job.execute(f"ALTER TABLE events OWNER TO {role.told[0]}")
    job.execute(f"ALTER ROLE {role.told[0]} SET client_min_messages = 'error'")
    (ticket, *_) = role.start(role.policy(reclaim="vacuum"))
    job.execute("ALTER TABLE events OWNER TO postgres")
    with pytest.raises(PrivilegeMissing, match="the server skipped"):
        reclaim(role.site, ticket.run)


def test_a_chunk_that_is_not_purged_is_noticed_though_no_task_failed(job: Job) -> None:
    """Somebody may mark tasks as successful by hand: the DAG run was green, and the rows were all there."""
    first, *others = job.start(job.policy())
    for ticket in others:
        for step in (archive, verify, purge):
            step(job.site, ticket.run, ticket.chunk)
    with pytest.raises(IllegalMove, match=r"^chunk 1 .* is planned and not purged, .* Clear archive, verify and purge"):
        rows_purged(job.site, first.run)
    assert job.finish([first])["state"] == "done"
    assert rows_purged(job.site, first.run) == STALE_EVENTS


@pytest.mark.rights("reclaim")
@pytest.mark.parametrize("reclaiming", ["vacuum", "analyze"])
def test_other_warnings_are_told_and_do_no_harm(job: Job, reclaiming: str) -> None:
    """A function of an index that warns, say, when the table is analyzed."""
    job.execute(
        "CREATE FUNCTION loud(n bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS"
        " 'BEGIN IF n = 9999 THEN RAISE WARNING ''what a number''; END IF; RETURN n; END';"
        "CREATE INDEX ON events (loud(id))"
    )
    assert job.run(job.policy(reclaim=reclaiming))["reclaim"]["action"] == reclaiming
    assert f"{reclaiming} of public.events: the server remarks: what a number" in job.told


@pytest.mark.rights("reclaim")
def test_a_run_that_an_older_version_planned_is_reclaimed_and_reported(job: Job) -> None:
    """The ledger then lacks the table that this step writes to; workers are upgraded while runs are under way."""
    tickets = job.start(job.policy(reclaim="vacuum"))
    later = ("reclaim", "erasure", "interruption", "prolongation", "abandonment")
    job.execute(f"DROP TABLE {', '.join(f'dbhygiene.{table}' for table in later)}")
    job.execute("DELETE FROM dbhygiene.migration WHERE version > 2")
    for ticket in tickets:
        for step in (archive, verify, purge):
            step(job.site, ticket.run, ticket.chunk)
    assert report(job.site, tickets[0].run)["reclaim"] is None
    assert reclaim(job.site, tickets[0].run).action == "vacuum"
    assert reclaim(job.site, tickets[0].run).action == "vacuum"  # cleared, it gives the same answer
    assert report(job.site, tickets[0].run)["reclaim"]["action"] == "vacuum"
