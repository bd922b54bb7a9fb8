"""Airflow's own share: a whole DAG run, less one that does nothing, against the steps alone."""

from __future__ import annotations

import datetime as dt
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.figures import ROUNDS, compare, timed, write
from benchmarks.growth import GrowthBench
from benchmarks.job import HALF
from benchmarks.processes import our_job
from tests.servers.airflow import AirflowServer

WORKERS: Final = 2
EMPTY: Final = """
from airflow.sdk import dag, task

@dag(schedule=None)
def empty():
    @task
    def nothing(): pass
    nothing()

empty()
"""
ORDERS: Final = """
from airflow_dbhygiene import Guard, OlderThan, Parquet, Policy, hygiene_dag

hygiene_dag(Policy(
    name="orders",
    conn_id="bench",
    table="public.orders",
    stale=OlderThan("o_orderdate", keep="{days} days", zone="UTC"),
    archive=Parquet("s3://store@cold/by_airflow"),
    guard=Guard(max_rows=100_000_000, max_fraction=0.9, max_chunks=4),
    reclaim="none",
), retries=0)
"""
"""The policy of ``benchmarks.job``, whose cutoff is now less so many days."""


class AirflowBench(GrowthBench):
    """A real scheduler beside the steps, on twenty million rows."""

    def overhead(self) -> None:
        """Purge ten million rows by the steps alone, and by a DAG."""
        self.prepare()
        alone = self.of(20, lambda dsn: our_job({"dsn": dsn}, self.s3, "public.orders", workers=WORKERS))
        for name, preload in (("airflow_overhead", True), ("airflow_overhead_plain", False)):
            empty, whole = self.of(20, partial(self.dag_runs, preload=preload))
            steps, seconds = [alone["seconds"]["total"]], [whole - empty]
            compare(name, seconds, "the steps alone", steps, rows=alone["rows"], empty_seconds=empty)

    def dag_runs(self, dsn: str, *, preload: bool) -> tuple[float, float]:
        """Give the seconds of an empty DAG run, and of the whole job's.

        :param preload: whether tasks are forked with their drivers loaded
        """
        with tempfile.TemporaryDirectory() as folder:
            dags = Path(folder) / "dags"
            dags.mkdir()
            (dags / "empty.py").write_text(EMPTY)
            days = (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(HALF)).days + 1
            (dags / "orders.py").write_text(ORDERS.format(days=days))
            pools = {"hygiene_bench": WORKERS}
            with AirflowServer.start(
                Path(folder) / "home", dags, connections=self.connections(dsn), pools=pools, preload=preload
            ) as airflow:
                empty = [_run(airflow, "empty") for _ in range(ROUNDS)]
                write({"name": "empty_dag_run", "ours_seconds": statistics.median(empty), "rounds": empty})
                return statistics.median(empty), _run(airflow, "hygiene_orders")

    def connections(self, dsn: str) -> dict[str, Any]:
        """Give what Airflow must know."""
        place = psycopg.conninfo.conninfo_to_dict(dsn)
        store = {"endpoint_url": self.s3.endpoint_url, "region_name": self.s3.region}
        return {
            "bench": {
                "conn_type": "postgres",
                "host": place["host"],
                "port": int(place["port"] or 0),
                "login": place["user"],
                "password": place["password"],
                "schema": place["dbname"],
            },
            "store": {
                "conn_type": "aws",
                "login": self.s3.access_key,
                "password": self.s3.secret_key,
                "extra": store,
            },
        }


def _run(airflow: AirflowServer, dag: str) -> float:
    airflow.client.unpause(dag)
    with timed() as seconds:
        done = airflow.client.wait(dag, airflow.client.trigger(dag), 1800)
    if done.state != "success":
        raise RuntimeError(f"{dag} ended {done.state}")
    return seconds()
