"""PostgreSQL under pgbench: ours, paced and not, the usual loop, one big DELETE, and what is no purge at all."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from airflow_dbhygiene.policy import Pace
from benchmarks.figures import ROUNDS, SCALE
from benchmarks.postgres import LOOP, STALE
from benchmarks.traffic.clients import Pgbench
from benchmarks.traffic.cores import ALL, PURGE, TRAFFIC, keep_on
from benchmarks.traffic.purger import Purger
from benchmarks.traffic.windows import (
    QUIET_SECONDS,
    Purge,
    Window,
    compare_latency,
    compare_speed,
    in_turn,
    tell,
    watch,
)
from tests.servers.data import load_orders
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server

VERSION: Final = "16"
PER_SECOND: Final = 2500.0
"""About a third of what two cores can do."""

PACED: Final = Pace(target_batch_seconds=0.03, rest_fraction=1.5)
HARDLY: Final = Pace(target_batch_seconds=0.01, rest_fraction=20)
UNPACED: Final = Pace(target_batch_seconds=2)
RECENT: Final = """
CREATE TABLE recent AS
SELECT row_number() OVER () AS n, o_orderkey
FROM (SELECT o_orderkey FROM orders WHERE o_orderdate >= '1997-01-01' LIMIT 10000) AS newest;
ALTER TABLE recent ADD PRIMARY KEY (n);
CREATE SEQUENCE new_orders START 1000000000;
"""
SPIN: Final = """
import time
while True:
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end: pass
    time.sleep(0.03)
"""

Way = Callable[[str], Purge]
"""Prepares a purge of a database, and gives it."""


class PostgresTraffic:
    """A server, a store, and orders of which the newest are read and written."""

    def __init__(self, server: PostgresServer, s3: S3Server) -> None:
        self.server = server
        self.s3 = {"key": s3.access_key, "secret": s3.secret_key, "endpoint_url": s3.endpoint_url}

    def run(self) -> None:
        """Let each way to purge take its turn, several rounds."""
        self.load(2 * SCALE)
        ways: dict[str, Callable[[], Window]] = {
            "no purge": self.window,
            "ours, paced": lambda: self.window(self.ours(PACED)),
            "ours, hardly at work": lambda: self.window(self.ours(HARDLY)),
            "ours, as by default": lambda: self.window(self.ours(Pace())),
            "ours, unpaced": lambda: self.window(self.ours(UNPACED)),
            "the usual loop": lambda: self.window(lambda dsn: lambda seconds: usual_loop(dsn, seconds)),
            "one DELETE": lambda: self.window(lambda dsn: lambda seconds: one_delete(dsn, seconds)),
            "a busy loop": lambda: self.window(lambda _: busy_loop),
            "no purge, cores apart": lambda: self.window(apart=True),
            "ours, cores apart": lambda: self.window(self.ours(PACED, apart=True), apart=True),
        }
        rounds = in_turn(ways, ROUNDS)
        for name, windows in rounds.items():
            tell("pg", name, windows)
        compare_latency("traffic_p99", rounds["no purge"], rounds["ours, paced"])
        compare_latency("traffic_p99_hardly", rounds["no purge"], rounds["ours, hardly at work"])
        compare_latency("traffic_p99_default", rounds["no purge"], rounds["ours, as by default"])
        compare_latency("traffic_p99_apart", rounds["no purge, cores apart"], rounds["ours, cores apart"])
        compare_latency("traffic_p99_busy_loop", rounds["no purge"], rounds["a busy loop"])
        compare_speed("traffic_speed", rounds["ours, paced"], rounds["ours, unpaced"])
        compare_speed("traffic_speed_hardly", rounds["ours, hardly at work"], rounds["ours, unpaced"])

    def load(self, scale: float) -> None:
        """Make the template that every round copies."""
        dsn = self.server.create_database("template_traffic")
        load_orders(dsn, scale)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(RECENT)
            connection.execute("VACUUM ANALYZE")

    def window(self, way: Way | None = None, *, apart: bool = False) -> Window:
        """Watch the traffic on a fresh copy of the data, read once before; with ``apart``, on a core of its own."""
        with self.fresh() as dsn:
            purge = way(dsn) if way else None
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("CHECKPOINT")
            return watch(lambda: self.traffic(dsn, apart=apart), purge, lambda: stale_rows(dsn))

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """Copy the data, and read them once."""
        dsn = self.server.create_database("round", "template_traffic")
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("SELECT count(*), sum(length(o_comment)) FROM orders")
                connection.execute("SELECT count(*) FROM recent")
            yield dsn
        finally:
            keep_on(ALL, self.pid)
            self.server.drop_database("round")

    def traffic(self, dsn: str, *, apart: bool = False) -> Pgbench:
        """Start the traffic. A backend stays on the cores that the server was kept on when it began."""
        if apart:
            keep_on(TRAFFIC, self.pid)
        client = Pgbench(dsn, VERSION, PER_SECOND)
        if apart:
            keep_on(TRAFFIC, client.process.pid)
        return client

    def ours(self, pace: Pace, *, apart: bool = False) -> Way:
        """Archive and verify beforehand: what is watched is the purge."""

        def prepare(dsn: str) -> Purge:
            purger = Purger({"dsn": dsn}, self.s3, "public.orders", pace)

            def purge(seconds: float) -> None:
                if apart:
                    keep_on(PURGE, self.pid)
                    keep_on(PURGE, purger.process.pid)
                purger.run(seconds)

            return purge

        return prepare

    @property
    def pid(self) -> int:
        """The server's own process."""
        assert self.server.pid is not None  # noqa: S101 - it runs
        return self.server.pid


def stale_rows(dsn: str) -> int:
    """Count the rows that can be purged."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(f"SELECT count(*) FROM orders WHERE {STALE}").fetchone()
    return int(row[0]) if row else 0


def usual_loop(dsn: str, seconds: float) -> None:
    """Delete a thousand at a time, as most people do, and hear which."""
    ends = time.monotonic() + seconds
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute(f"{LOOP} RETURNING o_orderkey").fetchall() and time.monotonic() < ends:
            pass


def one_delete(dsn: str, seconds: float) -> None:
    """Delete all in one statement, or nothing when it takes too long."""
    with psycopg.connect(dsn, autocommit=True) as connection, suppress(psycopg.errors.QueryCanceled):
        connection.execute(f"SET statement_timeout = '{seconds:g}s'")
        connection.execute(f"DELETE FROM orders WHERE {STALE}")


def busy_loop(_: float) -> None:
    """Spin for 10 ms, sleep for 30, and touch no database: what any process does to others on as many cores."""
    with subprocess.Popen([sys.executable, "-c", SPIN]) as process:
        time.sleep(QUIET_SECONDS)
        process.kill()
