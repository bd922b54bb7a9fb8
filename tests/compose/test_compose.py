"""docker-compose.yaml says what it should, as far as that can be tried where there is no engine to run it.

Tried: the whole file by Docker's own `compose config`; the databases' scripts on real servers, up to a plan with the
rights that they give; the S3 server's command and check by the same program; Airflow's settings, connections and pools
by a real Airflow; what the image is built from. Not tried: images, networks, health checks inside containers, Celery.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import httpx
import MySQLdb
import pendulum
import psycopg
import pytest
from airflow.configuration import conf
from psycopg.conninfo import make_conninfo

from airflow_dbhygiene.databases.mysql import MySqlDatabase
from airflow_dbhygiene.databases.postgres import PostgresDatabase
from airflow_dbhygiene.policy import Policy
from airflow_dbhygiene.steps.plan import Plan, make_plan
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.stores.parquet import ParquetStore
from tests.job import ORIGIN, window_of
from tests.servers.airflow_settings import child_environment, write_config
from tests.servers.cache import build_once, cache_folder
from tests.servers.mysql import MySqlServer
from tests.servers.postgres import PostgresServer
from tests.servers.postgres_programs import programs
from tests.servers.s3 import S3Server

ROOT = Path(__file__).resolve().parents[2]
ROWS = 262_800
STALE = 24 * 275 * 30  # hours of 2013 before 3 October, thirty flights each


@pytest.fixture(scope="session")
def program() -> Path:
    """Give Docker's compose, which this machine may lack."""
    target = cache_folder() / "compose" / "sid"

    def unpack(folder: Path) -> None:
        subprocess.run([Path(__file__).with_name("unpack_compose"), folder], check=True, capture_output=True)

    try:
        return build_once(target, unpack) / "docker-compose"
    except subprocess.CalledProcessError as error:
        if os.environ.get("REQUIRE_COMPOSE"):
            raise
        pytest.skip(f"NOT TESTED: compose could not be unpacked from Debian's sid: {error.stderr.decode()[-500:]}")


def configured(program: Path, **env: str) -> dict[str, Any]:
    """Let compose read the file, and give what it understood."""
    command = [program, "--file", ROOT / "docker-compose.yaml", "config", "--format", "json"]
    plain = {"PATH": os.defpath, "HOME": "/nonexistent"}
    done = subprocess.run(command, env=plain | env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="session")
def compose(program: Path) -> dict[str, Any]:
    """Give the file as compose understands it, with its defaults."""
    return configured(program)


def test_compose_accepts_the_file(compose: dict[str, Any]) -> None:
    """Everything that the example needs is there; images are pinned, and whoever waits waits for health."""
    services = compose["services"]
    airflow = {"airflow-init", "api-server", "scheduler", "dag-processor", "triggerer", "worker"}
    assert set(services) == airflow | {"metadata", "broker", "shop-pg", "shop-my", "s3"}
    for name, service in services.items():
        assert re.search(r":\d+\.\d+|:local$", service["image"]), name
        assert "healthcheck" in service or name == "airflow-init"
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name
        for on, needs in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if on == "airflow-init" else "service_healthy"
            assert needs["condition"] == expected
    for name in airflow - {"airflow-init"}:
        assert {"source": str(ROOT / "dags"), "target": "/opt/airflow/dags", "read_only": True}.items() <= (
            services[name]["volumes"][0].items()
        )


def test_every_mounted_file_exists(compose: dict[str, Any]) -> None:
    """Docker would make an empty folder of a file that is missing."""
    binds = [volume for service in compose["services"].values() for volume in service.get("volumes", ())]
    sources = [Path(volume["source"]) for volume in binds if volume["type"] == "bind"]
    assert len(sources) > 8
    assert [source for source in sources if not source.exists()] == []


def test_secrets_come_from_the_environment(program: Path) -> None:
    """No default is left where all of them are given."""
    names = re.findall(r"\$\{(\w+):-", (ROOT / "docker-compose.yaml").read_text())
    secret = {name: f"given-{name}" for name in names if not name.endswith("_PORT")}
    assert {"HYGIENE_PASSWORD", "AIRFLOW_JWT_SECRET", "S3_SECRET_KEY", "ADMIN_PASSWORD"} <= set(secret)
    text = json.dumps(configured(program, **secret))
    assert "local use only" not in text
    assert all(value in text for value in secret.values())


def environment(compose: dict[str, Any]) -> dict[str, str]:
    """Give what all Airflow's processes find in their environment."""
    return dict(compose["services"]["scheduler"]["environment"])


def test_airflow_understands_its_settings(compose: dict[str, Any], tmp_path: Path) -> None:
    """Each is an option that Airflow has (Celery's own belong to a provider that is not here), and has its value."""
    settings = {name: value for name, value in environment(compose).items() if name.startswith("AIRFLOW__")}
    known = {
        f"AIRFLOW__{section.upper()}__{option.upper()}"
        for section, options in conf.configuration_description.items()
        for option in options["options"]
    }
    assert {name for name in settings if name not in known and "__CELERY__" not in name} == set()
    told = in_airflow(compose, tmp_path, _SETTINGS)
    assert told["executor"] == "CeleryExecutor"
    assert told["fernet"] == "kept"
    assert told["users"] == ["admin"]


