"""A file on this machine that goes with its process, however that ends: it has no name in any folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_OPEN_FILES: Final = Path("/proc/self/fd")


@contextmanager
def scratch_file() -> Iterator[Path]:
    """Give the path of an empty file in the folder for temporary files, by which this process alone can open it.

    Where the system has no such paths, or forbids them, the file has a name, and a killed process leaves it behind.
    """
    with tempfile.TemporaryFile() as nameless:
        path = _OPEN_FILES / str(nameless.fileno())
        if _can_be_opened(path):
            yield path
            return
    with tempfile.NamedTemporaryFile(prefix="dbhygiene-") as named:
        yield Path(named.name)


def _can_be_opened(path: Path) -> bool:
    try:
        path.open("r+b").close()
    except OSError:
        return False
    return True
