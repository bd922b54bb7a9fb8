"""A real Airflow on this machine: api-server, scheduler, DAG processor and triggerer as processes of their own."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from tests.servers import sessions
from tests.servers.airflow_client import AirflowClient
from tests.servers.airflow_settings import (
    ConnectionValue,
    child_environment,
    write_config,
    write_local_settings,
    write_passwords,
)
from tests.servers.cache import build_once, cache_folder
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.process import spawn

AIRFLOW = (sys.executable, "-P", "-m", "airflow")
# The api-server first: it imports three times as much as the others, and all wait for it.
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": (),
    "scheduler": ("--skip-serve-logs",),
    "dag-processor": (),
    "triggerer": ("--skip-serve-logs",),
}
HEALTH_KEYS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
USERNAMES = ("admin", "viewer")
NONE: Mapping[str, str] = {}
NO_POOLS: Mapping[str, int] = {}


class AirflowServer:
    """One running Airflow. `client` is its administrator; `url` is where a browser finds it.

    Leaving the `with` block stops all its processes and keeps `home`, with the logs.
    """

    def __init__(self, home: Path, port: int, passwords: Mapping[str, str], env: Mapping[str, str]) -> None:
        """Describe a server; `start` makes one that runs."""
        self.home = home
        self.url = f"http://{LOOPBACK}:{port}"
        self.passwords = passwords
        self.env = env
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        home: Path,
        dags_folder: Path,
        *,
        connections: Mapping[str, ConnectionValue],
        pools: Mapping[str, int] = NO_POOLS,
        env: Mapping[str, str] = NONE,
        parallelism: int = 4,
        database_url: str | None = None,
        preload: bool = False,
        timeout_seconds: float = 120,
    ) -> Self:
        """Start Airflow with `home` as its folder and return when all four components are healthy.

        The metadata database is a SQLite file in `home`, unless a `database_url` names an empty PostgreSQL database.
        `env` is for the processes alone; an AIRFLOW__SECTION__OPTION in it overrides the configuration. With `preload`
        all drivers are loaded before tasks are forked.
        """
        port = free_port()
        home.mkdir(parents=True, exist_ok=True)
        write_config(home, dags_folder, port=port, parallelism=parallelism, database_url=database_url)
        if preload:
            write_local_settings(home)
        passwords = write_passwords(home, USERNAMES)
        server = cls(home, port, passwords, child_environment(home, connections, env))
        try:
            server._prepare_database(own_file=database_url is None)
            server._start_components(timeout_seconds)
            for name, slots in pools.items():
                server.client.create_pool(name, slots)
        except BaseException:
            server.stop(timeout_seconds=0)
            raise
        return server

    @cached_property
    def client(self) -> AirflowClient:
        """The administrator's view of the API."""
        return self.login("admin")

    def login(self, username: str) -> AirflowClient:
        """Return the API as "admin" or "viewer" sees it."""
        return AirflowClient(self.url, username, self.passwords[username])

    def log_of(self, component: str) -> Path:
        """Return the file that a component ("scheduler", …) writes to."""
        return self.home / "logs-of" / f"{component}.log"

    def run_cli(self, *arguments: str) -> str:
        """Return what `airflow …` prints, in the environment of the server; it takes some seconds."""
        return _airflow(self.env, *arguments)

    def family(self) -> set[psutil.Process]:
        """Return the components and all that they started.

        A task lives in the session of its component, even as an orphan; what it runs may have one of its own.
        """
        return sessions.members({process.pid for process in self._processes.values()})

    def stop(self, timeout_seconds: float = 3) -> None:
        """Stop all processes: politely first, and by force after the time-out, running tasks included.

        The triggerer would take ten seconds to go by itself.
        """
        family = self.family()
        for process in self._processes.values():
            process.terminate()
        psutil.wait_procs(family, timeout=timeout_seconds)
        sessions.kill(family | self.family())
        for process in self._processes.values():
            process.wait()
        if self._guard is not None:
            self._guard.communicate()
        if "client" in self.__dict__:
            self.client.close()

    def __enter__(self) -> Self:
        """Return the server, which runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def _prepare_database(self, *, own_file: bool) -> None:
        if not own_file:
            _airflow(self.env, "db", "migrate")
        elif not (self.home / "airflow.db").exists():
            shutil.copyfile(_migrated_sqlite_file(), self.home / "airflow.db")

    def _start_components(self, timeout_seconds: float) -> None:
        (self.home / "logs-of").mkdir(exist_ok=True)
        for component, options in COMPONENTS.items():
            command = [*AIRFLOW, component, *options]
            log = self.log_of(component)
            self._processes[component] = spawn(command, log=log, env=self.env, stop_signal=signal.SIGTERM)
        self._guard = self._start_guard()
        deadline = time.monotonic() + timeout_seconds
        while unhealthy := self._unhealthy():
            self._raise_for_deaths()
            if time.monotonic() > deadline:
                message = f"Airflow is not healthy after {timeout_seconds} s: {unhealthy}\n{self._log_tails()}"
                raise TimeoutError(message)
            time.sleep(0.1)

    def _start_guard(self) -> subprocess.Popen[bytes]:
        """Start what kills the server when this process is killed: its scheduler would wait for running tasks."""
        ids = [str(process.pid) for process in self._processes.values()]
        command = [sys.executable, sessions.__file__, *ids]
        return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def _unhealthy(self) -> list[str]:
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
        except httpx.TransportError:
            return ["api-server"]
        return [key for key in HEALTH_KEYS if health[key]["status"] != "healthy"]

    def _raise_for_deaths(self) -> None:
        for component, process in self._processes.items():
            if process.poll() is not None:
                message = f"airflow {component} ended with {process.returncode}:\n{_tail(self.log_of(component))}"
                raise RuntimeError(message)

    def _log_tails(self) -> str:
        return "\n".join(f"--- {component}\n{_tail(self.log_of(component))}" for component in COMPONENTS)


def _airflow(env: Mapping[str, str], *arguments: str) -> str:
    command = [*AIRFLOW, *arguments]
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        message = f"airflow {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        raise RuntimeError(message)
    return done.stdout


def _migrated_sqlite_file() -> Path:
    """Return an empty metadata database of the installed Airflow; migrating one anew takes some seconds."""
    target = cache_folder() / "airflow" / f"metadata-{version('apache-airflow-core')}.db"

    def build(result: Path) -> None:
        home = result.parent
        write_config(home, home, port=0, parallelism=1, database_url=None)
        _airflow(child_environment(home), "db", "migrate")
        (home / "airflow.db").rename(result)

    return build_once(target, build)


def _tail(log: Path, characters: int = 3000) -> str:
    return log.read_text(errors="replace")[-characters:]