_SETTINGS = """
import json
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.configuration import conf
from airflow.models.crypto import get_fernet
from airflow.sdk import BaseHook
users = [user.username for user in SimpleAuthManager.get_users()]
fernet = get_fernet()
connections = {}
for conn_id in ("shop_pg", "shop_my", "cold_store"):
    found = BaseHook.get_connection(conn_id)
    connections[conn_id] = [found.conn_type, found.host, found.login, found.password, found.schema, found.extra_dejson]
print(json.dumps({
    "executor": conf.get("core", "executor"),
    "fernet": fernet.decrypt(fernet.encrypt(b"kept")).decode(),
    "users": users,
    "connections": connections,
    "dags": [],
}))
"""


def in_airflow(compose: Mapping[str, Any], home: Path, code: str) -> dict[str, Any]:
    """Run code in a process of the installed Airflow, under the settings of the file; give what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(home) | environment(dict(compose)), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_connections_lead_to_the_services(compose: dict[str, Any], tmp_path: Path) -> None:
    """Host, login and password of each connection are those that the service is set up with."""
    services = compose["services"]
    found = in_airflow(compose, tmp_path, _SETTINGS)["connections"]
    password = services["shop-pg"]["environment"]["HYGIENE_PASSWORD"]
    assert found["shop_pg"] == ["postgres", "shop-pg", "hygiene", password, "shop", {}]
    password = services["shop-my"]["environment"]["MYSQL_PASSWORD"]
    assert found["shop_my"] == ["mysql", "shop-my", "hygiene", password, "shop", {}]
    keys = services["s3"]["environment"]
    extra = {"endpoint_url": "http://s3:8333", "region_name": "us-east-1"}
    store = ["aws", None, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], None, extra]
    assert [value or None for value in found["cold_store"]] == store


def test_every_example_finds_its_pool_and_its_connections(compose: dict[str, Any]) -> None:
    """A pool that does not exist keeps its tasks waiting for ever."""
    pools = json.loads((ROOT / "docker/pools.json").read_text())
    texts = "".join(file.read_text() for file in ROOT.glob("dags/**/*") if file.suffix in (".py", ".yaml"))
    databases = set(re.findall(r"\bconn_id(?:=|: )\"?(\w+)", texts))
    stores = set(re.findall(r"s3://(\w+)@", texts))
    assert set(pools) == {f"hygiene_{conn_id}" for conn_id in databases}
    assert {f"AIRFLOW_CONN_{conn_id.upper()}" for conn_id in databases | stores} <= set(environment(compose))


def test_airflow_imports_the_pools(tmp_path: Path) -> None:
    """By the command of the init service."""
    write_config(tmp_path, tmp_path, port=0, parallelism=1, database_url=None)
    env = child_environment(tmp_path)
    code = (
        "import sys; from airflow.__main__ import main; from airflow.utils.db import initdb; initdb();"
        " sys.argv = ['airflow', 'pools', 'import', sys.argv[1]]; main()"
    )
    command = [sys.executable, "-c", code, str(ROOT / "docker/pools.json")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Uploaded 2 pool(s)" in done.stdout


def mounted(compose: dict[str, Any], service: str) -> list[Path]:
    """Give the scripts that an image runs before its server is ready, in their order."""
    volumes = compose["services"][service]["volumes"]
    scripts = [each for each in volumes if each["target"].startswith("/docker-entrypoint-initdb.d/")]
    return [Path(each["source"]) for each in sorted(scripts, key=lambda each: str(each["target"]))]


def plan_of(example: str, database: Any, folder: Path) -> Plan:
    """Plan an example's policy, as of the start of 2014, with a folder in place of its store."""
    found = runpy.run_path(str(ROOT / "dags" / f"{example}.py"))[example]
    assert isinstance(found, Policy)
    site = Site(database, lambda place: ParquetStore(fsspec.filesystem("file"), str(folder), url=place.url))
    return make_plan(site, found, window_of(found, pendulum.datetime(2014, 1, 1)), ORIGIN)


