"""PostgreSQL under pgbench: ours, paced and not, the usual loop, and one big DELETE."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg

from airflow_dbhygiene.policy import Pace
from benchmarks.figures import ROUNDS, SCALE
from benchmarks.postgres import LOOP, SETTINGS, STALE
from benchmarks.traffic.clients import Pgbench
from benchmarks.traffic.purger import Purger
from benchmarks.traffic.windows import Purge, Window, compare_traffic, tell, watch
from tests.servers.data import load_orders
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server

VERSION: Final = "16"
PER_SECOND: Final = 1200.0
"""About a quarter of what two cores can do."""

PACED: Final = Pace(target_batch_seconds=0.02, rest_fraction=2)
UNPACED: Final = Pace(target_batch_seconds=2)
RECENT: Final = """
CREATE TABLE recent AS
SELECT row_number() OVER () AS n, o_orderkey
FROM (SELECT o_orderkey FROM orders WHERE o_orderdate >= '1997-01-01' LIMIT 10000) AS newest;
ALTER TABLE recent ADD PRIMARY KEY (n);
CREATE SEQUENCE new_orders START 1000000000;
"""


class PostgresTraffic:
    """A server, a store, and orders of which the newest are read and written."""

    def __init__(self, server: PostgresServer, s3: S3Server) -> None:
        self.server = server
        self.s3 = {"key": s3.access_key, "secret": s3.secret_key, "endpoint_url": s3.endpoint_url}

    def run(self) -> None:
        """Let each way to purge take its turn, several rounds."""
        self.load(2 * SCALE)
        ways: dict[str, Callable[[str], Purge] | None] = {
            "no purge": None,
            "ours, paced": lambda dsn: self.ours(dsn, PACED),
            "ours, unpaced": lambda dsn: self.ours(dsn, UNPACED),
            "the usual loop": lambda dsn: lambda seconds: usual_loop(dsn, seconds),
            "one DELETE": lambda dsn: lambda seconds: one_delete(dsn, seconds),
        }
        rounds: dict[str, list[Window]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                rounds[name].append(self.window(way))
        for name, windows in rounds.items():
            tell("pg", name, windows)
        compare_traffic("", rounds, quiet="no purge", paced="ours, paced", unpaced="ours, unpaced")

    def load(self, scale: float) -> None:
        """Make the template that every round copies."""
        dsn = self.server.create_database("template_traffic")
        load_orders(dsn, scale)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(RECENT)
            connection.execute("VACUUM ANALYZE")

    def window(self, way: Callable[[str], Purge] | None, per_second: float = PER_SECOND) -> Window:
        """Watch the traffic on a fresh copy of the data, read once before."""
        dsn = self.server.create_database("round", "template_traffic")
        try:
            purge = way(dsn) if way else None
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("SELECT count(*), sum(length(o_comment)) FROM orders")
                connection.execute("SELECT count(*) FROM recent")
                connection.execute("CHECKPOINT")
            return watch(lambda: Pgbench(dsn, VERSION, per_second), purge, lambda: stale_rows(dsn))
        finally:
            self.server.drop_database("round")

    def ours(self, dsn: str, pace: Pace) -> Purge:
        """Archive and verify beforehand: what is watched is the purge."""
        return Purger({"dsn": dsn}, self.s3, "public.orders", pace).run


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


def on_postgres() -> None:
    """Start a PostgreSQL and a store, and measure."""
    with PostgresServer.start(VERSION, settings=SETTINGS) as server, S3Server.start() as s3:
        PostgresTraffic(server, s3).run()
