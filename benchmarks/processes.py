"""Jobs and peers as processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.figures import timed
from tests.servers.s3 import S3Server


def our_job(
    address: dict[str, Any], s3: S3Server, table: str, workers: int = 1, archive: str = "parquet"
) -> dict[str, Any]:
    """Run our whole job; give its seconds by step, its rows and its peak memory."""
    place = {"key": s3.access_key, "secret": s3.secret_key, "endpoint_url": s3.endpoint_url}
    command = [sys.executable, "-m", "benchmarks.job", "--address", json.dumps(address), "--s3", json.dumps(place)]
    command += ["--table", table, "--workers", str(workers), "--archive", archive]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def peer_seconds(command: list[str]) -> float:
    """Run a peer to its end, and give the seconds."""
    with timed() as seconds:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return seconds()
