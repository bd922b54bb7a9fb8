"""MariaDB: our job, and pt-archiver with its fastest safe flags."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.figures import ROUNDS, SCALE, compare, compare_jobs, steps_of, timed
from benchmarks.job import HALF
from benchmarks.processes import our_job, peer_seconds
from tests.servers.data_mysql import load_orders
from tests.servers.mysql import MySqlServer
from tests.servers.s3 import S3Server

SETTINGS = {
    "innodb_buffer_pool_size": "2G",
    "innodb_log_file_size": "2G",
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_doublewrite": "ON",
    "innodb_flush_method": "fsync",
}
STALE = f"o_orderdate < '{HALF[:10]}' - INTERVAL 1 DAY"
FLAGS = ("--limit", "10000", "--commit-each", "--bulk-delete", "--no-check-charset", "--where", STALE)
"""Of pt-archiver: a bulk delete of 10,000 rows per transaction is its fastest."""


class MariaDbBench:
    """A server, a store, and the orders."""

    def __init__(self, server: MySqlServer, s3: S3Server) -> None:
        if shutil.which("pt-archiver") is None:
            sys.exit("pt-archiver is not installed: apt-get install percona-toolkit.")
        self.server = server
        self.s3 = s3

    def job(self) -> None:
        """Archive, verify and purge half of the orders; beside it one DELETE, and pt-archiver."""
        self.server.execute("CREATE DATABASE template_orders")
        load_orders(self.server.parameters("template_orders"), SCALE)
        ours, pairs, deletes, purges, files, discards = [], [], [], [], [], []
        for _ in range(ROUNDS):
            ours.append(self.fresh(lambda address: our_job(address, self.s3, "round.orders")))
            pairs.append(self.fresh(lambda address: our_job(address, self.s3, "round.orders", workers=2)))
            deletes.append(self.fresh(self.one_delete))
            purges.append(self.fresh(lambda _: peer_seconds(self.pt_archiver("--purge"))))
            files.append(self.fresh(self.pt_archiver_file))
            discards.append(self.fresh(lambda address: our_job(address, self.s3, "round.orders", archive="discard")))
        compare_jobs("mariadb_parquet_ptarchiver_1w", ours, "pt-archiver --file", files)
        compare_jobs("mariadb_parquet_ptarchiver_2w", pairs, "pt-archiver --file", files)
        mine = [job["seconds"]["purge"] for job in ours]
        compare("mariadb_purge_ptarchiver", mine, "pt-archiver --purge", purges, rows=ours[0]["rows"])
        compare("mariadb_purge_limit", mine, "one DELETE", deletes, rows=ours[0]["rows"])
        discarded = [job["seconds"]["purge"] for job in discards]
        compare("mariadb_discard_limit", discarded, "one DELETE", deletes, rows=ours[0]["rows"])
        compare("mariadb_discard_ptarchiver", discarded, "pt-archiver --purge", purges, rows=ours[0]["rows"])
        print("  ", steps_of(ours))

    def cold(self) -> None:
        """Archive half of the orders into a cold table of the same server; beside it pt-archiver, which does so too."""
        self.server.execute("CREATE DATABASE template_orders")
        load_orders(self.server.parameters("template_orders"), SCALE)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(self.fresh(lambda address: our_job(address, self.s3, "round.orders", archive="cold")))
            theirs.append(self.fresh(self.pt_archiver_dest))
        compare_jobs("mariadb_cold_ptarchiver", ours, "pt-archiver --dest", theirs)
        print("  ", steps_of(ours))

    def fresh(self, measure: Callable[[dict[str, Any]], Any]) -> Any:
        """Measure on a copy of the data, read once before."""
        address = self.server.create_database("round", "template_orders")
        try:
            self.server.execute("SELECT count(*), sum(length(o_comment)) FROM orders", "round")
            self.server.execute("DROP DATABASE IF EXISTS dbhygiene")
            self.server.drop_database("cold")
            self.server.create_database("cold")
            return measure(address)
        finally:
            self.server.drop_database("round")

    def one_delete(self, _: dict[str, Any]) -> float:
        """Delete the stale rows in one statement."""
        with closing(self.server.connect("round")) as connection, timed() as seconds:
            connection.cursor().execute(f"DELETE FROM orders WHERE {STALE}")
        return seconds()

    def pt_archiver(self, *flags: str) -> list[str]:
        """Write its command line; it walks the primary key."""
        return ["pt-archiver", "--source", self.place("round"), *FLAGS, *flags]

    def place(self, database: str) -> str:
        """Name the orders of a database as pt-archiver does."""
        server = self.server
        return f"h={server.host},P={server.port},u={server.user},p={server.password},D={database},t=orders"

    def pt_archiver_dest(self, _: dict[str, Any]) -> float:
        """Let it load the rows into a table with the same primary key and no other index."""
        self.server.execute("CREATE TABLE cold.orders LIKE round.orders")
        for index in self.server.execute(
            "SHOW INDEX FROM cold.orders WHERE Key_name <> 'PRIMARY' AND Seq_in_index = 1"
        ):
            self.server.execute(f"DROP INDEX `{index[2]}` ON cold.orders")
        return peer_seconds(self.pt_archiver("--dest", self.place("cold"), "--bulk-insert"))

    def pt_archiver_file(self, _: dict[str, Any]) -> float:
        """Let it write the rows to a file before it deletes them."""
        with tempfile.TemporaryDirectory() as folder:
            return peer_seconds(self.pt_archiver("--file", str(Path(folder) / "orders.txt")))
