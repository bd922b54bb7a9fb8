"""The main job under the least rights: exactly what the scripts of docs/roles grant, on every engine."""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from airflow_dbhygiene.errors import HygieneError
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.hold import HoldWish, place_hold, release_hold
from airflow_dbhygiene.steps.pause import pause, resume
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.steps.verify_archive import verify_archive
from tests.job import STALE_EVENTS, Job
from tests.least import ROLES, mysql_statements
from tests.mysql_job import MySqlJob
from tests.servers.postgres_programs import environment, programs

DEFAULT_VERSION = "16"


def as_role(job: Job) -> Job:
    """Make the role by its script, and give a job that works as it."""
    name, password = f"hygiene_{secrets.token_hex(4)}", secrets.token_hex(8)
    if isinstance(job, MySqlJob):
        schema = job.parameters["database"]
        for each in mysql_statements({"HYGIENE": name, "HOST": "%", "SCHEMA": schema, "TABLE": "events"}):
            job.execute(each)
        job.execute(f"ALTER USER '{name}'@'%' IDENTIFIED BY '{password}'")
        role = {**job.parameters, "user": name, "password": password}
        return MySqlJob(folder=job.folder, parameters=job.parameters, connect=lambda: MySqlJob(parameters=role).open())
    job.execute("CREATE SCHEMA shop; ALTER TABLE events SET SCHEMA shop; REVOKE ALL ON SCHEMA public FROM PUBLIC")
    database = psycopg.conninfo.conninfo_to_dict(job.dsn)["dbname"]
    job.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    words = {"role": name, "schema": "shop", "table": "events", "column": "id", "ON_ERROR_STOP": "1"}
    filled = [f"--set={word}={value}" for word, value in words.items()]
    command = [programs(DEFAULT_VERSION) / "psql", job.dsn, *filled, f"--file={ROLES / 'postgresql.sql'}"]
    subprocess.run(command, env=environment(programs(DEFAULT_VERSION)), check=True, capture_output=True)
    job.execute(f"ALTER ROLE {name} PASSWORD '{password}'")
    dsn = psycopg.conninfo.make_conninfo(job.dsn, user=name, password=password)
    return replace(job, connect=lambda: psycopg.connect(dsn))


def policy_of(job: Job, **changes: Any) -> Any:
    """Name the table where the role finds it; only its owner may analyze it."""
    table = {} if isinstance(job, MySqlJob) else {"table": "shop.events"}
    return job.policy(**{**table, "reclaim": "none"} | changes)


def events_of(job: Job) -> str:
    """Name the table as SQL."""
    return str(policy_of(job).table)


def test_the_main_job_under_the_scripts_role(events_job: Job) -> None:
    """Holds, pauses, plan, archive, full verification, fast and careful purge, report, verify-archive."""
    role = as_role(events_job)
    policy = policy_of(role)
    place_hold(role.site, HoldWish(policy.table, "case", "legal", keys=(("5",),), hold_id="case"))
    tickets = role.start(policy)
    for ticket in tickets:
        archive(role.site, ticket.run, ticket.chunk)
        verify(role.site, ticket.run, ticket.chunk)
    events_job.execute(f"UPDATE {events_of(role)} SET note = 'changed' WHERE id = 10")
    events_job.execute(f"DELETE FROM {events_of(role)} WHERE id = 20")
    pause(role.site, "all", "a while", "anna")
    resume(role.site, "all")
    for ticket in tickets:
        purge(role.site, ticket.run, ticket.chunk)
    certificate = report(role.site, tickets[0].run)
    told = {name: certificate[f"rows_{name}"] for name in ("purged", "drifted", "vanished")}
    assert told == {"purged": STALE_EVENTS - 3, "drifted": 1, "vanished": 1}
    assert (certificate["state"], certificate["rows_under_hold"]) == ("done", 1)
    assert verify_archive(role.site, policy="events").findings == []
    release_hold(role.site, "case", "judge")
    assert role.run(policy_of(role, name="again"))["rows_purged"] == 2


def test_a_restore_needs_one_right_more(events_job: Job) -> None:
    """It says so; with the script's own remark followed, it works."""
    role = as_role(events_job)
    run = role.run(policy_of(role))["run"]
    with pytest.raises(HygieneError, match=r"(?i)insert|permission denied"):
        restore(role.site, Wish(run, "back"))
    who = _name(role)
    events_job.execute(f"GRANT INSERT ON {events_of(role)} TO {who}")
    assert restore(role.site, Wish(run, "back")).restored == STALE_EVENTS


def test_the_role_may_do_nothing_else(events_job: Job) -> None:
    """It can neither insert, nor change the table, nor read another one."""
    role = as_role(events_job)
    events_job.execute("CREATE TABLE other (id int PRIMARY KEY)")
    table = events_of(role)
    other = table.replace("shop.events", "public.other").replace(".events", ".other")
    for forbidden in (
        f"INSERT INTO {table} (id, at) VALUES (-1, '2024-01-01')",
        f"UPDATE {table} SET note = 'x'",
        f"ALTER TABLE {table} ADD x int",
        f"DROP TABLE {table}",
        f"TRUNCATE TABLE {table}",
        f"SELECT * FROM {other}",
        "CREATE DATABASE mine",
    ):
        with pytest.raises(HygieneError), role.site.database.session() as session:
            session.execute(forbidden)


def _name(role: Job) -> str:
    with role.site.database.session() as session:
        if isinstance(role, MySqlJob):
            user, host = session.execute("SELECT current_user()")[0][0].split("@")
            return f"'{user}'@'{host}'"
        return str(session.execute("SELECT current_user")[0][0])
