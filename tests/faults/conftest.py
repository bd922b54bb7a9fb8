"""Stages of a test's own: copies of a small table of flights and of its archive, at three moments of a run."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.between import before_batch
from tests.faults.stage import ARCHIVED, REST, VERIFIED, Copies, Stage, drop_and_copy, lay_out
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def few_flights(postgres: PostgresServer, flights_template: str) -> str:
    """Give the name of a database with the flights of four days; nobody may be connected to it when it is copied."""
    return lay_out(postgres, postgres.dsn(flights_template), "few_flights")


@pytest.fixture(scope="session")
def moments(postgres: PostgresServer, few_flights: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Archive and verify once; give the archive's folder by the name of the database as it was then."""
    folder = tmp_path_factory.mktemp("moments")
    stage = Stage(postgres.create_database("flights_under_way", few_flights), folder / "cold")
    stage.folder.mkdir()
    stage.perform("plan")
    postgres.create_database("flights_planned", "flights_under_way")
    stage.perform(*ARCHIVED)
    postgres.create_database("flights_archived", "flights_under_way")
    stage.perform(*VERIFIED[len(ARCHIVED) :])
    postgres.create_database("flights_verified", "flights_under_way")
    nothing = folder / "nothing"
    nothing.mkdir()
    under_way = dict.fromkeys(("flights_archived", "flights_verified"), stage.folder)
    return {few_flights: nothing, "flights_planned": nothing, **under_way}


@pytest.fixture
def copies(postgres: PostgresServer, moments: dict[str, Path], tmp_path: Path) -> Iterator[Copies]:
    """Give a way to a fresh copy of a moment, in place of the one before."""
    name, folder = f"stage_{secrets.token_hex(4)}", tmp_path / "cold"

    def copy(moment: str) -> Stage:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(moments[moment], folder)
        return Stage(drop_and_copy(postgres, name, moment), folder)

    yield copy
    if postgres.pid is None:
        postgres.restart()
    postgres.drop_database(name)


@pytest.fixture
def stage(copies: Copies, few_flights: str) -> Stage:
    """Give a stage with nothing planned."""
    return copies(few_flights)


@pytest.fixture
def planned(copies: Copies) -> Stage:
    """Give a stage with a run planned."""
    return copies("flights_planned")


@pytest.fixture
def archived(copies: Copies) -> Stage:
    """Give a stage with both chunks archived."""
    return copies("flights_archived")


@pytest.fixture
def verified(copies: Copies) -> Stage:
    """Give a stage with both chunks archived and verified."""
    return copies("flights_verified")


@pytest.fixture(params=["archived", "verified", "partly purged"])
def moment(request: pytest.FixtureRequest) -> str:
    """Name each of three moments of a run."""
    return str(request.param)


@pytest.fixture
def midway(copies: Copies, moment: str) -> Stage:
    """Give a stage that has come to that moment, or is about to."""
    return copies("flights_archived" if moment == "archived" else "flights_verified")


@pytest.fixture
def disturb(midway: Stage, moment: str) -> Callable[[str], None]:
    """Give a way to run a statement at that moment, and then the rest of the run."""

    def run(statement: str) -> None:
        if moment == "partly purged":
            midway.perform("purge 1", site=before_batch(midway, 2, lambda: midway.execute(statement)))
        else:
            midway.execute(statement)
        midway.perform(*(("verify 1", "verify 2") if moment == "archived" else ()), *REST)

    return run
