"""A stage of its own for each test: a copy of a small table of flights, and an empty folder for the archive."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stage import Stage, lay_out
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def few_flights(postgres: PostgresServer, flights_template: str) -> str:
    """Give the name of a database with the flights of four days; nobody may be connected to it when it is copied."""
    return lay_out(postgres, flights_template, "few_flights")


@pytest.fixture
def stage(postgres: PostgresServer, few_flights: str, tmp_path: Path) -> Iterator[Stage]:
    """Give a fresh stage, with nothing planned."""
    name = f"stage_{secrets.token_hex(4)}"
    folder = tmp_path / "cold"
    folder.mkdir()
    yield Stage(postgres.create_database(name, few_flights), folder)
    if postgres.pid is None:
        postgres.restart()
    postgres.drop_database(name)
