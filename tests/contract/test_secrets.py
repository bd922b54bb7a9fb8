"""No password or key is told when a database or a store fails, in whatever way: errors, tracebacks, logs, output."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fsspec
import psutil
import psycopg
import pytest
from airflow.sdk import Connection

from airflow_dbhygiene.connections import open_database
from airflow_dbhygiene.errors import HygieneError
from airflow_dbhygiene.policy import Matching, Parquet
from airflow_dbhygiene.policy.moments import Window
from airflow_dbhygiene.steps.plan import make_plan, record_plan
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.stores.parquet import ParquetStore
from tests.job import ORIGIN, Job, window_of
from tests.mysql_job import MySqlJob
from tests.secret_forms import forms_of
from tests.servers.ports import free_ports
from tests.servers.s3 import S3Server

SECRET = "p@ss/w%rd+ =%s{0}'\\ wörd-4711"  # noqa: S105 - planted, to be looked for
OTHER = "an-other/s3cret+ &4712"


def connection(job: Job, **changes: Any) -> Connection:
    """Write the database's address as an Airflow connection, with the planted password."""
    if isinstance(job, MySqlJob):
        known = {"conn_type": "mysql", "schema": job.parameters["database"]}
        host, port = job.parameters["host"], job.parameters["port"]
    else:
        parsed = psycopg.conninfo.conninfo_to_dict(job.dsn)
        known = {"conn_type": "postgres", "schema": str(parsed["dbname"])}
        host, port = parsed["host"], int(parsed["port"] or 0)
    fields: dict[str, Any] = {"conn_id": "db", "host": host, "port": port, "login": _role(job), "password": SECRET}
    return Connection(**fields | known | changes)


def _role(job: Job) -> str:
    return f"planted_{(job.parameters['database'] if isinstance(job, MySqlJob) else job.dsn.rpartition('/')[2])}"[:32]


@pytest.fixture
def planted(events_job: Job) -> Job:
    """Give the database a role whose password would be recognised."""
    role = _role(events_job)
    if isinstance(events_job, MySqlJob):
        events_job.execute(
            f"CREATE OR REPLACE USER '{role}'@'%'" if _mariadb(events_job) else f"CREATE USER '{role}'@'%'"
        )
        events_job.execute(f"ALTER USER '{role}'@'%%' IDENTIFIED BY %s", (SECRET,))
        events_job.execute(f"GRANT ALL ON *.* TO '{role}'@'%'")
    else:
        literal = psycopg.sql.Literal(SECRET).as_string()
        events_job.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD {literal}")
    return events_job


def _mariadb(job: Job) -> bool:
    return "MariaDB" in str(job.one("SELECT version()"))


def plan(job: Job, link: Connection, **changes: Any) -> None:
    """Plan over an Airflow connection, as the task does."""
    policy = job.policy(**changes)
    window: Window = window_of(policy)
    site = Site(open_database("db", link), lambda place: job.store(place.url), job.told.append)
    record_plan(site, make_plan(site, policy, window, ORIGIN))


def wrong_tls(job: Job) -> dict[str, Any]:
    """Ask for an encryption that the server, or this machine, does not have."""
    mysql = {"ssl": {"ca": "/nonexistent/ca.pem"}}
    return {"extra": mysql if isinstance(job, MySqlJob) else {"sslmode": "verify-full"}}


def failures(job: Job) -> dict[str, Callable[[], None]]:
    """Name the ways in which a database fails."""
    return {
        "wrong password": lambda: plan(job, connection(job, password=OTHER)),
        "unknown role": lambda: plan(job, connection(job, login="nobody_here", password=OTHER)),
        "unknown database": lambda: plan(job, connection(job, schema="nowhere_here")),
        "nobody listens": lambda: plan(job, connection(job, port=free_ports(1)[0])),
        "no such host": lambda: plan(job, connection(job, host="nowhere.invalid")),
        "tls": lambda: plan(job, connection(job, **wrong_tls(job))),
        "unknown table": lambda: plan(job, connection(job), table="nowhere.events"),
        "rejected condition": lambda: plan(job, connection(job), stale=Matching("nothing = 1")),
        "refused table": lambda: plan(job, connection(job), guard={"max_fraction": 0.01}),
    }


def test_a_database_that_fails_tells_no_password(
    planted: Job, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """By Airflow's own hooks, at the most talkative level of logs; a plan that succeeds tells none either."""
    caplog.set_level(logging.DEBUG)
    plan(planted, connection(planted))
    said = ["\n".join(planted.told)]
    for what, fail in failures(planted).items():
        with pytest.raises(Exception) as failed:  # noqa: PT011 - whatever it is must not tell
            fail()
        assert isinstance(failed.value, HygieneError) or what == "tls", f"{what}: {failed.value!r}"
        said.append(_all_of(failed.value))
    _assert_silent(said, caplog, capfd)
    ledger = planted.execute("SELECT plan, origin FROM dbhygiene.run")
    assert ledger
    assert not [form for form in _forms() if form in str(ledger).encode()]


def test_a_store_that_fails_tells_no_key(
    events_job: Job, s3: S3Server, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A wrong key, nobody there, no such bucket: at INFO, since at DEBUG botocore itself logs session tokens."""
    if isinstance(events_job, MySqlJob):
        return  # the store is the same
    caplog.set_level(logging.INFO)
    said = []
    for settings, bucket in (
        ({"key": s3.access_key, "secret": SECRET}, s3.bucket),
        ({"key": "WRONG", "secret": SECRET}, s3.bucket),
        ({"key": s3.access_key, "secret": SECRET, "endpoint_url": f"http://127.0.0.1:{free_ports(1)[0]}"}, s3.bucket),
        ({"key": s3.access_key, "secret": SECRET, "token": OTHER}, "no-such-bucket"),
    ):
        store = _store(s3, bucket, settings)
        site = replace(events_job.site, open_store=lambda _, store=store: store)
        policy = events_job.policy(archive=Parquet(f"s3://aws@{bucket}"))
        planned = events_job.plan(policy)
        with pytest.raises(HygieneError) as failed:
            record_plan(site, planned)
        said.append(_all_of(failed.value))
    _assert_silent(said, caplog, capfd)


def _store(s3: S3Server, bucket: str, settings: dict[str, Any]) -> ParquetStore:
    config = {"retries": {"total_max_attempts": 1}, "connect_timeout": 2, "read_timeout": 2}
    known = {"endpoint_url": s3.endpoint_url, "config_kwargs": config, "skip_instance_cache": True}
    return ParquetStore(fsspec.filesystem("s3", **known | settings), bucket, url=f"s3://aws@{bucket}")


def _forms() -> list[bytes]:
    return [*forms_of(SECRET), *forms_of(OTHER)]


def _all_of(error: BaseException) -> str:
    """Give all that Airflow would log of an error: its traceback, and those of its causes."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)


def _assert_silent(said: list[str], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    out, err = capfd.readouterr()
    process = psutil.Process()
    lines = map(_command_line, (process, *process.children(recursive=True)))
    everything = "\n".join([*said, caplog.text, out, err, *lines, " ".join(sys.argv)]).encode()
    assert len(everything) > 1_000
    assert [form for form in _forms() if form in everything] == []


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # or one that has just ended: it has no command line any more
        return ""
