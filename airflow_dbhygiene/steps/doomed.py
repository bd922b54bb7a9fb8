"""The archived rows that a purge deletes by: read back to here, or lying beside the table in the same database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from airflow_dbhygiene.errors import ArchiveDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_dbhygiene.databases.cold import Copied
    from airflow_dbhygiene.ledger import ObjectReceipt, Run
    from airflow_dbhygiene.steps.site import Site
    from airflow_dbhygiene.stores.protocol import Archived

_ROWS_AT_A_TIME = 50_000


class Doomed(Protocol):
    """Rows of one object, by their ordinals in the chunk."""

    def delete(self, session: Any, ordinals: range, held: str | None, /) -> bool:
        """Delete a whole batch at once; tell whether exactly these rows, as they were archived, went."""

    def keys(self, session: Any, ordinals: Sequence[int], /) -> pa.Table:
        """Give keys and versions of rows, read back from the archive."""


@dataclass(frozen=True)
class ReadBack:
    """Keys and versions of all rows of an object are here."""

    site: Site
    run: Run
    first: int
    table: pa.Table

    def delete(self, session: Any, ordinals: range, held: str | None) -> bool:
        """Let the database compare what it deletes with these keys and versions."""
        rows = self.keys(session, ordinals)
        return self.site.database.delete(session, self.run.selection, rows, held, self.run.server)

    def keys(self, _: Any, ordinals: Sequence[int]) -> pa.Table:
        """Give them as they were read."""
        if isinstance(ordinals, range):
            return self.table.slice(ordinals.start - self.first, len(ordinals))
        return self.table.take(pa.array([ordinal - self.first for ordinal in ordinals], pa.int64()))


@dataclass(frozen=True)
class LyingBeside:
    """The rows lie in a cold table of the same database: the server compares and deletes by itself."""

    site: Site
    run: Run
    name: str
    copied: Copied

    def delete(self, session: Any, ordinals: range, held: str | None) -> bool:
        """Delete what is identical to its copy, to the bit."""
        part = self.copied.part(ordinals.start, ordinals.stop)
        return self.site.database.cold_tables.delete(session, self.run.selection, part, held) == part.rows

    def keys(self, session: Any, ordinals: Sequence[int]) -> pa.Table:
        """Read keys and versions, of copies that still are what was archived.

        :raises ArchiveDamaged: when somebody has changed or removed copies
        """
        part = self.copied.part(min(ordinals), max(ordinals) + 1)
        cold, selection = self.site.database.cold_tables, self.run.selection
        _, differing = cold.differing(session, selection, part)
        if differing or cold.count(session, part) != part.rows:
            message = f"object {self.name}: copies were changed or removed since they were archived; nothing more goes."
            raise ArchiveDamaged(message)
        with cold.read(selection, part, selection.identifying) as batches:
            rows = pa.Table.from_batches(batches)
        return rows.take(pa.array([ordinal - part.first for ordinal in ordinals], pa.int64()))


def doomed(site: Site, run: Run, receipt: ObjectReceipt, archived: Archived) -> Doomed:
    """Take an object's rows for deletion."""
    if archived.copied is not None:
        return LyingBeside(site, run, receipt.name, archived.copied)
    batches = archived.batches(_ROWS_AT_A_TIME, run.selection.identifying)
    return ReadBack(site, run, receipt.first_ordinal, pa.Table.from_batches(batches))
