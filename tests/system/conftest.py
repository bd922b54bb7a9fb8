"""One Airflow serves all system tests, with one PostgreSQL and one S3 server behind its connections."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.airflow import AirflowServer
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server
from tests.system.lab import DATABASES, Lab, Servers, connections, create_role


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the search for secrets come last: it looks at what the other tests leave behind."""
    items.sort(key=lambda item: item.path.name == "test_secrets.py")


@pytest.fixture(scope="session")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the shared Airflow watches; tests copy DAG files into it, each with ids of its own."""
    return tmp_path_factory.mktemp("dags")


@pytest.fixture(scope="session")
def servers(postgres: PostgresServer, s3: S3Server) -> Iterator[Servers]:
    """Return the servers behind Airflow's connections; one PostgreSQL is for tests that stop it and start it again."""
    with PostgresServer.start() as fragile:
        for server in (postgres, fragile):
            create_role(server)
        yield Servers(postgres, fragile, s3)


@pytest.fixture(scope="session")
def notes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the scenarios' notifier leaves its notes."""
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory,
    dags_folder: Path,
    notes_folder: Path,
    servers: Servers,
) -> Iterator[AirflowServer]:
    """Return the running Airflow of the whole session.

    Its metadata are in PostgreSQL: on SQLite a backfill that meets the scheduler is refused, or kills the scheduler.
    Its tasks find all drivers loaded; those of `make demo` load their own.
    """
    known = connections(servers)
    pools = {f"hygiene_{conn_id}": 3 for conn_id in (*DATABASES, "fragile_pg")}
    env = {"NOTES_FOLDER": str(notes_folder)}
    home = tmp_path_factory.mktemp("airflow")
    metadata = servers.postgres.create_database("airflow").replace("postgresql://", "postgresql+psycopg://")
    with AirflowServer.start(
        home, dags_folder, connections=known, pools=pools, env=env, database_url=metadata, preload=True
    ) as server:
        yield server


@pytest.fixture(scope="session")
def lab(airflow: AirflowServer, dags_folder: Path, notes_folder: Path, servers: Servers) -> Lab:
    """Return all that a system test works with."""
    lab = Lab(airflow, servers.postgres, servers.fragile, servers.s3, dags_folder, notes_folder)
    lab.create_databases()
    return lab
