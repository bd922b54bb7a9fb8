"""One Airflow serves all system tests, with one PostgreSQL and one S3 server behind its connections."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.airflow import AirflowServer
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server
from tests.system.lab import DATABASES, Lab, connections, create_role


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the search for secrets come last: it looks at what the other tests leave behind."""
    items.sort(key=lambda item: item.path.name == "test_secrets.py")


@pytest.fixture(scope="session")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the shared Airflow watches; tests copy DAG files into it, each with ids of its own."""
    return tmp_path_factory.mktemp("dags")


@pytest.fixture(scope="session")
def fragile_postgres() -> Iterator[PostgresServer]:
    """Return a PostgreSQL that tests may stop and start: nobody else uses it."""
    with PostgresServer.start() as server:
        create_role(server)
        yield server


@pytest.fixture(scope="session")
def notes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the scenarios' notifier leaves its notes."""
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory,
    dags_folder: Path,
    notes_folder: Path,
    postgres: PostgresServer,
    fragile_postgres: PostgresServer,
    s3: S3Server,
) -> Iterator[AirflowServer]:
    """Return the running Airflow of the whole session."""
    create_role(postgres)
    known = connections(postgres, fragile_postgres, s3)
    pools = {f"hygiene_{conn_id}": 3 for conn_id in (*DATABASES, "fragile_pg")}
    env = {"NOTES_FOLDER": str(notes_folder)}
    home = tmp_path_factory.mktemp("airflow")
    with AirflowServer.start(home, dags_folder, connections=known, pools=pools, env=env) as server:
        yield server


@pytest.fixture(scope="session")
def lab(
    airflow: AirflowServer,
    dags_folder: Path,
    notes_folder: Path,
    postgres: PostgresServer,
    fragile_postgres: PostgresServer,
    s3: S3Server,
) -> Lab:
    """Return all that a system test works with."""
    lab = Lab(airflow, postgres, fragile_postgres, s3, dags_folder, notes_folder)
    lab.create_databases()
    return lab
