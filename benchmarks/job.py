"""One whole job in a process of its own, so that its peak memory can be told.

Prints one JSON object: seconds per step, rows, and the peak resident set in MB, of the largest worker where there are
several. With several workers each chunk's steps run in one of them, as Airflow's tasks would.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Sequence
from typing import Any

import fsspec
import pendulum

from airflow_dbhygiene.databases.protocol import Database
from airflow_dbhygiene.policy import ColdTable, Discard, Guard, OlderThan, Pace, Parquet, Policy
from airflow_dbhygiene.policy.moments import Moments, resolve_window
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import make_plan, record_plan
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.stores.cold_table import ColdTableStore
from airflow_dbhygiene.stores.parquet import ParquetStore
from airflow_dbhygiene.stores.protocol import Store

HALF = "1995-04-19T00:00:00Z"
"""About half of TPC-H's orders are older."""

STEPS = {"archive": archive, "verify": verify, "purge": purge}


ARCHIVES = {
    "parquet": Parquet("s3://bench@cold/orders"),
    "cold": ColdTable("cold.orders"),
    "discard": Discard(reason="a benchmark"),
}


def orders_policy(table: str, archive: str, pace: Pace | None = None, *, chunks: int = 4) -> Policy:
    """Give the policy that archives and purges the older half of the orders, in so many chunks."""
    return Policy(
        name="orders",
        conn_id="bench",
        table=table,
        stale=OlderThan("o_orderdate", keep="1 day", zone="UTC"),
        archive=ARCHIVES[archive],
        guard=Guard(max_rows=100_000_000, max_fraction=0.9, max_chunks=chunks),
        pace=pace or Pace(),
    )


def database_of(address: dict[str, Any]) -> Database:
    """Open the database that the address names: a PostgreSQL dsn, or the parameters of a MySQL connection."""
    if "dsn" in address:
        import psycopg  # noqa: PLC0415

        from airflow_dbhygiene.databases.postgres import PostgresDatabase  # noqa: PLC0415

        return PostgresDatabase(lambda: psycopg.connect(address["dsn"]))
    import MySQLdb  # noqa: PLC0415

    from airflow_dbhygiene.databases.mysql import MySqlDatabase  # noqa: PLC0415

    return MySqlDatabase(lambda: MySQLdb.connect(**address))


def site_of(address: dict[str, Any], s3: dict[str, str]) -> Site:
    """Put together what the steps work with."""
    database = database_of(address)
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True, **s3)

    def opened(archive: Parquet | ColdTable) -> Store:
        if isinstance(archive, ColdTable):
            table, rows = archive.table_name, archive.object_rows
            return ColdTableStore(database, database, table, url=archive.address, object_rows=rows)
        return ParquetStore(filesystem, "cold/orders", url=archive.url)

    return Site(database, opened, lambda _: None)


def run_job(
    address: dict[str, Any], s3: dict[str, str], table: str, workers: int, archive: str = "parquet"
) -> dict[str, Any]:
    """Plan as many chunks as there are workers, then archive, verify and purge each."""
    policy = orders_policy(table, archive, chunks=workers)
    site = site_of(address, s3)
    started = time.perf_counter()
    plan = make_plan(site, policy, resolve_window(policy, Moments(explicit=pendulum.parse(HALF))), {"who": "bench"})
    tickets = [(ticket.run, ticket.chunk) for ticket in record_plan(site, plan)]
    seconds = {"plan": time.perf_counter() - started}
    if workers == 1:
        done = [chunk_job(address, s3, tickets)]
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            # What a worker of Airflow's has behind it when its task begins.
            pool.starmap(warm, [(address, s3)] * workers, chunksize=1)
            began = time.perf_counter()
            done = pool.starmap(chunk_job, [(address, s3, [ticket]) for ticket in tickets], chunksize=1)
        seconds["chunks"] = time.perf_counter() - began
    for step in STEPS:
        seconds[step] = sum(each["seconds"][step] for each in done)
    seconds["total"] = seconds["plan"] + seconds.get("chunks", sum(seconds[step] for step in STEPS))
    return {"rows": plan.stale_rows, "seconds": seconds, "peak_rss_mb": max(each["peak_rss_mb"] for each in done)}


def warm(address: dict[str, Any], s3: dict[str, str]) -> None:
    """Import and connect, before the clock starts."""
    with site_of(address, s3).database.session():
        time.sleep(0.5)  # so that no worker takes the turn of another


def chunk_job(address: dict[str, Any], s3: dict[str, str], tickets: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Take chunks through all steps, one step after the other."""
    site = site_of(address, s3)
    seconds = {}
    for name, step in STEPS.items():
        began = time.perf_counter()
        for run, chunk in tickets:
            step(site, run, chunk)
        seconds[name] = time.perf_counter() - began
    return {"seconds": seconds, "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Read the addresses from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, type=json.loads, help="a database, as JSON")
    parser.add_argument("--s3", required=True, type=json.loads, help="arguments of the file system, as JSON")
    parser.add_argument("--table", required=True, help="schema.table of the orders")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--archive", choices=ARCHIVES, default="parquet")
    arguments = parser.parse_args()
    done = run_job(arguments.address, arguments.s3, arguments.table, arguments.workers, arguments.archive)
    print(json.dumps(done))


if __name__ == "__main__":
    main()
