"""What a system test works with: an Airflow, the databases behind its connections, and the store."""

import io
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pyarrow as pa
from pyarrow import parquet as pq

from airflow_dbhygiene.databases.postgres import PostgresDatabase, PostgresSession
from airflow_dbhygiene.ledger import migrate
from tests.servers.airflow import AirflowServer
from tests.servers.airflow_client import AirflowClient
from tests.servers.airflow_records import Backfill, DagRun
from tests.servers.airflow_settings import ConnectionValue
from tests.servers.data import load_flights
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server

EXAMPLES: Final = Path(__file__).parents[2] / "dags"
SCENARIOS: Final = Path(__file__).with_name("scenarios")
ROLE: Final = "hygiene"
# Characters that an URL must escape: the raw and the escaped form are both looked for.
PASSWORD: Final = f"p@ss/w%rd {secrets.token_hex(8)}"
# Connection → database: one of flights for each group of examples, and one for made-up tables.
DATABASES: Final = {"shop_pg": "shop", "month_pg": "month", "more_pg": "more", "lab_pg": "lab"}
STALE: Final = "2020-01-01"


def create_role(server: PostgresServer) -> None:
    """Create the role that Airflow connects as: no superuser, but the owner of its databases."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")


@dataclass(frozen=True)
class Servers:
    """What is behind Airflow's connections. Tests may stop the fragile PostgreSQL: nobody else uses it."""

    postgres: PostgresServer
    fragile: PostgresServer
    s3: S3Server


def connections(servers: Servers) -> dict[str, ConnectionValue]:
    """Return what Airflow knows from its environment, wrong ones included."""
    s3 = servers.s3
    store = {"endpoint_url": s3.endpoint_url, "region_name": s3.region}
    known: dict[str, ConnectionValue] = {
        conn_id: _postgres_connection(servers.postgres, database) for conn_id, database in DATABASES.items()
    }
    return known | {
        "fragile_pg": _postgres_connection(servers.fragile, "fragile"),
        "denied_pg": {**_postgres_connection(servers.postgres, "lab"), "password": "not the password"},
        "cold_store": {"conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": store},
        "denied_store": {"conn_type": "aws", "login": s3.access_key, "password": "not the key", "extra": store},
    }


