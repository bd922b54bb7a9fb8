"""A real PostgreSQL server, started in less than a second and gone when the tests are."""

import secrets
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from tests.servers.ports import LOOPBACK, free_port
from tests.servers.postgres_programs import environment, fresh_data_folder, hand_over, programs
from tests.servers.process import kill_tree, run, spawn, terminate, wait_until_ready

USER = "postgres"

# What a killed server wrote survives in the kernel's memory, so that not even the crash tests need fsync.
# synchronous_commit stays on: without it a killed server forgets commits that it has acknowledged.
FAST: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NO_SETTINGS: Mapping[str, str] = {}


@dataclass(frozen=True)
class PostgresConfig:
    """What a server is started with, and again after each restart."""

    version: str
    port: int
    data_dir: Path
    settings: Mapping[str, str]
    password: str = field(repr=False)

    def command(self) -> list[str]:
        """Return the command line of the server; it listens on the loopback address and on no socket file."""
        fixed = {"port": str(self.port), "listen_addresses": LOOPBACK, "unix_socket_directories": ""}
        options = [f"--{name}={value}" for name, value in {**FAST, **self.settings, **fixed}.items()]
        return [str(programs(self.version) / "postgres"), "-D", str(self.data_dir), *options]

    @property
    def log(self) -> Path:
        """The file beside the data folder that the server writes to."""
        return self.data_dir.with_name(f"{self.data_dir.name}.log")


class PostgresServer:
    """One server process, the data folder it works on and the password of its superuser.

    `start` makes one that runs. Stop and start it by `stop` and `restart`, crash it by `kill`. Leaving the `with`
    block stops it and removes its data, unless the caller brought the folder along.
    """

    host = LOOPBACK
    user = USER

    def __init__(self, config: PostgresConfig, owned: tempfile.TemporaryDirectory[str] | None = None) -> None:
        self.config = config
        self._owned = owned
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls, version: str = "16", *, settings: Mapping[str, str] = NO_SETTINGS, data_dir: Path | None = None
    ) -> Self:
        """Start a server of a major version ("14" to "18") or the "embedded" one of the dev dependencies.

        `settings` go on top of FAST. A `data_dir` is created when missing and kept in the end; one that holds data is
        taken as it is, with a new password.
        """
        owned = None
        if data_dir is None:
            owned = _temporary_folder()
            data_dir = Path(owned.name) / "data"
        config = PostgresConfig(version, free_port(), data_dir, dict(settings), secrets.token_hex(16))
        if not (data_dir / "PG_VERSION").exists():
            _copy_data(fresh_data_folder(version), data_dir)
        _set_password(config)
        return cls(config, owned)._started()

    @property
    def port(self) -> int:
        """The TCP port, the same after a restart."""
        return self.config.port

    @property
    def password(self) -> str:
        """The superuser's password, random for each server."""
        return self.config.password

    @property
    def version(self) -> str:
        """The major version, or "embedded"."""
        return self.config.version

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return self.config.data_dir

    @property
    def programs(self) -> Path:
        """The folder of psql, pg_dump, pg_basebackup and their like."""
        return programs(self.version)

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        return self.config.log.read_text(errors="replace")

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None when stopped."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def dsn(self, dbname: str = "postgres") -> str:
        """Return the libpq URI of a database, password included."""
        return f"postgresql://{USER}:{self.password}@{self.host}:{self.port}/{dbname}"

    def stop(self) -> None:
        """Shut down in order, which cancels sessions; the data stay for `restart`."""
        if self._process:
            terminate(self._process, signal.SIGINT)

    def kill(self) -> None:
        """Kill all its processes at once, as a crash would."""
        if self._process:
            kill_tree(self._process)

    def restart(self, *, settings: Mapping[str, str] | None = None) -> None:
        """Start again on the same port and data, after `stop` or `kill` or in place of a running one."""
        self.stop()
        if settings is not None:
            self.config = PostgresConfig(self.version, self.port, self.data_dir, dict(settings), self.password)
        self._started()

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if one is given, and return its DSN."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            # From 15 on the default writes the whole copy to the log, which takes eight times as long.
            statement += sql.SQL("" if self.version == "14" else " STRATEGY FILE_COPY")
        self._execute(statement)
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database along with the sessions that are still in it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def start_replica(self, *, settings: Mapping[str, str] = NO_SETTINGS) -> Self:
        """Start a streaming replica of this server, as a server of its own."""
        owned = _temporary_folder()
        folder = Path(owned.name) / "data"
        source = f"--dbname={self.dsn('')}"
        command = [str(self.programs / "pg_basebackup"), source, "-D", str(folder), "-R", "-c", "fast", "--no-sync"]
        run(command, env=environment(self.programs))
        config = PostgresConfig(self.version, free_port(), folder, dict(settings), self.password)
        return type(self)(config, owned)._started()

    def close(self) -> None:
        """Stop, and remove the data unless the caller brought the folder along."""
        self.stop()
        if self._owned:
            self._owned.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _started(self) -> Self:
        # SIGQUIT asks the postmaster for an immediate shutdown: nobody is left to wait for a tidy one.
        self._process = spawn(
            self.config.command(),
            env=environment(self.programs),
            log=self.config.log,
            unprivileged=True,
            stop_signal=signal.SIGQUIT,
        )
        wait_until_ready(self._process, self._accepts_connections, log=self.config.log)
        return self

    def _accepts_connections(self) -> bool:
        try:
            psycopg.connect(self.dsn(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(statement)


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="dbhygiene-postgres-", ignore_cleanup_errors=True)
    hand_over(Path(folder.name))
    return folder


def _copy_data(template: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # As `cp --archive` keeps the owner, root need not change it file by file.
    subprocess.run(["cp", "--archive", "--reflink=auto", "--no-target-directory", template, folder], check=True)


def _set_password(config: PostgresConfig) -> None:
    """Set the superuser's password by the single-user mode, the only way into a server whose password is unknown."""
    statement = f"ALTER ROLE {USER} PASSWORD '{config.password}'\n"
    bin_folder = programs(config.version)
    command = [str(bin_folder / "postgres"), "--single", "-D", str(config.data_dir), "-F", "postgres"]
    run(command, env=environment(bin_folder), stdin=statement)
