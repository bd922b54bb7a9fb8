"""Read ahead: the server prepares the next batch while this thread works on the last one.

It also leaves the main thread free to answer signals while the driver waits for the server.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
_DEPTH = 2
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class _End:
    """What the reading thread leaves behind when it is done, and why."""

    error: BaseException | None = None


@contextmanager
def ahead(items: Generator[Item, None, None]) -> Iterator[Iterator[Item]]:
    """Run a generator in a thread of its own, two items ahead; its exception is raised here.

    The thread has ended, and the generator is closed, when the context ends.
    """
    filled: queue.Queue[Item | _End] = queue.Queue(_DEPTH)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, filled, stop), name="dbhygiene-ahead", daemon=True)
    thread.start()
    try:
        yield _drain(filled)
    finally:
        stop.set()
        thread.join()


def _fill(items: Generator[Item, None, None], filled: queue.Queue[Item | _End], stop: threading.Event) -> None:
    try:
        with contextlib.closing(items):  # its own contexts end in this thread
            for item in items:
                if not _put(filled, item, stop):
                    return
    except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
        _put(filled, _End(error), stop)
    else:
        _put(filled, _End(), stop)


def _put(filled: queue.Queue[Item | _End], entry: Item | _End, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            filled.put(entry, timeout=_LOOK_SECONDS)
        except queue.Full:
            continue
        return True
    return False


def _drain(filled: queue.Queue[Item | _End]) -> Iterator[Item]:
    while not isinstance(entry := filled.get(), _End):
        yield entry
    if entry.error is not None:
        raise entry.error