@dataclass(frozen=True)
class Lab:
    """All servers of the session, in the words of the tests."""

    airflow: AirflowServer
    postgres: PostgresServer
    fragile: PostgresServer
    s3: S3Server
    dags_folder: Path
    notes_folder: Path

    @property
    def client(self) -> AirflowClient:
        """Airflow's API."""
        return self.airflow.client

    @cached_property
    def bucket(self) -> Any:
        """The S3 server's own client."""
        return self.s3.client()

    def create_databases(self) -> None:
        """Create the databases of the connections, the flights loaded in those of the examples."""
        _create_database(self.postgres, "shop")
        load_flights(_dsn(self.postgres, "shop"))
        for name in ("month", "more"):
            _create_database(self.postgres, name, template="shop")
        _create_database(self.postgres, "lab")
        _create_database(self.fragile, "fragile")

    def install_example(self, name: str, conn_id: str) -> None:
        """Copy an example into Airflow's folder, its connection exchanged for one with a database of its own."""
        target = self.dags_folder / name
        if (EXAMPLES / name).is_dir():
            shutil.copytree(EXAMPLES / name, target)
        else:
            shutil.copy(EXAMPLES / name, target)
        for file in target.rglob("*.yaml") if target.is_dir() else [target]:
            file.write_text(file.read_text().replace("shop_pg", conn_id))

    def install_scenario(self, name: str) -> None:
        """Copy a scenario's DAGs into Airflow's folder, with the module that they share."""
        for file in ("staging.py", name):
            shutil.copy(SCENARIOS / file, self.dags_folder)

    def sql(self, statement: str, values: Any = None, *, database: str = "lab") -> list[tuple[Any, ...]]:
        """Run statements as the role that Airflow uses; give the rows of the last one."""
        server = self.fragile if database == "fragile" else self.postgres
        with psycopg.connect(_dsn(server, database), autocommit=True) as connection:
            cursor = connection.execute(statement, values)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def create_events(self, schema: str, stale: int, fresh: int = 100, *, database: str = "lab") -> None:
        """Create `schema`.events with so many rows of 2020 and of now, and children that may point at them."""
        self.sql(
            f"""
            CREATE SCHEMA {schema};
            CREATE TABLE {schema}.events (id bigint PRIMARY KEY, at timestamptz NOT NULL, note text);
            CREATE INDEX ON {schema}.events (at, id);
            CREATE TABLE {schema}.child (id bigint PRIMARY KEY, event bigint REFERENCES {schema}.events);
            CREATE INDEX ON {schema}.child (event);
            INSERT INTO {schema}.events SELECT n, '{STALE}'::timestamptz + n * interval '1 minute', 'note ' || n
            FROM generate_series(1, {stale}) AS n;
            INSERT INTO {schema}.events SELECT {stale} + n, now(), 'fresh' FROM generate_series(1, {fresh}) AS n;
            ANALYZE {schema}.events;
            """,
            database=database,
        )

    def create_ledger(self) -> None:
        """Create the ledger of the made-up tables, before the first run does."""
        with psycopg.connect(_dsn(self.postgres, "lab")) as connection:
            migrate(PostgresDatabase(lambda: connection), PostgresSession(connection))

    def start(self, dag_id: str, **conf: Any) -> str:
        """Start a run that stands for no date; return its id."""
        self.client.unpause(dag_id)
        return self.client.trigger(dag_id, conf=conf)

    def finish(self, dag_id: str, run_id: str, timeout_seconds: float = 120) -> DagRun:
        """Return the run once it is finished."""
        return self.client.wait(dag_id, run_id, timeout_seconds)

    def clear(self, dag_id: str, run_id: str, task: str | tuple[str, int] | None = None) -> None:
        """Queue a task and all behind it anew, as the button of the UI does; without a task, the whole run."""
        tries = sum(self.tries(dag_id, run_id).values())
        self.client.clear(dag_id, run_id, tasks=None if task is None else [task], include_downstream=task is not None)
        # Until a task has begun, a scheduler that is busy may still call the run finished.
        eventually(lambda: sum(self.tries(dag_id, run_id).values()) > tries, "a task that runs again")

    def backfill(self, dag_id: str, first: datetime, last: datetime, **settings: Any) -> list[DagRun]:
        """Run a DAG for past intervals, both bounds included; return the runs once all are finished."""
        created: list[Backfill] = []

        def create() -> bool:
            try:
                created.append(self.client.backfill(dag_id, first, last, **settings))
            except httpx.HTTPStatusError as error:
                # Airflow takes a backfill back when its SQLite file is locked by the scheduler, and asks to try again.
                if error.response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    raise
            return bool(created)

        eventually(create, "a backfill")
        return self.client.wait_backfill(created[0], 240)

    def states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Return the states of all tasks, mapped ones as ``chunk.purge[1]``."""
        return {
            task.task_id if task.map_index < 0 else f"{task.task_id}[{task.map_index}]": task.state
            for task in self.client.task_instances(dag_id, run_id)
        }

    def tries(self, dag_id: str, run_id: str) -> dict[str, int]:
        """Return the number of the latest try of all tasks, keyed as ``states``."""
        return {
            task.task_id if task.map_index < 0 else f"{task.task_id}[{task.map_index}]": task.try_number
            for task in self.client.task_instances(dag_id, run_id)
        }

    def task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Mapping[str, Any]:
        """Return the API's own record of a task, which holds more than the tests' usual one."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        answer: Mapping[str, Any] = self.client.http.get(path if map_index < 0 else f"{path}/{map_index}").json()
        return answer

    def log_so_far(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
        """Return the log of a task's first try, empty before it has one."""
        log = ""

        def look() -> None:
            nonlocal log
            log = self.client.log(dag_id, run_id, task_id, map_index)

        return log if exists(look) else ""

    def fail_task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
        """Mark a task failed, as the button of the UI does."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self.client.http.patch(path if map_index < 0 else f"{path}/{map_index}", json={"new_state": "failed"})

    def end(self, dag_id: str, run_id: str) -> None:
        """Mark a run failed that would not finish by itself."""
        self.client.http.patch(f"dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def pause(self, policy: str) -> None:
        """Make the purges of a policy wait. The ledger must be there."""
        statement = "INSERT INTO dbhygiene.pause (scope, reason, placed_by) VALUES (%s, 'a test', 'lab')"
        self.sql(statement, [_scope(policy)])

    def go_on(self, policy: str) -> None:
        """Let the purges of a policy go on."""
        self.sql("DELETE FROM dbhygiene.pause WHERE scope = %s", [_scope(policy)])

    def chunk_states(self, policy: str) -> list[str]:
        """Return the states of the chunks of a policy's latest run, as the ledger knows them."""
        rows = self.sql(
            "SELECT state FROM dbhygiene.chunk WHERE run_id ="
            " (SELECT run_id FROM dbhygiene.run WHERE policy = %s ORDER BY planned_at DESC LIMIT 1) ORDER BY chunk",
            [policy],
        )
        return [row[0] for row in rows]

    def keys(self, prefix: str) -> list[str]:
        """Return the names of a policy's objects in the store."""
        answer = self.bucket.list_objects_v2(Bucket="cold", Prefix=f"{prefix}/")
        return sorted(entry["Key"] for entry in answer.get("Contents", []) if not entry["Key"].endswith("/"))

    def body(self, key: str) -> bytes:
        """Return an object's bytes."""
        return bytes(self.bucket.get_object(Bucket="cold", Key=key)["Body"].read())

    def archived(self, prefix: str) -> pa.Table:
        """Return all rows that the store holds of a policy, without their notes."""
        objects = [key for key in self.keys(prefix) if key.endswith(".parquet")]
        tables = [pq.read_table(io.BytesIO(self.body(key))).replace_schema_metadata(None) for key in objects]
        return pa.concat_tables(tables)


def eventually(true: Callable[[], Any], what: str, timeout_seconds: float = 60) -> Any:
    """Return the first true answer."""
    deadline = time.monotonic() + timeout_seconds
    while not (answer := true()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_seconds} s: {what}")
        time.sleep(0.2)
    return answer


def exists(look: Callable[[], Any]) -> bool:
    """Tell whether the API finds what is looked for."""
    try:
        look()
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            return False
        raise
    return True


def _scope(policy: str) -> str:
    return f"policy:{policy}"


def _dsn(server: PostgresServer, database: str) -> str:
    return psycopg.conninfo.make_conninfo(
        host=server.host, port=server.port, user=ROLE, password=PASSWORD, dbname=database
    )


def _create_database(server: PostgresServer, name: str, template: str | None = None) -> None:
    server.create_database(name, template)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} OWNER TO {ROLE}")


def _postgres_connection(server: PostgresServer, database: str) -> dict[str, object]:
    return {
        "conn_type": "postgres",
        "host": server.host,
        "port": server.port,
        "login": ROLE,
        "password": PASSWORD,
        "schema": database,
    }
