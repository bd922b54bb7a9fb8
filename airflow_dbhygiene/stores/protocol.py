"""What a store of archives must be able to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet as pq


@dataclass(frozen=True)
class Spooled:
    """A finished object on the local disk, ready to go up. ``bytes`` is its size, ``rows`` its number of rows."""

    path: Path
    rows: int
    bytes: int
    sha256: str


class Store(Protocol):
    """Objects below one URL: written once, read back, never changed."""

    url: str

    def probe(self, name: str) -> None:
        """Fail now, with the fix, if objects cannot be written later."""

    def spool(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, notes: Mapping[str, str]
    ) -> AbstractContextManager[Spooled]:
        """Write batches to a local file of the store's format; the file goes when the context ends."""

    def upload(self, spooled: Spooled, name: str) -> None:
        """Put a spooled object under its name."""

    def fetch(self, name: str, sha256: str, size: int) -> AbstractContextManager[pq.ParquetFile]:
        """Bring an object back whole, and refuse it unless its bytes are those that were written."""

    def write_text(self, name: str, text: str) -> str:
        """Put a small text beside the objects; give its address."""

    def discard(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
