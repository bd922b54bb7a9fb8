"""``make bench``: ours, a peer and the limit in turn, on the same data; medians and ratios.

``BENCH`` names the parts to run, separated by commas; without it all run but the long ones, and ``BENCH=all`` runs
these too. ``ROUNDS`` and ``SCALE`` (of TPC-H) say how often and on how much. Figures go to build/bench.json, one JSON
object per line; a part that is run again replaces its own. ``ratio`` is the reference's seconds over ours: more is
better.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from typing import Final

from benchmarks import mariadb, postgres
from benchmarks.airflow import AirflowBench
from benchmarks.figures import OUT, ROUNDS, SCALE
from benchmarks.growth import GrowthBench
from benchmarks.traffic.mariadb import MariaDbTraffic
from benchmarks.traffic.postgres import PostgresTraffic
from benchmarks.traffic.saturation import saturate
from tests.servers.mysql import MariaDbServer, MySqlServer
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server


def main() -> None:
    """Run the parts that BENCH names."""
    asked = {"": ",".join(part for part in PARTS if part not in LONG), "all": ",".join(PARTS)}
    named = os.environ.get("BENCH", "")
    wanted = asked.get(named, named).split(",")
    if unknown := set(wanted) - set(PARTS):
        sys.exit(f"BENCH names {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}.")
    OUT.parent.mkdir(exist_ok=True)
    about = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{about}; {ROUNDS} rounds, scale {SCALE:g}")
    for part in wanted:
        PARTS[part]()


def on_postgres(part: Callable[[PostgresServer, S3Server], None]) -> Callable[[], None]:
    """Start a PostgreSQL and a store for a part."""

    def run() -> None:
        with PostgresServer.start("16", settings=postgres.SETTINGS) as server, S3Server.start() as s3:
            part(server, s3)

    return run


def on_mariadb(part: Callable[[MySqlServer, S3Server], None]) -> Callable[[], None]:
    """Start a MariaDB and a store for a part."""

    def run() -> None:
        with MariaDbServer.start(settings=mariadb.SETTINGS) as server, S3Server.start() as s3:
            part(server, s3)

    return run


PARTS: Mapping[str, Callable[[], None]] = {
    "job": on_postgres(lambda server, s3: postgres.PostgresBench(server, s3).job()),
    "cold": on_postgres(lambda server, s3: postgres.PostgresBench(server, s3).cold()),
    "seed_loop": on_postgres(lambda server, s3: GrowthBench(server, s3).seed()),
    "pgfreezer": on_postgres(lambda server, s3: GrowthBench(server, s3).freezer()),
    "mariadb": on_mariadb(lambda server, s3: mariadb.MariaDbBench(server, s3).job()),
    "mariadb_cold": on_mariadb(lambda server, s3: mariadb.MariaDbBench(server, s3).cold()),
    "traffic": on_postgres(lambda server, s3: PostgresTraffic(server, s3).run()),
    "saturation": on_postgres(lambda server, s3: saturate(PostgresTraffic(server, s3))),
    "mariadb_traffic": on_mariadb(lambda server, s3: MariaDbTraffic(server, s3).run()),
    "growth": on_postgres(lambda server, s3: GrowthBench(server, s3).run()),
    "airflow": on_postgres(lambda server, s3: AirflowBench(server, s3).overhead()),
}

LONG: Final = frozenset({"traffic", "mariadb_traffic", "saturation", "growth", "airflow"})
"""Parts that take minutes each, and are run by their name."""

if __name__ == "__main__":
    main()
