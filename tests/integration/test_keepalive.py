"""A quiet connection to PostgreSQL is asked after by the system, before a gateway on the way forgets it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_dbhygiene.databases.postgres import PostgresDatabase
from tests.job import Job
from tests.servers.postgres import PostgresServer

KEEPALIVE_TIMER, TICKS_A_SECOND = "02", 100


def asked_after_in(port: int) -> Iterator[float]:
    """Give the seconds after which the system asks after each connection to a port of this machine."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, _, timer, *_ = line.split()
        kind, ticks = timer.split(":")
        if (int(remote.split(":")[1], 16), state, kind) == (port, "01", KEEPALIVE_TIMER):
            yield int(ticks, 16) / TICKS_A_SECOND


@pytest.mark.parametrize(("said", "least", "most"), [({}, 50, 60), ({"keepalives_idle": 500}, 450, 500)])
def test_a_quiet_connection_is_asked_after(
    job: Job, postgres: PostgresServer, said: dict[str, Any], least: int, most: int
) -> None:
    """Within a minute, both the steps' own and the one that reads rows; or as the Airflow connection says."""
    database = PostgresDatabase(lambda: psycopg.connect(job.dsn, **said))
    before = len(list(asked_after_in(postgres.port)))
    with ExitStack() as stack:
        session = stack.enter_context(database.session())
        session.execute("SELECT 1")
        stack.enter_context(database._connections.reader())
        found = sorted(asked_after_in(postgres.port))
    assert len(found) == before + 2
    assert sum(least <= seconds <= most for seconds in found) == 2
