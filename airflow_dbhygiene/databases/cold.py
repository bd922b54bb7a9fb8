"""What a database must be able to do with cold tables, and the frozen values that pass between it and the stores.

A cold table has the columns of the table that is cleaned, all of them plain, and before these its own: the object that
a row belongs to, its ordinal in its chunk, its version in the table that it came from, when it was archived, chunk and
run. Beside it lies a table of texts, which holds what objects tell of themselves, and certificates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_dbhygiene.policy.names import TableName

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_dbhygiene.databases.protocol import Selection, Span

OBJECT: Final = "dbhygiene_object"
ORDINAL: Final = "dbhygiene_ordinal"
VERSION: Final = "dbhygiene_version"
ARCHIVED_AT: Final = "dbhygiene_archived_at"
CHUNK: Final = "dbhygiene_chunk"
RUN: Final = "dbhygiene_run"
OWN: Final = (OBJECT, ORDINAL, VERSION, ARCHIVED_AT, CHUNK, RUN)
"""A cold table's own columns, in their order."""

TEXTS: Final = "dbhygiene_archive"
"""The table of texts, in the cold table's schema."""


@dataclass(frozen=True)
class Copied:
    """Rows that lie in a cold table: those of one object, by their ordinals in the chunk, ``end`` not included.

    ``writer`` leaves out those that another transaction wrote, where the server tells by a row who did.
    """

    table: TableName
    object: int
    first: int
    end: int
    writer: str | None = None

    @property
    def rows(self) -> int:
        """How many there must be."""
        return self.end - self.first

    def part(self, first: int, end: int) -> Copied:
        """Give those between two ordinals."""
        return replace(self, first=first, end=end)

    @property
    def texts(self) -> TableName:
        """The table of texts beside it."""
        return TableName(self.table.schema, TEXTS)


@dataclass(frozen=True)
class Origin:
    """Which run and chunk rows are archived for."""

    run: str
    chunk: int


@dataclass(frozen=True)
class Outlook:
    """What stands against a cold table, by name; and the statements that would make it, or bring it up to date."""

    refusals: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()


class ColdTables(Protocol):
    """One engine's way with cold tables. Sessions are of the database that holds the cold table."""

    def look(self, session: Any, selection: Selection, table: TableName, /) -> Outlook:
        """See whether the table can hold the rows, and what has to be done before."""

    def change(self, session: Any, statements: Sequence[str], /) -> None:
        """Make the table, or bring it up to date."""

    def copy(  # noqa: PLR0913, PLR0917 - which rows, where, and for whom
        self, session: Any, selection: Selection, span: Span, held: str | None, to: Copied, origin: Origin, /
    ) -> Copied:
        """Copy the span's rows from the table beside, to where ``to`` begins; say where they lie."""

    def load(
        self, session: Any, selection: Selection, batches: Iterable[pa.RecordBatch], to: Copied, origin: Origin, /
    ) -> None:
        """Write rows that come from another server."""

    def end(self, session: Any, copied: Copied, /) -> int:
        """Say where the object ends if none of its rows is missing; where ``copied`` begins when it has none."""

    def count(self, session: Any, copied: Copied, /) -> int:
        """Count the rows that are there."""

    def digest(self, session: Any, selection: Selection, copied: Copied, /, *, fresh: bool = False) -> str:
        """Digest every value of every row; ``fresh`` ones were just copied from the table beside."""

    def read(
        self, selection: Selection, copied: Copied, columns: Sequence[str] | None, /
    ) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """Stream the rows in the order of their ordinals; all columns and the version, or these."""

    def differing(self, session: Any, selection: Selection, copied: Copied, /) -> tuple[int, int]:
        """Compare with the table beside; give how many rows have the same version, and how many of these differ.

        A copy that is missing differs.
        """

    def delete(self, session: Any, selection: Selection, copied: Copied, held: str | None, /) -> int:
        """Delete from the table beside what is stale, not held and identical to its copy, to the bit; count it.

        Where that is not all, rows may be left: the caller rolls back.
        """

    def discard(self, session: Any, copied: Copied, rows: int, /) -> int:
        """Remove so many rows of the object at most; give how many went."""

    def write_text(self, session: Any, texts: TableName, name: str, text: str, /) -> None:
        """Keep a text under a name, in place of any other."""

    def read_text(self, session: Any, texts: TableName, name: str, /) -> str | None:
        """Read it back."""

    def texts(self, session: Any, texts: TableName, /) -> list[str]:
        """Name all texts that end with .json, in their order."""

    def remove_text(self, session: Any, texts: TableName, name: str, /) -> None:
        """Forget it; one that is not there is no error."""
