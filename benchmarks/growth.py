"""Does it stay as fast and as small when the table grows? One million rows against twenty; and what a sensor costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import pendulum
import psycopg

from airflow_dbhygiene.policy.moments import Moments, resolve_window
from airflow_dbhygiene.steps.measure import measure
from benchmarks.figures import ROUNDS, SCALE, compare, compare_jobs, timed, write
from benchmarks.job import HALF, orders_policy, site_of
from benchmarks.pgfreezer import freeze
from benchmarks.postgres import STALE, PostgresBench
from benchmarks.processes import our_job
from tests.servers.data import STATEMENTS, load_orders

MILLION: Final = 4_000_000
"""TPC-H leaves out three of four keys: so many hold a million orders."""

SEEN: Final = {"stale_rows": 100_000}


class GrowthBench(PostgresBench):
    """Tables of as many rows as one likes: TPC-H's first million orders, again and again under higher keys."""

    def run(self) -> None:
        """Compare the job's speed and memory, and count beside a sensor."""
        self.prepare()
        small = [self.of(1, self.ours) for _ in range(ROUNDS)]
        large = [self.of(20, self.sensor_and_ours)]
        rates = [statistics.median(job["rows"] / job["seconds"]["total"] for job in jobs) for jobs in (small, large)]
        peaks = [round(max(job["peak_rss_mb"] for job in jobs)) for jobs in (small, large)]
        _tell("growth_rate", rates[1] / rates[0], [round(rate) for rate in rates], "rows per second")
        _tell("growth_memory", peaks[0] / peaks[1], peaks, "MB")

    def seed(self) -> None:
        """Purge half of two million rows by the usual loop, and by our whole job."""
        self.prepare()
        ours, loops = [], []
        for _ in range(ROUNDS):
            ours.append(self.of(2, self.ours))
            loops.append(self.of(2, self.loop))
        compare_jobs("seed_loop", ours, "DELETE … WHERE key IN (SELECT … LIMIT 1000) RETURNING key", loops)

    def freezer(self) -> None:
        """Archive and purge by pg-freezer, and by our whole job with two workers; by the same number of rows."""
        self.prepare()
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(self.of(1, lambda dsn: our_job({"dsn": dsn}, self.s3, "public.orders", workers=2)))
            theirs.append(self.of(1, lambda dsn: ours[-1]["rows"] * self.freeze_row(dsn)))
        compare_jobs("pg_parquet_pgfreezer", ours, "pg-freezer, whole job", theirs)

    def freeze_row(self, dsn: str) -> float:
        """Give pg-freezer's seconds for a row: it takes whole months only, and so a few rows less."""
        self.empty_bucket()
        with psycopg.connect(dsn, autocommit=True) as connection:
            before = _count(connection)
            seconds = freeze(dsn, self.s3)
            return seconds / (before - _count(connection))

    def empty_bucket(self) -> None:
        """Remove all objects: pg-freezer takes a month that it finds there for done."""
        store: Any = self.s3.client()
        for page in store.get_paginator("list_objects_v2").paginate(Bucket=self.s3.bucket):
            for entry in page.get("Contents", []):
                store.delete_object(Bucket=self.s3.bucket, Key=entry["Key"])

    def prepare(self) -> None:
        """Load what all tables are made of."""
        load_orders(self.server.create_database("template_orders"), 1.0)
        with psycopg.connect(self.server.dsn("template_orders"), autocommit=True) as connection:
            connection.execute(f"DELETE FROM orders WHERE o_orderkey > {MILLION * min(SCALE, 1)}")
            connection.execute("VACUUM FULL ANALYZE orders")

    def of(self, millions: int, look: Callable[[str], Any]) -> Any:
        """Look at a table of so many million rows."""
        if millions == 1:
            return self.fresh(look)
        return self.fresh(lambda dsn: look(multiply(dsn, millions)))

    def ours(self, dsn: str) -> dict[str, Any]:
        """Run our whole job, one worker."""
        return our_job({"dsn": dsn}, self.s3, "public.orders")

    def sensor_and_ours(self, dsn: str) -> dict[str, Any]:
        """Count the rows, measure as a sensor does, and run our whole job."""
        site, policy = site_of({"dsn": dsn}, {}), orders_policy("public.orders", "parquet")
        window = resolve_window(policy, Moments(explicit=pendulum.parse(HALF)))
        counts, sensors = [], []
        for _ in range(3):
            with psycopg.connect(dsn) as connection, timed() as seconds:
                connection.execute("SELECT count(*) FROM orders").fetchone()
            counts.append(seconds())
            with timed() as seconds:
                measure(site, policy, window, SEEN)
            sensors.append(seconds())
        compare("sensor_cost", sensors, "count(*)", counts)
        return self.ours(dsn)


def multiply(dsn: str, millions: int) -> str:
    """Write the table again and again, under higher keys, and index it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE orders RENAME TO million")
        connection.execute((STATEMENTS / "orders_table.sql").read_bytes())
        connection.execute(
            "INSERT INTO orders SELECT times.n * %s + o_orderkey, o_custkey, o_orderstatus, o_totalprice, o_orderdate,"
            " o_orderpriority, o_clerk, o_shippriority, o_comment FROM generate_series(0, %s) AS times(n), million",
            (MILLION, millions - 1),
        )
        connection.execute("DROP TABLE million")
        connection.execute((STATEMENTS / "orders_keys.sql").read_bytes())
        connection.execute("VACUUM ANALYZE orders")
        connection.execute("CHECKPOINT")
    time.sleep(1)
    return dsn


def _count(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(f"SELECT count(*) FROM orders WHERE {STALE}").fetchone()
    return int(row[0]) if row else 0


def _tell(name: str, ratio: float, figures: Sequence[float], unit: str) -> None:
    small, large = figures
    print(f"{name:28} {small:,} {unit} at 1 M rows, {large:,} at 20 M, ratio {ratio:.2f}", flush=True)
    write({"name": name, "small": small, "large": large, "unit": unit, "ratio": round(ratio, 3)})
