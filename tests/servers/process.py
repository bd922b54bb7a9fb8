"""Server processes: started as an unprivileged user where they must be, and gone when the tests are gone."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

NOBODY = 65534


def run(command: Sequence[str | Path], *, env: Mapping[str, str], stdin: str = "") -> None:
    """Run `command` to its end as a user whom PostgreSQL accepts; its output is in the error when it fails."""
    nobody = None if os.getuid() else NOBODY
    done = subprocess.run(
        command,
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=nobody,
        group=nobody,
        extra_groups=None if nobody is None else [],
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    unprivileged: bool = False,
    stop_signal: signal.Signals = signal.SIGINT,
) -> subprocess.Popen[bytes]:
    """Start a server that writes to `log` and receives `stop_signal` when its parent dies.

    The kernel ties it to the *thread* that calls: start servers from one that lives as long as they shall.
    `setpriv` sets this up rather than a `preexec_fn`, which can deadlock in a parent that has threads.
    """
    tied = ["setpriv", "--pdeathsig", stop_signal.name.removeprefix("SIG"), *command]
    nobody = NOBODY if unprivileged and os.getuid() == 0 else None
    with log.open("ab") as output:
        return subprocess.Popen(
            tied,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd="/",
            # Ctrl-C is for the tests alone: they stop their servers in order.
            start_new_session=True,
            user=nobody,
            group=nobody,
            extra_groups=None if nobody is None else [],
        )


def wait_until_ready(
    process: subprocess.Popen[bytes], probe: Callable[[], bool], *, log: Path, timeout_seconds: float = 30
) -> None:
    """Return as soon as `probe` succeeds; raise with the end of the log when the server dies or takes too long."""
    deadline = time.monotonic() + timeout_seconds
    while not probe():
        if process.poll() is not None or time.monotonic() > deadline:
            state = "is not ready" if process.returncode is None else f"ended with {process.returncode}"
            kill_tree(process)
            raise RuntimeError(f"{process.args!r} {state}; its log ends:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.02)


def terminate(process: subprocess.Popen[bytes], stop_signal: signal.Signals, *, timeout_seconds: float = 30) -> None:
    """Ask the server to stop, and kill it when it does not."""
    if process.poll() is None:
        process.send_signal(stop_signal)
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        kill_tree(process)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill the server and all its children at once, as a crash would."""
    if process.poll() is not None:
        return
    parent = psutil.Process(process.pid)
    # Stopped first, so that it can neither fork nor tidy up while its children die.
    parent.suspend()
    family = [*parent.children(recursive=True), parent]
    for member in family:
        member.kill()
    process.wait()
    while any(map(_still_runs, family)):
        time.sleep(0.005)


def _still_runs(member: psutil.Process) -> bool:
    # Orphans are init's to bury, and it may take its time: a zombie is as good as gone.
    try:
        return member.is_running() and member.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
