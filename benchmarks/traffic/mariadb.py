"""MariaDB under sysbench: ours, paced and not, the usual loop, one big DELETE, and pt-archiver."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Any, Final

import MySQLdb

from airflow_dbhygiene.policy import Pace
from benchmarks.figures import ROUNDS, SCALE
from benchmarks.mariadb import FLAGS, STALE
from benchmarks.traffic.clients import Sysbench
from benchmarks.traffic.purger import Purger
from benchmarks.traffic.windows import Purge, Window, compare_latency, compare_speed, in_turn, tell, watch
from tests.servers.data_mysql import load_orders
from tests.servers.mysql import MySqlServer
from tests.servers.s3 import S3Server

PER_SECOND: Final = 800.0
PACED: Final = Pace(target_batch_seconds=0.03, rest_fraction=1.5)
UNPACED: Final = Pace(target_batch_seconds=2)
RECENT: Final = (
    "CREATE TABLE recent (n int PRIMARY KEY, o_orderkey bigint NOT NULL)",
    (
        "INSERT INTO recent SELECT row_number() OVER (), o_orderkey"
        " FROM (SELECT o_orderkey FROM orders WHERE o_orderdate >= '1997-01-01' LIMIT 10000) AS newest"
    ),
    "CREATE TABLE new_orders (n bigint AUTO_INCREMENT PRIMARY KEY)",
)
LOOP: Final = f"DELETE FROM orders WHERE {STALE} LIMIT 1000"
"""MariaDB knows no LIMIT in the subquery of an IN."""


class MariaDbTraffic:
    """A server, a store, and orders of which the newest are read and written."""

    def __init__(self, server: MySqlServer, s3: S3Server) -> None:
        self.server = server
        self.s3 = {"key": s3.access_key, "secret": s3.secret_key, "endpoint_url": s3.endpoint_url}

    def run(self) -> None:
        """Let each way to purge take its turn, several rounds."""
        load_orders(self.server.create_database("template_traffic"), SCALE)
        for statement in RECENT:
            self.server.execute(statement, "template_traffic")
        ways: dict[str, Callable[[dict[str, Any]], Purge] | None] = {
            "no purge": None,
            "ours, paced": lambda address: self.ours(address, PACED),
            "ours, as by default": lambda address: self.ours(address, Pace()),
            "ours, unpaced": lambda address: self.ours(address, UNPACED),
            "the usual loop": lambda _: self.usual_loop,
            "one DELETE": lambda _: self.one_delete,
            "pt-archiver --purge": lambda _: self.pt_archiver,
        }
        rounds = in_turn({name: partial(self.window, way) for name, way in ways.items()}, ROUNDS)
        for name, windows in rounds.items():
            tell("mariadb", name, windows)
        compare_latency("mariadb_traffic_p99", rounds["no purge"], rounds["ours, paced"])
        compare_latency("mariadb_traffic_p99_default", rounds["no purge"], rounds["ours, as by default"])
        compare_speed("mariadb_traffic_speed", rounds["ours, paced"], rounds["ours, unpaced"])

    def window(self, way: Callable[[dict[str, Any]], Purge] | None) -> Window:
        """Watch the traffic on a fresh copy of the data, which is in memory."""
        address = self.server.create_database("round", "template_traffic")
        try:
            self.server.execute("DROP DATABASE IF EXISTS dbhygiene")
            purge = way(address) if way else None
            self.server.execute("SELECT count(*), sum(length(o_comment)) FROM orders", "round")
            return watch(lambda: Sysbench(address, PER_SECOND), purge, self.stale_rows)
        finally:
            self.server.drop_database("round")

    def ours(self, address: dict[str, Any], pace: Pace) -> Purge:
        """Archive and verify beforehand: what is watched is the purge."""
        return Purger(address, self.s3, "round.orders", pace).run

    def stale_rows(self) -> int:
        """Count the rows that can be purged."""
        return int(self.server.execute(f"SELECT count(*) FROM orders WHERE {STALE}", "round")[0][0])

    def usual_loop(self, seconds: float) -> None:
        """Delete a thousand at a time, as most people do."""
        ends = time.monotonic() + seconds
        with closing(self.server.connect("round")) as connection, closing(connection.cursor()) as cursor:
            while cursor.execute(LOOP) and time.monotonic() < ends:
                pass

    def one_delete(self, seconds: float) -> None:
        """Delete all in one statement, or nothing when it takes too long."""
        with closing(self.server.connect("round")) as connection, suppress(MySQLdb.OperationalError):
            connection.cursor().execute(
                f"SET STATEMENT max_statement_time = {seconds:g} FOR DELETE FROM orders WHERE {STALE}"
            )

    def pt_archiver(self, seconds: float) -> None:
        """Let it purge with its fastest safe flags."""
        server = self.server
        source = f"h={server.host},P={server.port},u={server.user},p={server.password},D=round,t=orders"
        command = ["pt-archiver", "--source", source, *FLAGS, "--purge"]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=seconds)
