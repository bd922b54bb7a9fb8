"""One whole job in a process of its own, so that its peak memory can be told.

Prints one JSON object: seconds per step, rows, and the process's peak resident set in MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

import fsspec
import pendulum
import psycopg

from airflow_dbhygiene.databases.postgres import PostgresDatabase
from airflow_dbhygiene.policy import Guard, OlderThan, Parquet, Policy
from airflow_dbhygiene.policy.moments import Moments, resolve_window
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import make_plan, record_plan
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.stores.parquet import ParquetStore

HALF = "1995-04-19T00:00:00Z"
"""About half of TPC-H's orders are older."""


def orders_policy() -> Policy:
    """Give the policy that archives and purges the older half of the orders."""
    return Policy(
        name="orders",
        conn_id="bench",
        table="public.orders",
        stale=OlderThan("o_orderdate", keep="1 day", zone="UTC"),
        archive=Parquet("s3://bench@cold/orders"),
        guard=Guard(max_rows=100_000_000, max_fraction=0.9, max_chunks=4),
    )


def run_job(dsn: str, s3: dict[str, str]) -> dict[str, Any]:
    """Plan, then archive, verify and purge every chunk, one after the other."""
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True, **s3)
    site = Site(
        PostgresDatabase(lambda: psycopg.connect(dsn)),
        lambda parquet: ParquetStore(filesystem, "cold/orders", url=parquet.url),
        lambda _: None,
    )
    policy = orders_policy()
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    plan = make_plan(site, policy, resolve_window(policy, Moments(explicit=pendulum.parse(HALF))), {"who": "bench"})
    tickets = record_plan(site, plan)
    seconds["plan"] = time.perf_counter() - started
    for step in (archive, verify, purge):
        began = time.perf_counter()
        for ticket in tickets:
            step(site, ticket.run, ticket.chunk)
        seconds[step.__name__] = time.perf_counter() - began
    seconds["total"] = time.perf_counter() - started
    return {"rows": plan.stale_rows, "seconds": seconds, "peak_rss_mb": _peak_rss_mb()}


def _peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Read the addresses from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--s3", required=True, type=json.loads, help="arguments of the file system, as JSON")
    arguments = parser.parse_args()
    print(json.dumps(run_job(arguments.dsn, arguments.s3)))


if __name__ == "__main__":
    main()
