"""A job on PostgreSQL 16."""

from pathlib import Path

import pytest

from tests.job import EVENTS, Job
from tests.least import postgres_role


@pytest.fixture
def job(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    """Give a job on a fresh database that holds `events`, with a folder of its own, by the least role."""
    made = Job(database, tmp_path / "cold", role=postgres_role(database, request))
    made.execute(EVENTS)
    return made
