"""All processes of a set of sessions: found however they were orphaned, and gone when whoever guards them is.

Run as a program, it guards the sessions of its arguments: it kills them once its standard input ends, which the kernel
does for a parent that was itself killed.
"""

import os
import sys
from collections.abc import Collection, Iterable

import psutil


def members(sessions: Collection[int]) -> set[psutil.Process]:
    """Return the processes of the sessions, and their descendants that have begun a session of their own."""
    found = [each for each in psutil.process_iter() if _session_of(each.pid) in sessions]
    return {*found, *(child for member in found for child in _descendants(member))}


def kill(processes: Iterable[psutil.Process], *, timeout_seconds: float = 1) -> None:
    """Kill processes and wait for them; one whose parent does not ask after it may stay as a zombie."""
    doomed = list(processes)
    for process in doomed:
        _kill(process)
    psutil.wait_procs(doomed, timeout=timeout_seconds)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    sys.stdin.read()
    kill(members({int(argument) for argument in sys.argv[1:]}))
