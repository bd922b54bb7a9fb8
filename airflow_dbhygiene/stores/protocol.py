"""What a store of archives must be able to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_dbhygiene.databases.cold import Copied, Outlook
    from airflow_dbhygiene.databases.protocol import Database, Selection, Span
    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.stores.sending import Sending


UPLOAD_SECONDS: Final = 3_600
"""How long a store may take for one object before the server ends a transaction that waits for it."""


@dataclass(frozen=True)
class Spooled:
    """A finished object on the local disk, ready to go up. ``bytes`` is its size, ``rows`` its number of rows.

    Parts of it may be ``under_way`` already.
    """

    path: Path
    rows: int
    bytes: int
    sha256: str
    under_way: Sending | None = None


@dataclass(frozen=True)
class Written:
    """What the receipt of an object says of it. ``rows`` is its number of rows, ``bytes`` its size, 0 if unknown.

    ``fingerprint`` digests its (key, version) pairs.
    """

    rows: int
    bytes: int
    sha256: str
    fingerprint: str


class Archived(Protocol):
    """One object, read back. ``notes`` are those that it was written with, ``rows`` is its number of rows."""

    @property
    def notes(self) -> Mapping[str, str]:
        """What the object tells of itself."""

    @property
    def rows(self) -> int:
        """How many rows it holds."""

    @property
    def copied(self) -> Copied | None:
        """Where its rows lie in the database that is cleaned, None when they lie elsewhere."""

    def fingerprint(self, database: Database, selection: Selection) -> str:
        """Digest its (key, version) pairs as the database that is cleaned writes them."""

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Give its rows in their order, so many at a time at most; all columns, or these."""

    def sample(self, rows: int) -> Iterator[pa.Table]:
        """Give so many rows, spread evenly."""


class Beside(Protocol):
    """A store in the database that is cleaned: the server copies rows into it by itself."""

    @property
    def object_rows(self) -> int:
        """How many rows one object holds at most."""

    def copy(  # noqa: PLR0913, PLR0917 - which rows, and what they become
        self, session: Any, run: Run, span: Span, held: str | None, name: str, notes: Mapping[str, str], /
    ) -> Copied:
        """Copy the span's stale rows that are not held into an object of that name, within the caller's transaction.

        That may commit without waiting for the disk: a receipt that lasts commits later.
        """

    def digest(self, session: Any, run: Run, copied: Copied, /) -> Written:
        """Digest what was copied, as it lies there committed."""


class Store(Protocol):
    """Objects below one URL: written once, read back, never changed."""

    url: str

    @property
    def beside(self) -> Beside | None:
        """The store, if it is one that the server copies into by itself."""

    def outlook(self, selection: Selection) -> Outlook:
        """See what stands against the store, and what has to be done before; change nothing."""

    def prepare(self, run: Run) -> None:
        """Fail now, with the fix, if objects of a run cannot be written later."""

    def named(self, base: str) -> str:
        """Make an object's name, which is not in use yet, of what the ledger knows it by."""

    def spool(
        self,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        notes: Mapping[str, str],
        name: str | None = None,
    ) -> AbstractContextManager[Spooled]:
        """Write batches to a local file of the store's format; the file goes when the context ends.

        :param name: under which the first parts of a large one may go up already
        """

    def upload(self, spooled: Spooled, name: str) -> str:
        """Put a spooled object under its name; give the SHA-256 by which it will be known."""

    def fetch(self, name: str, sha256: str, size: int, *, compared: bool = False) -> AbstractContextManager[Archived]:
        """Bring an object back whole, and refuse it unless it is what was written.

        :param compared: rows in the database that is cleaned need no digest: the server will compare each of them
        """

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

    def keeps(self, address: str) -> bool:
        """Tell whether objects of a run that was archived at an address are to be found here."""

    def discard(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
