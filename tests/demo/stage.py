"""The servers that the demo plays on; all of them end with it."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.demo.terminal import Terminal
from tests.servers.airflow import AirflowServer
from tests.servers.airflow_settings import ConnectionValue
from tests.servers.data import load_flights
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server

DAG_FILE = Path(__file__).resolve().parents[2] / "dags" / "flights.py"
POOL_SLOTS = 2


@dataclass(frozen=True)
class Stage:
    """A shop's database with its flights, a bucket for cold data, and an Airflow that knows both."""

    postgres: PostgresServer
    s3: S3Server
    airflow: AirflowServer
    shop: str
    seconds: Mapping[str, float]


@contextmanager
def set_up(terminal: Terminal) -> Iterator[Stage]:
    """Start everything; stop everything at the end, however it comes."""
    with ExitStack() as stack:
        seconds: dict[str, float] = {}
        started = time.monotonic()
        with terminal.step("starting PostgreSQL and an S3 server"):
            postgres = stack.enter_context(PostgresServer.start("embedded"))
            s3 = stack.enter_context(S3Server.start())
            shop = postgres.create_database("shop")
        seconds["servers"] = time.monotonic() - started
        terminal.done(f"PostgreSQL on port {postgres.port}, S3 on port {s3.port}", seconds["servers"])

        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dbhygiene-demo-")))
        loader = stack.enter_context(ThreadPoolExecutor(1))
        started = time.monotonic()
        with terminal.step("starting Airflow, and loading the flights of 2013 meanwhile"):
            loading = loader.submit(_load, shop)
            airflow = stack.enter_context(_start_airflow(home, postgres, s3))
            seconds["load"] = loading.result()
        seconds["airflow"] = time.monotonic() - started
        terminal.done(f"Airflow on {airflow.url}, nycflights13 in PostgreSQL", seconds["airflow"])
        try:
            yield Stage(postgres, s3, airflow, shop, seconds)
        finally:
            terminal.say("… stopping all servers")


def _load(shop: str) -> float:
    started = time.monotonic()
    load_flights(shop)
    return time.monotonic() - started


def _start_airflow(home: Path, postgres: PostgresServer, s3: S3Server) -> AirflowServer:
    dags = home / "dags"
    dags.mkdir()
    shutil.copy(DAG_FILE, dags)
    connections: Mapping[str, ConnectionValue] = {
        "shop_pg": {
            "conn_type": "postgres",
            "host": postgres.host,
            "port": postgres.port,
            "login": postgres.user,
            "password": postgres.password,
            "schema": "shop",
        },
        "cold_store": {
            "conn_type": "aws",
            "login": s3.access_key,
            "password": s3.secret_key,
            "extra": {"endpoint_url": s3.endpoint_url, "region_name": s3.region},
        },
    }
    pools = {"hygiene_shop_pg": POOL_SLOTS}
    return AirflowServer.start(home / "airflow", dags, connections=connections, pools=pools)
