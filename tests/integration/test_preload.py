"""What is loaded before tasks are forked is what their steps need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.job import STALE_EVENTS, Job
from tests.servers.s3 import S3Server

WHOLE_JOB = """
import sys

import airflow.sdk.execution_time.task_runner
from airflow_dbhygiene import Parquet
from airflow_dbhygiene.preload import preload

sys.argv = sys.argv[1:]
preload()
before = set(sys.modules)

from airflow_dbhygiene.connections import open_site
from tests.job import Job

Job.site = property(lambda job: open_site("shop_pg", lambda line: None))
job = Job("", None)
job.run(job.policy(archive=Parquet("s3://store@cold/preload")))
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
SLOW_TO_LOAD = {
    "airflow_dbhygiene",
    "MySQLdb",
    "adbc_driver_postgresql",
    "botocore",
    "numpy",
    "pandas",
    "psycopg",
    "pyarrow",
    "s3fs",
    "upath",
}


@pytest.mark.rights("all", "Airflow's connection is the administrator's here")
@pytest.mark.parametrize("command", ["scheduler", "celery worker", "triggerer"])
def test_a_task_loads_no_driver_of_its_own(job: Job, s3: S3Server, command: str) -> None:
    """Where tasks are forked all is there before the first one; elsewhere nothing is loaded."""
    place = {"endpoint_url": s3.endpoint_url, "region_name": s3.region}
    store = {"conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": place}
    done = subprocess.run(
        [sys.executable, "-c", WHOLE_JOB, "airflow", *command.split()],
        env={**os.environ, "AIRFLOW_CONN_SHOP_PG": job.dsn, "AIRFLOW_CONN_STORE": json.dumps(store)},
        cwd=Path(__file__).parents[2],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    loaded = set(done.stdout.splitlines()[-1].split()) & SLOW_TO_LOAD
    assert bool(loaded) == (command == "triggerer"), loaded
    assert job.one("SELECT sum(purged) FROM dbhygiene.chunk") == STALE_EVENTS
