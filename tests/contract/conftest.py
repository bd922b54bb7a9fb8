"""A job on each version of PostgreSQL in turn, and one on each engine in turn."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.job import EVENTS, Job
from tests.least import mysql_role, postgres_role
from tests.mysql_job import EVENTS as MYSQL_EVENTS
from tests.mysql_job import MySqlJob
from tests.servers.mysql import MariaDbServer, MySqlServer
from tests.servers.mysql_programs import ServerUnavailable
from tests.servers.postgres import PostgresServer


@pytest.fixture
def job(any_database: str, tmp_path: Path) -> Job:
    """Give a job on a fresh database of each version in turn, with a folder of its own.

    It works as the administrator: its tests are of values, types and catalogues, whatever the rights.
    """
    return Job(any_database, tmp_path / "cold")


@pytest.fixture(
    scope="session", params=(PostgresServer, MariaDbServer, MySqlServer), ids=lambda server: server.__name__
)
def every_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer | MySqlServer]:
    """Give a server of each engine in turn."""
    if request.param is PostgresServer:
        yield request.getfixturevalue("postgres")
        return
    try:
        server = request.param.start()
    except ServerUnavailable as error:
        if os.environ.get("REQUIRE_MYSQL"):
            raise
        pytest.skip(f"NOT TESTED on {request.param.flavour}: {error}")
    with server:
        yield server


@pytest.fixture
def events_job(
    every_server: PostgresServer | MySqlServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Job]:
    """Give a job on each engine in turn, with ten thousand events, 3,000 of them stale, by the least role."""
    name = f"test_{secrets.token_hex(6)}"
    known = every_server.create_database(name)
    if isinstance(known, str):
        made = Job(known, tmp_path / "cold", role=postgres_role(known, request))
    else:
        made = MySqlJob(folder=tmp_path, parameters=known, role=mysql_role(known, request))
    for statement in (EVENTS,) if isinstance(known, str) else MYSQL_EVENTS:
        made.execute(statement)
    try:
        yield made
    finally:
        every_server.drop_database(name)
        if not isinstance(known, str):
            every_server.drop_database("dbhygiene")  # there is one ledger to a server