def test_the_postgresql_to_clean(compose: dict[str, Any], postgres: PostgresServer, tmp_path: Path) -> None:
    """Its scripts make flights and a role with whose rights the example is planned."""
    env = compose["services"]["shop-pg"]["environment"]
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS hygiene")
    dsn = postgres.create_database("composed")
    try:
        for script in mounted(compose, "shop-pg"):
            psql = [
                programs(postgres.config.version) / "psql",
                "-v",
                "ON_ERROR_STOP=1",
                "--no-psqlrc",
                "-f",
                script,
                dsn,
            ]
            done = subprocess.run(psql, env={**os.environ, **env}, check=False, capture_output=True, text=True)
            assert done.returncode == 0, f"{script.name}: {done.stderr}"
        role = make_conninfo(dsn, user="hygiene", password=env["HYGIENE_PASSWORD"])
        plan = plan_of("flights", PostgresDatabase(lambda: psycopg.connect(role)), tmp_path)
        assert (plan.facts.row_estimate, plan.stale_rows) == (ROWS, STALE)
    finally:
        postgres.drop_database("composed")
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            admin.execute("DROP ROLE IF EXISTS hygiene")


def test_the_mysql_to_clean(compose: dict[str, Any], any_mysql: MySqlServer, tmp_path: Path) -> None:
    """Its scripts make flights and give the user of the image the rights with which the example is planned."""
    env = compose["services"]["shop-my"]["environment"]
    user, password = env["MYSQL_USER"], env["MYSQL_PASSWORD"]
    client = shutil.which("mariadb") or "mysql"
    any_mysql.drop_database("dbhygiene")
    any_mysql.create_database(env["MYSQL_DATABASE"])
    try:
        any_mysql.execute(f"CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")
        any_mysql.execute(f"GRANT ALL ON {env['MYSQL_DATABASE']}.* TO '{user}'@'%'")
        parameters = any_mysql.parameters(env["MYSQL_DATABASE"])
        for script in mounted(compose, "shop-my"):
            run_script(client, parameters, script)
        mine = {**parameters, "user": user, "password": password}
        plan = plan_of("flights_mysql", MySqlDatabase(lambda: MySQLdb.connect(**mine)), tmp_path)
        assert plan.stale_rows == STALE
        with closing(MySQLdb.connect(**mine)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("SELECT count(*), max(time_hour) FROM flights")
            assert cursor.fetchone()[0] == ROWS
    finally:
        any_mysql.drop_database(env["MYSQL_DATABASE"])
        any_mysql.drop_database("dbhygiene")
        any_mysql.execute(f"DROP USER IF EXISTS '{user}'@'%'")


def run_script(client: str, parameters: Mapping[str, Any], script: Path) -> None:
    """Run a script by the client, as the image does."""
    address = [f"--host={parameters['host']}", f"--port={parameters['port']}", f"--user={parameters['user']}"]
    command = [client, "--no-defaults", "--protocol=tcp", *address, "--comments", parameters["database"]]
    with script.open() as file:
        env = {**os.environ, "MYSQL_PWD": str(parameters["password"])}
        done = subprocess.run(command, stdin=file, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script.name}: {done.stderr}"


class ComposedS3Server(S3Server):
    """The S3 server as the file starts it, but for its address, ports and folder."""

    arguments: tuple[str, ...] = ()
    keys: Mapping[str, str] = {}

    def __init__(self, bucket: str) -> None:
        super().__init__(bucket)
        self.access_key, self.secret_key = self.keys["AWS_ACCESS_KEY_ID"], self.keys["AWS_SECRET_ACCESS_KEY"]

    def _command(self) -> list[str]:
        program, *usual = super()._command()
        here = [each for each in usual if each.startswith(("-dir", "-ip", "-s3.port=", "-master", "-volume", "-filer"))]
        here += [each for each in usual if each.startswith(("-admin.port", "-s3.port."))]
        kept = [each for each in self.arguments if not each.startswith(("-dir", "-ip", "-s3.port"))]
        return [program, *kept, *here]


def test_the_s3_server(compose: dict[str, Any]) -> None:
    """The command makes the bucket, the keys of the connection open it, and others do not."""
    service = compose["services"]["s3"]
    arguments = service["command"] if isinstance(service["command"], list) else shlex.split(service["command"])
    server = type("Server", (ComposedS3Server,), {"arguments": tuple(arguments), "keys": service["environment"]})
    with server.start("cold") as s3:
        assert httpx.get(f"{s3.endpoint_url}/healthz").status_code == 200
        s3.client().put_object(Bucket="cold", Key="a", Body=b"b")
        with pytest.raises(Exception, match="SignatureDoesNotMatch"):
            s3.client(secret_key="another").put_object(Bucket="cold", Key="a", Body=b"b")  # noqa: S106


def test_the_image_is_built_of_files_that_are_enough(tmp_path: Path) -> None:
    """What the Dockerfile copies, and .dockerignore lets through, makes a wheel with everything in it."""
    lines = (ROOT / "docker/Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[2:-1]]
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == let_through
    for name in copied:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    command = [shutil.which("uv") or ROOT / ".cache/uv/bin/uv", "build", "--wheel", "--quiet", "--out-dir", "dist"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = subprocess.run(["unzip", "-Z1", wheel], check=True, capture_output=True, text=True).stdout.split()
    assert {"airflow_dbhygiene/ledger/sql/mysql/0001_first.sql", "airflow_dbhygiene/provider_info.py"} <= set(names)
