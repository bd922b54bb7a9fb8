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

    Where the system has no such paths, the file has a name, and a killed process leaves it behind.
    """
    if not _OPEN_FILES.is_dir():
        with tempfile.NamedTemporaryFile(prefix="dbhygiene-") as named:
            yield Path(named.name)
        return
    with tempfile.TemporaryFile() as nameless:
        yield _OPEN_FILES / str(nameless.fileno())
