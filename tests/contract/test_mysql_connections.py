"""An Airflow connection of type mysql leads to the database, by either driver that MySqlHook knows."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import MySQLdb
import pytest
from airflow.sdk import Connection

from airflow_dbhygiene.connections import open_database
from airflow_dbhygiene.databases.mysql import MySqlDatabase
from airflow_dbhygiene.errors import DatabaseUnavailable, PrivilegeMissing, StatementTimedOut
from tests.mysql_job import EVENTS, MySqlJob
from tests.servers.proxy import FaultProxy


@pytest.fixture
def job(mysql_database: dict[str, Any], tmp_path: Path) -> MySqlJob:
    """Give ten thousand events."""
    job = MySqlJob(folder=tmp_path, parameters=mysql_database)
    for statement in EVENTS:
        job.execute(statement)
    return job


def connection(job: MySqlJob, **changes: Any) -> Connection:
    """Write the database's address as an Airflow connection."""
    fields = {
        "conn_id": "my",
        "conn_type": "mysql",
        "host": job.parameters["host"],
        "port": job.parameters["port"],
        "login": job.parameters["user"],
        "password": job.parameters["password"],
        "schema": job.parameters["database"],
    }
    return Connection(**fields | changes)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"cursor": "SSDictCursor", "charset": "latin1"},
        pytest.param(
            {"client": "mysql-connector-python"}, marks=pytest.mark.filterwarnings("ignore::DeprecationWarning")
        ),
    ],
    ids=["mysqlclient", "odd settings", "connector"],
)
def test_the_whole_job_by_either_driver(job: MySqlJob, extra: dict[str, Any]) -> None:
    """Whatever the connection's extra asks for, the steps read the same rows and versions."""
    opened = connection(job, extra=json.dumps(extra))
    job.connect = open_database("my", opened)._connections._connect  # type: ignore[attr-defined]
    job.execute("UPDATE events SET note = '😀 é' WHERE id = 5")
    certificate = job.run(job.policy())
    assert certificate["rows_purged"] == 3_000
    assert job.archived(certificate).column("note")[5].as_py() == "😀 é"


PIECE_BYTES = 16 * 2**20


@pytest.mark.parametrize(("rows", "width"), [(10_000, 5_000), (150, 400_000)])
@pytest.mark.parametrize(
    "extra",
    [
        {},
        pytest.param(
            {"client": "mysql-connector-python"}, marks=pytest.mark.filterwarnings("ignore::DeprecationWarning")
        ),
    ],
    ids=["mysqlclient", "connector"],
)
def test_wide_rows_come_in_pieces_that_a_worker_has_room_for(
    job: MySqlJob, extra: dict[str, str], rows: int, width: int
) -> None:
    """However wide they are: ten thousand rows of a megabyte would be ten gigabytes."""
    opened = open_database("my", connection(job, extra=json.dumps(extra)))
    statement = f"SELECT CAST(repeat('x', {width}) AS BINARY) FROM events LIMIT {rows}"
    with opened.session() as session:
        pieces = [[len(row) for row in piece] for piece in session.driver.stream(statement)]
    assert [size for piece in pieces for size in piece] == [width] * rows
    assert max(sum(piece) for piece in pieces) < PIECE_BYTES * 1.1


def test_a_wrong_password_is_told_apart_from_a_server_that_is_down(job: MySqlJob) -> None:
    """One needs a person, the other only time."""
    for changes, error in (({"password": "wrong"}, PrivilegeMissing), ({"port": 1}, DatabaseUnavailable)):
        database = open_database("my", connection(job, **changes))
        with pytest.raises(error), database.session():
            pass


def test_a_killed_task_cancels_its_query(job: MySqlJob) -> None:
    """From another connection, within a second, and nothing more begins."""
    database = open_database("my", connection(job))
    with database.session() as session:
        threading.Timer(0.3, database.cancel).start()
        began = time.monotonic()
        with pytest.raises((StatementTimedOut, DatabaseUnavailable)):
            session.execute("SELECT count(*) FROM events a JOIN events b JOIN events c ON a.note < c.note")
        assert time.monotonic() - began < 5
        with pytest.raises(DatabaseUnavailable, match="told to stop"):
            session.execute("SELECT 1")


def test_a_batch_that_lasts_too_long_is_cancelled_even_if_the_server_cannot_be_reached_at_first(job: MySqlJob) -> None:
    """The watchdog needs a connection of its own: one that is refused is asked for again."""
    with FaultProxy((job.parameters["host"], job.parameters["port"])) as proxy:
        database = MySqlDatabase(lambda: MySQLdb.connect(**{**job.parameters, "port": proxy.port}))
        with database.session() as session:
            proxy.refuse = True
            healing = threading.Timer(1, proxy.heal)
            healing.start()
            with pytest.raises(StatementTimedOut), session.limited(0.1):
                session.execute("SELECT sum(a.id + b.id + c.id) FROM events a JOIN events b JOIN events c")
            healing.join()


def test_a_server_that_cuts_statements_short_lets_ours_end(job: MySqlJob) -> None:
    """A chunk is read outside any transaction, for as long as it takes: the server's own limit is for others."""
    mariadb = "MariaDB" in str(job.one("SELECT version()"))
    limit = "max_statement_time = {}" if mariadb else "max_execution_time = {}000"
    job.execute(f"SET GLOBAL {limit.format(1)}")
    try:
        with job.database.session() as session:
            assert session.execute("SELECT count(*), sleep(1.5) FROM events")[0][1] == 0
    finally:
        job.execute(f"SET GLOBAL {limit.format(0)}")
