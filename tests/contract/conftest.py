"""A job on each version of PostgreSQL in turn."""

from pathlib import Path

import pytest

from tests.job import Job


@pytest.fixture
def job(any_database: str, tmp_path: Path) -> Job:
    """Give a job on a fresh database of each version in turn, with a folder of its own."""
    return Job(any_database, tmp_path / "cold")
