"""The traffic: clients that start transactions at a steady rate, whether the server keeps up or not.

A transaction's latency counts from the moment at which it should have begun, so that a server that stands still is not
asked less and measured kindly.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.servers.postgres_programs import environment, programs

SCRIPTS: Final = Path(__file__).with_name("scripts")
CONNECTIONS: Final = 8
SHARES: Final = {"read": 7, "update": 2, "insert": 1}


@dataclass(frozen=True)
class Transaction:
    """One transaction of the application: when it ended, in seconds since 1970, and how long it took."""

    ended: float
    milliseconds: float
    failed: bool = False


class Pgbench:
    """pgbench at a rate, with prepared statements."""

    def __init__(self, dsn: str, version: str, per_second: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dbhygiene-traffic-")
        scripts = [f"--file={SCRIPTS / name}.sql@{share}" for name, share in SHARES.items()]
        command = [str(programs(version) / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--client={CONNECTIONS}"]
        command += ["--time=86400", f"--rate={per_second:g}", "--log", f"--log-prefix={self._folder.name}/log"]
        self.process = subprocess.Popen(
            [*command, *scripts, dsn],
            env=environment(programs(version)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def stop(self) -> list[Transaction]:
        """End it, and give all that it did; a connection that gave up counts as a failure."""
        self.process.send_signal(signal.SIGALRM)  # for pgbench its time is over: it writes what it has
        output = self.process.communicate()[0]
        done = [_pgbench_line(line.split()) for file in _logs(self._folder) for line in file.read_text().splitlines()]
        done.sort(key=lambda each: each.ended)
        self._folder.cleanup()
        return done + [Transaction(done[-1].ended, 0, failed=True)] * output.count("aborted")


class Sysbench:
    """sysbench at a rate, with a script that does what pgbench's do."""

    def __init__(self, address: dict[str, Any], per_second: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dbhygiene-traffic-")
        options = {"db-driver": "mysql", "threads": CONNECTIONS, "time": 0, "per-second": per_second / CONNECTIONS}
        options |= {"log-folder": self._folder.name, "mysql-ignore-errors": "all"}
        options |= {f"mysql-{name}": address[name] for name in ("host", "port", "user", "password")}
        options["mysql-db"] = address["database"]
        command = ["sysbench", str(SCRIPTS / "orders.lua"), *(f"--{name}={value}" for name, value in options.items())]
        self.process = subprocess.Popen([*command, "run"], stdout=subprocess.DEVNULL)

    def stop(self) -> list[Transaction]:
        """End it, and give all that it did."""
        self.process.terminate()
        self.process.wait()
        lines = [line.split() for file in _logs(self._folder) for line in file.read_text().splitlines()]
        whole = [[float(word) for word in line] for line in lines if len(line) == 3]  # noqa: PLR2004 - columns
        self._folder.cleanup()
        done = [Transaction(ended, (ended - due) * 1000, failed=bool(failed)) for due, ended, failed in whole]
        return sorted(done, key=lambda each: each.ended)


@contextmanager
def running(client: Pgbench | Sysbench) -> Iterator[list[Transaction]]:
    """Let a client work; the list is filled when it has ended."""
    done: list[Transaction] = []
    try:
        yield done
    finally:
        done += client.stop()


def _logs(folder: tempfile.TemporaryDirectory[str]) -> list[Path]:
    return sorted(Path(folder.name).glob("log*"))


def _pgbench_line(words: list[str]) -> Transaction:
    """Read a line: client, its transaction's number, microseconds, script, and when it ended."""
    failed = not words[2].isdigit()
    return Transaction(int(words[4]) + int(words[5]) / 1e6, 0 if failed else int(words[2]) / 1000, failed)
