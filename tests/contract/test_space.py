"""A table that is purged as fast as it is filled stops growing, and so do its indexes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pendulum
import pytest

from tests.job import AS_OF, STALE_EVENTS, Job, window_of
from tests.mysql_job import MySqlJob

pytestmark = pytest.mark.rights("all", "a role may not vacuum a table that is not its own")

CYCLES = 20
ROWS = 800
"""As many rows come in a cycle as go in it."""

START = AS_OF.subtract(hours=STALE_EVENTS - ROWS)
"""The moment at which so many rows are stale."""


SPARE = 4 * 2**20
"""InnoDB extends a file by so much at once."""


def widen(job: Job) -> None:
    """Make the rows so wide that a cycle's count."""
    job.execute("CREATE TABLE wide AS SELECT id, at, note, repeat('x', 1500) AS body FROM events")
    job.execute("DROP TABLE events")
    job.execute("ALTER TABLE wide RENAME TO events")
    job.execute("ALTER TABLE events ADD PRIMARY KEY (id)")
    job.execute("CREATE INDEX events_at_id ON events (at, id)")
    job.execute("ANALYZE TABLE events" if isinstance(job, MySqlJob) else "ANALYZE events")


def insert(job: Job, cycle: int) -> None:
    """Let the application add a cycle's rows, an hour apart."""
    first = 10_000 + cycle * ROWS
    for start in range(first, first + ROWS, 200):
        values = ", ".join(f"({n}, '{at(n)}', 'row {n}', repeat('x', 1500))" for n in range(start, start + 200))
        job.execute(f"INSERT INTO events VALUES {values}")


def at(number: int) -> str:
    """Give the moment of a row."""
    return f"{pendulum.datetime(2023, 1, 1).add(hours=number):%Y-%m-%d %H:%M:%S}"


@contextmanager
def traffic(job: Job, cycle: int) -> Iterator[None]:
    """Change the newest of the rows that were there before a cycle, all the time."""
    over = threading.Event()

    def change() -> None:
        turn, newest = 0, 9_999 + cycle * ROWS
        while not over.wait(0.01):
            turn += 1
            job.execute("UPDATE events SET note = %s WHERE id = %s", (f"row {turn}", newest - turn % 1_000))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_table_stops_growing(events_job: Job) -> None:
    """Twenty runs, each of which purges as many rows as came since the one before, while others write."""
    policy = events_job.policy(reclaim="vacuum", verify="sample")
    widen(events_job)
    sizes = []
    for cycle in range(CYCLES):
        with traffic(events_job, cycle):
            insert(events_job, cycle)
            certificate = events_job.run(policy, window_of(policy, START.add(hours=cycle * ROWS)))
        assert certificate["rows_purged"] == ROWS
        sizes.append(certificate["reclaim"]["after"]["disk_bytes"])
    assert events_job.execute("SELECT count(*) FROM events") == [(10_000,)]
    spare = SPARE if isinstance(events_job, MySqlJob) else 0
    assert max(sizes[CYCLES // 2 :]) <= 1.02 * max(sizes[: CYCLES // 2]) + spare
