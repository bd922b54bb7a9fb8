"""What a store of archives must be able to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_dbhygiene.ledger import Run


@dataclass(frozen=True)
class Spooled:
    """A finished object on the local disk, ready to go up. ``bytes`` is its size, ``rows`` its number of rows."""

    path: Path
    rows: int
    bytes: int
    sha256: str


class Archived(Protocol):
    """One object, read back. ``notes`` are those that it was written with, ``rows`` is its number of rows."""

    @property
    def notes(self) -> Mapping[str, str]:
        """What the object tells of itself."""

    @property
    def rows(self) -> int:
        """How many rows it holds."""

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Give its rows in their order, so many at a time at most; all columns, or these."""

    def sample(self, rows: int) -> Iterator[pa.Table]:
        """Give so many rows, spread evenly."""


class Store(Protocol):
    """Objects below one URL: written once, read back, never changed."""

    url: str

    def prepare(self, run: Run) -> None:
        """Fail now, with the fix, if objects of a run cannot be written later."""

    def named(self, base: str) -> str:
        """Make an object's name, which is not in use yet, of what the ledger knows it by."""

    def spool(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, notes: Mapping[str, str]
    ) -> AbstractContextManager[Spooled]:
        """Write batches to a local file of the store's format; the file goes when the context ends."""

    def upload(self, spooled: Spooled, name: str) -> None:
        """Put a spooled object under its name."""

    def fetch(self, name: str, sha256: str, size: int) -> AbstractContextManager[Archived]:
        """Bring an object back whole, and refuse it unless it is what was written."""

    def protect(self, name: str) -> None:
        """Keep an object from being changed or removed, for as long as the policy asks, if it does."""

    def unprotected(self, name: str) -> str | None:
        """Say what is wrong with an object's protection; None when it is as the policy asks."""

    def write_text(self, name: str, text: str) -> str:
        """Put a small text beside the objects; give its address."""

    def read_text(self, name: str) -> bytes | None:
        """Give back the bytes of such a text, None when it is not there."""

    def texts(self) -> Iterator[str]:
        """Name all such texts below the URL."""

    def discard(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
