"""pg-freezer, a peer: whole months of a table to Parquet on S3, counted, and deleted. It has an environment of its own.

It archives numeric as double precision. It deletes by time, so that rows which came after the export go unarchived; and
it works on one table at a time, in one process.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.figures import timed
from benchmarks.job import HALF
from tests.servers.cache import build_once, cache_folder
from tests.servers.postgres_programs import uv
from tests.servers.s3 import S3Server

RELEASE: Final = "1.0.8"


def freeze(dsn: str, s3: S3Server) -> float:
    """Let it archive, count and delete all whole months before the cutoff; give the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps(_config(dsn, s3)))  # JSON is YAML
        command = [str(_program()), "run", "--config", str(config)]
        with timed() as seconds:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return seconds()


def _config(dsn: str, s3: S3Server) -> dict[str, object]:
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(HALF)
    store = {"endpoint_url": s3.endpoint_url, "access_key": s3.access_key, "secret_key": s3.secret_key}
    table = {"name": "orders", "schema": "public", "timestamp_column": "o_orderdate"}
    return {
        "database": {"dsn": dsn, "statement_timeout": "600s"},
        "storage": {"protocol": "s3", "bucket": s3.bucket, "path_style": True, **store},
        "tables": [{**table, "partition_by": "monthly", "lag": f"{age.days}d"}],
    }


def _program() -> Path:
    return build_once(cache_folder() / f"pg-freezer-{RELEASE}", _install) / "bin" / "pg-freezer"


def _install(target: Path) -> None:
    subprocess.run([uv(), "venv", "--quiet", "--relocatable", str(target)], check=True)
    python = str(target / "bin" / "python")
    command = [uv(), "pip", "install", "--quiet", "--python", python, f"pg-freezer=={RELEASE}"]
    subprocess.run(command, check=True)
