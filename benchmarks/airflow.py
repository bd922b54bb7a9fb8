"""Airflow's own share: what a DAG run takes that does nothing."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import ROUNDS, timed, write
from tests.servers.airflow import AirflowServer

EMPTY = """
from airflow.sdk import dag, task

@dag(schedule=None)
def empty():
    @task
    def nothing(): pass
    nothing()

empty()
"""


def empty_dag_run() -> None:
    """Tell what Airflow itself takes for a DAG run of one task that does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        dags = Path(folder) / "dags"
        dags.mkdir()
        (dags / "empty.py").write_text(EMPTY)
        with AirflowServer.start(Path(folder) / "home", dags, connections={}) as airflow:
            airflow.client.unpause("empty")
            runs = [_empty_run(airflow) for _ in range(ROUNDS)]
    print(f"empty DAG run   {statistics.median(runs):.2f} s")
    write({"name": "empty_dag_run", "ours_seconds": statistics.median(runs), "rounds": runs})


def _empty_run(airflow: Any) -> float:
    with timed() as seconds:
        airflow.client.wait("empty", airflow.client.trigger("empty"))
    return seconds()
