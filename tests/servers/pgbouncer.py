"""PgBouncer in transaction mode: each transaction may run on another connection to the server."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import psycopg

from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.servers.postgres_programs import hand_over
from tests.servers.process import spawn, terminate, wait_until_ready

_CONFIG = """
[databases]
* = host={host} port={server_port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
query_wait_timeout = 20
ignore_startup_parameters = extra_float_digits
unix_socket_dir =
"""


class PgBouncer:
    """One process before a server. Leaving the ``with`` block ends it.

    :param connections: to the server, for all clients of a database
    """

    def __init__(self, server: PostgresServer, connections: int = 3) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dbhygiene-pgbouncer-")
        self.port = free_port()
        folder = Path(self._folder.name)
        known = psycopg.conninfo.conninfo_to_dict(server.dsn("postgres"))
        self._user = str(known["user"])
        (folder / "pgbouncer.ini").write_text(
            _CONFIG.format(
                host=known["host"], server_port=known["port"], user=self._user, password=known["password"],
                port=self.port, connections=connections,
            )
        )  # fmt: skip
        hand_over(folder)
        hand_over(folder / "pgbouncer.ini")
        self._process: subprocess.Popen[bytes] = spawn(
            ["pgbouncer", folder / "pgbouncer.ini"], log=folder / "log", env=dict(os.environ), unprivileged=True
        )
        wait_until_ready(self._process, self._answers, log=folder / "log")

    def dsn(self, database: str) -> str:
        """Give the address of a database behind it."""
        return f"postgresql://{self._user}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        terminate(self._process, signal.SIGTERM)
        self._folder.cleanup()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn("postgres"), prepare_threshold=None).close()
        except psycopg.OperationalError:
            return False
        return True
