"""A job on PostgreSQL 16."""

from pathlib import Path

import pytest

from tests.job import EVENTS, Job


@pytest.fixture
def job(database: str, tmp_path: Path) -> Job:
    """Give a job on a fresh database that holds `events`, with a folder of its own."""
    made = Job(database, tmp_path / "cold")
    made.execute(EVENTS)
    return made
