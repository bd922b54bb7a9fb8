"""Parquet files on this machine: written before they are uploaded, read after they came back."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq

from airflow_dbhygiene.stores.failures import told_when_full
from airflow_dbhygiene.stores.protocol import Spooled

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Database, Selection
    from airflow_dbhygiene.stores.protocol import Archived

NOTES_PREFIX: Final = "dbhygiene."
"""Before the names of our entries in a Parquet file's metadata."""

_COPY_BYTES: Final = 2**20
_ROWS_AT_A_TIME: Final = 50_000
_GROUP_ROWS: Final = 50_000
_GROUP_BYTES: Final = 32 * 2**20
_SLICE_BYTES: Final = 32 * 2**20
_SAMPLE_ROWS: Final = 5_000

if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
    # The pool of Arrow's own choice keeps 50 to 80 MB more of the same rows, and is no faster.
    pa.set_memory_pool(pa.system_memory_pool())


@dataclass(frozen=True)
class ParquetObject:
    """Answers the Archived protocol."""

    file: pq.ParquetFile

    @property
    def notes(self) -> dict[str, str]:
        """Our entries in the file's metadata."""
        found = {key.decode(): value.decode() for key, value in (self.file.schema_arrow.metadata or {}).items()}
        return {key.removeprefix(NOTES_PREFIX): found[key] for key in found if key.startswith(NOTES_PREFIX)}

    @property
    def rows(self) -> int:
        """How many rows the file holds."""
        return int(self.file.metadata.num_rows)

    @property
    def copied(self) -> None:
        """Its rows do not lie in the database."""

    def fingerprint(self, database: Database, selection: Selection) -> str:
        """Digest the file's (key, version) pairs."""
        return fingerprint(database, selection, self)

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Give the rows in their order, so many at a time at most; whole rows in fewer where they are wide."""
        if columns is not None:
            yield from self.file.iter_batches(rows, columns=list(columns))
            return
        for group in range(self.file.num_row_groups):
            for batch in self.file.iter_batches(rows, row_groups=[group]):
                yield from slices(batch, rows)

    def sample(self, rows: int) -> Iterator[pa.Table]:
        """Give so many rows, spread evenly, row group by row group."""
        wanted = spread(self.rows, rows)
        start = 0
        for group in range(self.file.num_row_groups):
            held = self.file.metadata.row_group(group).num_rows
            here = wanted[(wanted >= start) & (wanted < start + held)] - start
            if len(here):
                yield self.file.read_row_group(group).take(_indices(here))
            start += held


def slices(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """Cut a batch into so many rows at a time at most, and into fewer where these would be too many bytes."""
    wide = max(1, batch.nbytes // max(1, batch.num_rows))
    step = max(1, min(rows, _SLICE_BYTES // wide))
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step)


def write_parquet(  # noqa: PLR0913, PLR0917 - where, what, and how
    path: Path,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    notes: Mapping[str, str],
    compression_level: int,
    grown: Callable[[int], None] = lambda _: None,
) -> Spooled:
    """Write batches to a local Parquet file.

    :param grown: is told the file's size whenever more of it is there to stay
    """
    noted = schema.with_metadata({NOTES_PREFIX + name: value for name, value in notes.items()})
    rows = 0
    with told_when_full(), closing(_written(path, noted, _row_groups(batches), compression_level)) as groups:
        for some in groups:
            rows += some
            grown(path.stat().st_size)
    return Spooled(path, rows, path.stat().st_size, sha256_of(path))


def _written(
    path: Path, schema: pa.Schema, groups: Iterator[pa.Table], compression_level: int
) -> Generator[int, None, None]:
    """Write group after group, and give each one's rows when it is in the file."""
    first = list(itertools.islice(groups, 1))
    settings: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": compression_level,
        "use_dictionary": [name for group in first for name in _repeating(group)],
    }
    with pq.ParquetWriter(path, schema, **settings) as writer:
        for group in itertools.chain(first, groups):
            writer.write_table(group, row_group_size=group.num_rows)
            yield group.num_rows


def _repeating(rows: pa.Table) -> list[str]:
    """Name the columns whose values repeat: of the others the writer would make a dictionary only to throw it away."""
    sample = rows.slice(0, _SAMPLE_ROWS)
    return [name for name in sample.column_names if 2 * len(sample.column(name).unique()) <= sample.num_rows]


def fingerprint(database: Database, selection: Selection, archived: Archived) -> str:
    """Read an object's (key, version) pairs back and digest them."""
    pairs = hashlib.sha256()
    for batch in archived.batches(_ROWS_AT_A_TIME, selection.identifying):
        pairs.update(database.encode_keys(selection, pa.Table.from_batches([batch])))
    return pairs.hexdigest()


def spread(total: int, wanted: int) -> Any:
    """Give so many places of so many rows, spread evenly."""
    return np.unique(np.linspace(0, max(total - 1, 0), min(wanted, total), dtype=np.int64))


def _indices(numbers: Any) -> Any:
    """Give numpy's numbers as Arrow has them. Arrow's own way would load pandas where it is, which takes long."""
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Put batches together until they are worth a row group: few large ones are read faster than many small ones."""
    gathered: list[pa.RecordBatch] = []
    for batch in batches:
        gathered.append(batch)
        if sum(b.num_rows for b in gathered) >= _GROUP_ROWS or sum(b.nbytes for b in gathered) >= _GROUP_BYTES:
            yield pa.Table.from_batches(gathered)
            gathered = []
    if gathered:
        yield pa.Table.from_batches(gathered)


def give_back_memory() -> None:
    """Give the system what an object has left, or object by object more would lie about in pieces."""
    pa.default_memory_pool().release_unused()


def sha256_of(path: Path) -> str:
    """Digest a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
