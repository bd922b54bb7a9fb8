"""Files in a folder: once one is there, no crash takes it away, or leaves half of it."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path
from typing import Final

from airflow_dbhygiene.errors import StoreUnavailable

_COPY_BYTES: Final = 2**20


def write_durably(source: Path, target: Path) -> None:
    """Copy a file to where it is to be; on return it and its folders are on disk.

    :raises StoreUnavailable: when the unfinished copy was removed meanwhile
    """
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    with source.open("rb") as reading, unfinished.open("xb") as writing:
        shutil.copyfileobj(reading, writing, _COPY_BYTES)
        writing.flush()
        os.fsync(writing.fileno())
    try:
        unfinished.replace(target)
    except FileNotFoundError as error:
        raise StoreUnavailable(f"{target}: a report has removed this upload before it was finished.") from error
    for folder in dict.fromkeys((target.parent, target.parent.parent, *(folder.parent for folder in made))):
        _sync_folder(folder)


def unfinished_of(target: Path) -> list[Path]:
    """Find the copies that killed processes have left of a file."""
    return list(target.parent.glob(f".{glob.escape(target.name)}.*"))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
