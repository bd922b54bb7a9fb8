"""Read ahead: the server prepares the next batch while this thread works on the last one.

It also leaves the main thread free to answer signals while the driver waits for the server.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
_DEPTH = 2
_LOOK_SECONDS = 0.2


@contextmanager
def ahead(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """Run an iterator in a thread of its own, two items ahead; its exception is raised here.

    The thread has ended when the context ends.
    """
    filled: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(_DEPTH)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, filled, stop), name="dbhygiene-ahead", daemon=True)
    thread.start()
    try:
        yield _drain(filled)
    finally:
        stop.set()
        thread.join()


def _fill(
    items: Iterator[Item], filled: queue.Queue[tuple[bool, Item | BaseException | None]], stop: threading.Event
) -> None:
    try:
        for item in items:
            if not _put(filled, (True, item), stop):
                return
        _put(filled, (False, None), stop)
    except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
        _put(filled, (False, error), stop)


def _put(
    filled: queue.Queue[tuple[bool, Item | BaseException | None]],
    entry: tuple[bool, Item | BaseException | None],
    stop: threading.Event,
) -> bool:
    while not stop.is_set():
        try:
            filled.put(entry, timeout=_LOOK_SECONDS)
        except queue.Full:
            continue
        return True
    return False


def _drain(filled: queue.Queue[tuple[bool, Item | BaseException | None]]) -> Iterator[Item]:
    while True:
        more, item = filled.get()
        if isinstance(item, BaseException):
            raise item
        if not more:
            return
        yield item  # type: ignore[misc] - None stands only behind False
