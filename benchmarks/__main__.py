"""``make bench``: ours, a peer and the limit in turn, on the same data; medians and ratios.

``BENCH`` names the parts to run, separated by commas; ``ROUNDS`` and ``SCALE`` (of TPC-H) say how often and on how
much. Figures go to build/bench.json, one JSON object per line. ``ratio`` is the reference's seconds over ours: more is
better.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping

from benchmarks import mariadb, postgres
from benchmarks.airflow import empty_dag_run
from benchmarks.figures import OUT, ROUNDS, SCALE
from benchmarks.traffic import mariadb as mariadb_traffic
from benchmarks.traffic import postgres as postgres_traffic
from tests.servers.mysql import MariaDbServer
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server


def main() -> None:
    """Run the parts that BENCH names."""
    wanted = [part for part in os.environ.get("BENCH", ",".join(PARTS)).split(",") if part]
    if unknown := set(wanted) - set(PARTS):
        sys.exit(f"BENCH names {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}.")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("")
    about = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{about}; {ROUNDS} rounds, scale {SCALE:g}")
    for part in wanted:
        PARTS[part]()


def on_postgres(part: Callable[[postgres.PostgresBench], None]) -> Callable[[], None]:
    """Start a PostgreSQL and a store for a part."""

    def run() -> None:
        with PostgresServer.start("16", settings=postgres.SETTINGS) as server, S3Server.start() as s3:
            part(postgres.PostgresBench(server, s3))

    return run


def on_mariadb(part: Callable[[mariadb.MariaDbBench], None]) -> Callable[[], None]:
    """Start a MariaDB and a store for a part."""

    def run() -> None:
        with MariaDbServer.start(settings=mariadb.SETTINGS) as server, S3Server.start() as s3:
            part(mariadb.MariaDbBench(server, s3))

    return run


PARTS: Mapping[str, Callable[[], None]] = {
    "job": on_postgres(postgres.PostgresBench.job),
    "cold": on_postgres(postgres.PostgresBench.cold),
    "memory": on_postgres(postgres.PostgresBench.memory),
    "mariadb": on_mariadb(mariadb.MariaDbBench.job),
    "mariadb_cold": on_mariadb(mariadb.MariaDbBench.cold),
    "traffic": postgres_traffic.on_postgres,
    "mariadb_traffic": mariadb_traffic.on_mariadb,
    "airflow": empty_dag_run,
}

if __name__ == "__main__":
    main()
