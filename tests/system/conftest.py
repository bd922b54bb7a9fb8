"""One Airflow serves all system tests: it takes ten seconds to start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.airflow import AirflowServer


@pytest.fixture(scope="session")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the shared Airflow watches; tests copy DAG files into it, each with ids of its own."""
    return tmp_path_factory.mktemp("dags")


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory, dags_folder: Path) -> Iterator[AirflowServer]:
    """Return the running Airflow of the whole session."""
    home = tmp_path_factory.mktemp("airflow")
    with AirflowServer.start(home, dags_folder, connections={}) as server:
        yield server
