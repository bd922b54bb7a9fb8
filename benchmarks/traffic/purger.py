"""Our purge of archived chunks, in a process of its own: it connects, waits for a line, and begins."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

import pendulum

from airflow_dbhygiene.policy import Pace
from airflow_dbhygiene.policy.moments import Moments, resolve_window
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import make_plan, record_plan
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.verify import verify
from benchmarks.job import HALF, orders_policy, site_of


class Purger:
    """A run that is archived and verified, and a process that is ready to purge it."""

    def __init__(self, address: dict[str, Any], s3: dict[str, str], table: str, pace: Pace) -> None:
        site, policy = site_of(address, s3), orders_policy(table, "parquet", pace)
        window = resolve_window(policy, Moments(explicit=pendulum.parse(HALF)))
        tickets = record_plan(site, make_plan(site, policy, window, {"who": "bench"}))
        for ticket in tickets:
            archive(site, ticket.run, ticket.chunk)
            verify(site, ticket.run, ticket.chunk)
        chunks = json.dumps([(ticket.run, ticket.chunk) for ticket in tickets])
        command = [sys.executable, "-m", "benchmarks.traffic.purger", "--chunks", chunks]
        command += ["--address", json.dumps(address), "--s3", json.dumps(s3)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        self.process.stdout.readline()

    def run(self, seconds: float) -> None:
        """Purge to the end, or for so many seconds."""
        try:
            self.process.communicate("go\n", timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        else:
            if self.process.returncode:
                raise subprocess.CalledProcessError(self.process.returncode, "benchmarks.traffic.purger")


def main() -> None:
    """Read what to purge from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("address", "s3", "chunks"):
        parser.add_argument(f"--{name}", required=True, type=json.loads)
    arguments = parser.parse_args()
    site = site_of(arguments.address, arguments.s3)
    with site.database.session():
        print("ready", flush=True)
    sys.stdin.readline()
    for run, chunk in arguments.chunks:
        purge(site, run, chunk)


if __name__ == "__main__":
    main()
