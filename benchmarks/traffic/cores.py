"""Keeping processes on cores of their own: what is left of a purge's effect then is not a fight for processors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

import psutil

TRAFFIC: Final = (0,)
PURGE: Final = (1,)
ALL: Final = tuple(range(os.cpu_count() or 1))


def keep_on(cores: Iterable[int], pid: int) -> None:
    """Keep a process there, with its threads and with all that it starts from now on."""
    for thread in psutil.Process(pid).threads():
        os.sched_setaffinity(thread.id, cores)
