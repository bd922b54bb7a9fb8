"""``make bench``: ours, a peer and the limit in turn, on the same data; medians and ratios.

``BENCH`` names the parts to run, separated by commas: job, memory, airflow. Figures go to build/bench.json, one JSON
object per line. ``ratio`` is the reference's seconds over ours: more is better.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.job import HALF
from tests.servers.airflow import AirflowServer
from tests.servers.data import load_orders
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server

PARTS = ("job", "memory", "airflow")
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SCALE = float(os.environ.get("SCALE", "1"))
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
OUT = Path("build") / "bench.json"


def main() -> None:
    """Run the parts that BENCH names."""
    wanted = [part for part in os.environ.get("BENCH", ",".join(PARTS)).split(",") if part]
    if unknown := set(wanted) - set(PARTS):
        sys.exit(f"BENCH names {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}.")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {ROUNDS} rounds")
    if "job" in wanted or "memory" in wanted:
        with PostgresServer.start("16", settings=SETTINGS) as server, S3Server.start() as s3:
            bench = DatabaseBench(server, s3)
            if "job" in wanted:
                bench.job()
            if "memory" in wanted:
                bench.memory()
    if "airflow" in wanted:
        empty_dag_run()


class DatabaseBench:
    """Parts that need a database and a store."""

    def __init__(self, server: PostgresServer, s3: S3Server) -> None:
        self.server = server
        self.s3 = s3

    def job(self) -> None:
        """Archive, verify and purge half of the orders; beside it the limit, and the usual loop."""
        self.load(SCALE)
        ours: list[dict[str, Any]] = []
        reads, deletes, loops = [], [], []
        for _ in range(ROUNDS):
            ours.append(self.fresh(self.ours))
            reads.append(self.fresh(self.copy_out))
            deletes.append(self.fresh(self.one_delete))
            loops.append(self.fresh(self.loop))
        rows = ours[0]["rows"]
        totals = [each["seconds"]["total"] for each in ours]
        peak = max(each["peak_rss_mb"] for each in ours)
        limit = [read + delete for read, delete in zip(reads, deletes, strict=True)]
        purges = [each["seconds"]["purge"] for each in ours]
        record("pg_parquet_limit_1w", totals, "COPY BINARY out + one DELETE", limit, rows, peak)
        record("pg_purge_limit", purges, "one DELETE", deletes, rows, peak)
        record("seed_loop", totals, "DELETE … WHERE key IN (SELECT … LIMIT 1000)", loops, rows, peak)
        for step in ("plan", "archive", "verify", "purge"):
            print(f"  {step:8} {statistics.median(each['seconds'][step] for each in ours):7.2f} s")

    def memory(self) -> None:
        """Compare the peak memory with that at a tenth of the rows."""
        peaks = {}
        for scale in (SCALE / 4, SCALE * 2.5):
            self.load(scale)
            done = self.fresh(self.ours)
            peaks[scale] = done["peak_rss_mb"]
            print(f"  {done['rows']:,} rows: peak {done['peak_rss_mb']:.0f} MB")
        small, large = peaks.values()
        write({"name": "growth_memory", "ratio": small / large, "small_mb": small, "large_mb": large})

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

    def ours(self, dsn: str) -> dict[str, Any]:
        """Run the whole job in a process of its own."""
        s3 = {"key": self.s3.access_key, "secret": self.s3.secret_key, "endpoint_url": self.s3.endpoint_url}
        command = [sys.executable, "-m", "benchmarks.job", "--dsn", dsn, "--s3", json.dumps(s3)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

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
            while connection.execute(LOOP).rowcount:
                pass
        return seconds()


class timed:  # noqa: N801 - reads as a word behind "with"
    """Give the seconds that its block took."""

    def __enter__(self) -> Callable[[], float]:
        self._started = time.perf_counter()
        return lambda: self._seconds

    def __exit__(self, *error: object) -> None:
        self._seconds = time.perf_counter() - self._started


def empty_dag_run() -> None:
    """Tell what Airflow itself takes for a DAG run of one task that does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        dags = Path(folder) / "dags"
        dags.mkdir()
        (dags / "empty.py").write_text(
            "from airflow.sdk import dag, task\n\n"
            "@dag(schedule=None)\ndef empty():\n    @task\n    def nothing(): pass\n    nothing()\n\nempty()\n"
        )
        with AirflowServer.start(Path(folder) / "home", dags, connections={}) as airflow:
            airflow.client.unpause("empty")
            runs = [_empty_run(airflow) for _ in range(ROUNDS)]
    print(f"empty DAG run   {statistics.median(runs):.2f} s")
    write({"name": "empty_dag_run", "ours_seconds": statistics.median(runs), "rounds": runs})


def _empty_run(airflow: Any) -> float:
    with timed() as seconds:
        airflow.client.wait("empty", airflow.client.trigger("empty"))
    return seconds()


def record(  # noqa: PLR0913, PLR0917 - the fields of a line
    name: str, ours: list[float], reference: str, theirs: list[float], rows: int, peak_rss_mb: float
) -> None:
    """Print a comparison, and write its line."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"{name:22} ours {mine:6.2f} s, {reference} {other:6.2f} s, ratio {ratio:5.2f}, {rows:,} rows")
    write(
        {
            "name": name,
            "ours_seconds": round(mine, 3),
            "reference": reference,
            "reference_seconds": round(other, 3),
            "ratio": round(ratio, 3),
            "rows": rows,
            "peak_rss_mb": round(peak_rss_mb),
        }
    )


def write(line: dict[str, Any]) -> None:
    """Add one JSON object to the file."""
    with OUT.open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
