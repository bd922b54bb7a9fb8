"""A disk of a few megabytes, to be filled: a tmpfs, which only root may mount."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.postgres_programs import hand_over


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Mount one, for servers and tests alike, and give its folder; it goes when the context ends."""
    if os.getuid() != 0:
        pytest.skip("NOT TESTED: only root can mount a small disk to be filled")
    with tempfile.TemporaryDirectory(prefix="dbhygiene-disk-") as name:
        folder = Path(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
        try:
            hand_over(folder)
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def filled(folder: Path, leave_bytes: int = 0) -> Iterator[None]:
    """Fill the disk below a folder but for so many bytes, and empty it again."""
    filler = folder / "filler"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free - leave_bytes, 1))
    try:
        yield
    finally:
        filler.unlink()
