"""PostgreSQL: our job, the usual loop, and the limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from benchmarks.figures import ROUNDS, SCALE, compare, compare_jobs, steps_of, timed
from benchmarks.job import HALF
from benchmarks.processes import our_job
from tests.servers.data import load_orders
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "maintenance_work_mem": "256MB",
}
STALE = f"o_orderdate < '{HALF[:10]}'::date - 1"
LOOP = f"DELETE FROM orders WHERE o_orderkey IN (SELECT o_orderkey FROM orders WHERE {STALE} LIMIT 1000)"

COPY = """
SELECT 1::bigint AS object, row_number() OVER () AS ordinal, xmin AS version, now() AS archived_at, 1 AS chunk,
       text 'manual__2026-01-01T00:00:00+00:00' AS run, ctid AS place, * FROM orders
"""
LIKE_COLD = f"CREATE TABLE copied AS {COPY} WITH NO DATA"


class PostgresBench:
    """A server, a store, and the orders."""

    def __init__(self, server: PostgresServer, s3: S3Server) -> None:
        self.server = server
        self.s3 = s3

    def job(self) -> None:
        """Archive, verify and purge half of the orders; beside it the limit."""
        self.load(SCALE)
        ours, pairs, reads, deletes, discards = [], [], [], [], []
        for _ in range(ROUNDS):
            ours.append(self.fresh(lambda dsn: our_job({"dsn": dsn}, self.s3, "public.orders")))
            reads.append(self.fresh(self.copy_out))
            deletes.append(self.fresh(self.one_delete))
            pairs.append(self.fresh(lambda dsn: our_job({"dsn": dsn}, self.s3, "public.orders", workers=2)))
            discards.append(self.fresh(lambda dsn: our_job({"dsn": dsn}, self.s3, "public.orders", archive="discard")))
        limit = [read + delete for read, delete in zip(reads, deletes, strict=True)]
        compare_jobs("pg_parquet_limit_1w", ours, "COPY BINARY out + one DELETE", limit)
        compare_jobs("pg_parquet_limit_2w", pairs, "COPY BINARY out + one DELETE", limit)
        purges = [job["seconds"]["purge"] for job in ours]
        compare("pg_purge_limit", purges, "one DELETE", deletes, rows=ours[0]["rows"])
        discarded = [job["seconds"]["purge"] for job in discards]
        compare("pg_discard_limit", discarded, "one DELETE", deletes, rows=ours[0]["rows"])
        print("  ", steps_of(ours))

    def cold(self) -> None:
        """Archive half of the orders into a cold table of the same database; beside it two plain statements."""
        self.load(SCALE)
        ours, limit = [], []
        for _ in range(ROUNDS):
            ours.append(self.fresh(self.cold_job))
            limit.append(self.fresh(self.copy_and_delete))
        compare_jobs("pg_cold_limit", ours, "one INSERT … SELECT + one DELETE", limit)
        print("  ", steps_of(ours))

    def load(self, scale: float) -> None:
        """Make the template that every round copies."""
        self.server.drop_database("template_orders")
        load_orders(self.server.create_database("template_orders"), scale)
        with psycopg.connect(self.server.dsn("template_orders"), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE orders")

    def fresh(self, measure: Callable[[str], Any]) -> Any:
        """Measure on a copy of the data, after a checkpoint."""
        dsn = self.server.create_database("round", "template_orders")
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("SELECT count(*), sum(length(o_comment)) FROM orders")
                connection.execute("CHECKPOINT")
            return measure(dsn)
        finally:
            self.server.drop_database("round")

    def cold_job(self, dsn: str) -> dict[str, Any]:
        """Run our whole job with a cold table."""
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE SCHEMA cold")
        return our_job({"dsn": dsn}, self.s3, "public.orders", archive="cold")

    def copy_and_delete(self, dsn: str) -> float:
        """Copy the stale rows into a table like the cold one, indexes included, and delete them, in two statements."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(LIKE_COLD)
            connection.execute("ALTER TABLE copied ADD PRIMARY KEY (object, ordinal)")
            connection.execute("CREATE INDEX ON copied (o_orderkey)")
            with timed() as seconds:
                connection.execute(f"INSERT INTO copied {COPY} WHERE {STALE}")
                connection.execute(f"DELETE FROM orders WHERE {STALE}")
        return seconds()

    def copy_out(self, dsn: str) -> float:
        """Read the stale rows in the server's binary form, and throw them away."""
        statement = f"COPY (SELECT * FROM orders WHERE {STALE}) TO STDOUT (FORMAT binary)"
        with psycopg.connect(dsn) as connection, timed() as seconds, connection.cursor().copy(statement) as copy:
            for _ in copy:
                pass
        return seconds()

    def one_delete(self, dsn: str) -> float:
        """Delete them in one statement."""
        with timed() as seconds, psycopg.connect(dsn) as connection:
            connection.execute(f"DELETE FROM orders WHERE {STALE}")
        return seconds()

    def loop(self, dsn: str) -> float:
        """Delete them a thousand at a time, as most people do."""
        with timed() as seconds, psycopg.connect(dsn, autocommit=True) as connection:
            while connection.execute(f"{LOOP} RETURNING o_orderkey").fetchall():
                pass
        return seconds()
