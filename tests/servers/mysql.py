"""A real MariaDB or MySQL server, started in a second or two and gone when the tests are."""

import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import MySQLdb

from tests.servers.mysql_programs import MARIADB, MYSQL, environment, fresh_data_folder, server_command
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.postgres_programs import hand_over
from tests.servers.process import kill_tree, spawn, terminate, wait_until_ready

USER = "root"

# What a killed server wrote survives in the kernel's memory, so that not even the crash tests need fsync.
FAST: Mapping[str, str] = {
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-doublewrite": "0",
    "innodb-buffer-pool-size": "128M",
    "character-set-server": "utf8mb4",
    "log-bin": "binlog",
    "server-id": "1",
    "binlog-format": "ROW",
    "sync-binlog": "0",
    "secure-file-priv": "",
}
NO_SETTINGS: Mapping[str, str] = {}


@dataclass(frozen=True)
class MySqlConfig:
    """What a server is started with, and again after each restart."""

    flavour: str
    port: int
    data_dir: Path
    settings: Mapping[str, str]
    password: str = field(repr=False)

    def command(self) -> list[str]:
        """Return the command line of the server; it listens on the loopback address alone."""
        fixed = {
            "datadir": str(self.data_dir),
            "port": str(self.port),
            "bind-address": LOOPBACK,
            "socket": str(self.data_dir.with_name("socket")),
            "pid-file": str(self.data_dir.with_name("pid")),
            "init-file": str(self.init_file),
            "tmpdir": str(self.tmp_dir),
        }
        own = {"skip-name-resolve": "1"} if self.flavour == MARIADB else {}
        options = {**FAST, **own, **self.settings, **fixed}
        return [*server_command(self.flavour), *(f"--{name}={value}" for name, value in options.items())]

    @property
    def init_file(self) -> Path:
        """The statements that each start runs: they set the password."""
        return self.data_dir.with_name("init.sql")

    @property
    def tmp_dir(self) -> Path:
        """The server's own folder for temporary tables: a MariaDB that starts removes all that it finds there."""
        return self.data_dir.with_name("tmp")

    @property
    def log(self) -> Path:
        """The file beside the data folder that the server writes to."""
        return self.data_dir.with_name(f"{self.data_dir.name}.log")


class MySqlServer:
    """One server process, the data folder it works on and the password of its root user.

    `start` makes one that runs. Stop and start it by `stop` and `restart`, crash it by `kill`. Leaving the `with`
    block stops it and removes its data.
    """

    host = LOOPBACK
    user = USER
    flavour = MYSQL
    binlog_status = "SHOW BINARY LOG STATUS"
    change_primary = "CHANGE REPLICATION SOURCE TO"
    primary_word = "SOURCE"
    replica_options: tuple[str, ...] = ("GET_SOURCE_PUBLIC_KEY = 1",)

    def __init__(self, config: MySqlConfig, owned: tempfile.TemporaryDirectory[str]) -> None:
        self.config = config
        self._owned = owned
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, *, settings: Mapping[str, str] = NO_SETTINGS) -> Self:
        """Start a server; `settings` go on top of FAST.

        :raises ServerUnavailable: when its programs cannot be had on this machine
        """
        template = fresh_data_folder(cls.flavour)
        owned = tempfile.TemporaryDirectory(prefix="dbhygiene-mysql-", ignore_cleanup_errors=True)
        hand_over(Path(owned.name))
        data_dir = Path(owned.name) / "data"
        # As `cp --archive` keeps the owner, root need not change it file by file.
        subprocess.run(["cp", "--archive", "--reflink=auto", template, data_dir], check=True)
        (data_dir / "auto.cnf").unlink(missing_ok=True)  # or all servers would be one and the same
        config = MySqlConfig(cls.flavour, free_port(), data_dir, dict(settings), secrets.token_hex(16))
        _write_init_file(config)
        config.tmp_dir.mkdir()
        hand_over(config.tmp_dir)
        return cls(config, owned)._started()

    @property
    def port(self) -> int:
        """The TCP port, the same after a restart."""
        return self.config.port

    @property
    def password(self) -> str:
        """The root user's password, random for each server."""
        return self.config.password

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return self.config.data_dir

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        return self.config.log.read_text(errors="replace")

    @property
    def pid(self) -> int | None:
        """The server's process id, None when stopped."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def parameters(self, database: str = "") -> dict[str, Any]:
        """Return what the driver's `connect` takes, password included."""
        return {
            "host": self.host,
            "port": self.port,
            "user": USER,
            "password": self.password,
            "database": database,
            "charset": "utf8mb4",
            "connect_timeout": 5,
        }

    def connect(self, database: str = "") -> Any:
        """Open a connection in which each statement commits by itself."""
        return MySQLdb.connect(**self.parameters(database), autocommit=True)

    def execute(self, statement: str, database: str = "") -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own, and give its rows."""
        with closing(self.connect(database)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def stop(self) -> None:
        """Shut down in order; the data stay for `restart`."""
        if self._process:
            terminate(self._process, signal.SIGTERM)

    def kill(self) -> None:
        """Kill it at once, as a crash would."""
        if self._process:
            kill_tree(self._process)

    def restart(self, *, settings: Mapping[str, str] | None = None) -> None:
        """Start again on the same port and data, after `stop` or `kill` or in place of a running one."""
        self.stop()
        if settings is not None:
            self.config = MySqlConfig(self.flavour, self.port, self.data_dir, dict(settings), self.password)
        self._started()

    def create_database(self, name: str, template: str | None = None) -> dict[str, Any]:
        """Create a database, as a copy of `template`'s tables if one is given, and return how to connect to it."""
        with self._cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
            if template:
                cursor.execute("SET foreign_key_checks = 0, unique_checks = 0")
                cursor.execute(f"USE `{name}`")
                for table in _tables(cursor, template):
                    _copy_table(cursor, template, table)
        return self.parameters(name)

    def drop_database(self, name: str) -> None:
        """Drop a database; sessions that still hold its tables are ended first."""
        with self._cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
            for (session,) in cursor.fetchall():
                _end(cursor, session)
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def start_replica(self) -> Self:
        """Start a server that replicates all that this one writes from now on."""
        replica = self.start(settings={"server-id": "2", "read-only": "1"})
        file, position, *_ = self.execute(self.binlog_status)[0]
        word = self.primary_word
        where = {f"{word}_HOST": self.host, f"{word}_USER": USER, f"{word}_PASSWORD": self.password}
        texts = [f"{name} = '{value}'" for name, value in {**where, f"{word}_LOG_FILE": file}.items()]
        numbers = [f"{word}_PORT = {self.port}", f"{word}_LOG_POS = {position}", *self.replica_options]
        replica.execute(f"{self.change_primary} {', '.join([*texts, *numbers])}")
        replica.execute("START REPLICA")
        return replica

    def close(self) -> None:
        """Stop, and remove the data."""
        self.stop()
        self._owned.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _started(self) -> Self:
        self._process = spawn(
            self.config.command(),
            env=environment(),
            log=self.config.log,
            unprivileged=True,
            stop_signal=signal.SIGKILL,
        )
        wait_until_ready(self._process, self._accepts_connections, log=self.config.log)
        return self

    def _accepts_connections(self) -> bool:
        try:
            self.connect().close()
        except MySQLdb.OperationalError:
            return False
        return True

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        with closing(self.connect()) as connection, closing(connection.cursor()) as cursor:
            yield cursor


class MariaDbServer(MySqlServer):
    """The same, of MariaDB."""

    flavour = MARIADB
    binlog_status = "SHOW MASTER STATUS"
    change_primary = "CHANGE MASTER TO"
    primary_word = "MASTER"
    replica_options = ()


def _write_init_file(config: MySqlConfig) -> None:
    """Let each start set the password, which the ready-made data folder lacks; a statement is one line there."""
    statements = [
        f"CREATE USER IF NOT EXISTS {USER}@'{LOOPBACK}';",
        f"GRANT ALL PRIVILEGES ON *.* TO {USER}@'{LOOPBACK}' WITH GRANT OPTION;",
        *(f"ALTER USER {USER}@'{host}' IDENTIFIED BY '{config.password}';" for host in (LOOPBACK, "localhost")),
    ]
    config.init_file.write_text("\n".join(statements) + "\n")
    config.init_file.chmod(0o600)
    hand_over(config.init_file)


def _tables(cursor: Any, database: str) -> list[str]:
    cursor.execute(f"SHOW FULL TABLES FROM `{database}` WHERE table_type = 'BASE TABLE'")
    return [row[0] for row in cursor.fetchall()]


def _copy_table(cursor: Any, source: str, table: str) -> None:
    cursor.execute(f"SHOW CREATE TABLE `{source}`.`{table}`")
    cursor.execute(cursor.fetchone()[1])
    cursor.execute(f"INSERT INTO `{table}` SELECT * FROM `{source}`.`{table}`")
    cursor.execute(f"ANALYZE TABLE `{table}`")
    cursor.fetchall()


def _end(cursor: Any, session: int) -> None:
    try:
        cursor.execute(f"KILL {int(session)}")
    except MySQLdb.OperationalError as error:
        if error.args[0] != 1094:  # it has ended by itself
            raise
