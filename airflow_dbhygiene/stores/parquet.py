"""Archives as Parquet objects in any file system that fsspec knows: a local folder, S3, and their like."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq

from airflow_dbhygiene.databases.cold import Outlook
from airflow_dbhygiene.errors import ArchiveDamaged, StoreUnavailable
from airflow_dbhygiene.stores.failures import s3_code, told_when_full, translated
from airflow_dbhygiene.stores.protocol import Spooled
from airflow_dbhygiene.stores.s3 import S3Protection

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Database, Selection
    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.stores.protocol import Archived

NOTES_PREFIX: Final = "dbhygiene."
"""Before the names of our entries in a Parquet file's metadata."""

_COPY_BYTES: Final = 2**20
_ROWS_AT_A_TIME: Final = 50_000
_GROUP_ROWS: Final = 100_000
_GROUP_BYTES: Final = 32 * 2**20


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
        """Give the rows in their order, so many at a time at most."""
        yield from self.file.iter_batches(rows, columns=None if columns is None else list(columns))

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


class ParquetStore:
    """Answers the Store protocol.

    :param filesystem: an fsspec file system
    :param root: the folder, or bucket and prefix, below which objects lie
    :param url: the same, as errors and certificates show it
    :param compression_level: of zstd, 1 to 22
    :param protection: locks and encrypts objects on S3
    """

    def __init__(
        self,
        filesystem: Any,
        root: str,
        *,
        url: str,
        compression_level: int = 1,
        protection: S3Protection | None = None,
    ) -> None:
        self._filesystem = filesystem
        self._protection = protection
        self._root = root.rstrip("/")
        self._local = "file" in _protocols(filesystem)
        self._compression_level = compression_level
        self.url = url.rstrip("/")

    @property
    def beside(self) -> None:
        """No database copies rows into files."""

    @staticmethod
    def outlook(_: Selection) -> Outlook:
        """Files hold any columns: whether they can be written is for ``prepare`` to try."""
        return Outlook()

    def prepare(self, run: Run) -> None:
        """Fail now, with the fix, if objects of a run cannot be written later.

        By its name a retry finds, and removes, what a killed try has left of the probe.
        """
        self.probe(f"_dbhygiene_probe_{run.run_id}")
        if self._protection:
            with self._translated(""):
                self._protection.check()

    @staticmethod
    def named(base: str) -> str:
        """Make an object's name."""
        return f"{base}.parquet"

    def probe(self, name: str) -> None:
        """Write, read and remove a tiny object of that name.

        :raises NotFound: when the bucket does not exist
        :raises PrivilegeMissing: when the credentials do not suffice
        """
        self.write_text(name, "probe")
        with self._translated(name), contextlib.suppress(FileNotFoundError):  # a twin's probe may have removed it
            if self._filesystem.cat_file(self._path(name)) != b"probe":
                raise ArchiveDamaged(f"{self.url} does not give back what was written to it.")
        self.discard(name)

    @contextmanager
    def spool(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, notes: Mapping[str, str]
    ) -> Iterator[Spooled]:
        """Write batches to a local Parquet file; the file goes when the context ends."""
        with spooling(batches, schema, notes, self._compression_level) as spooled:
            yield spooled

    def upload(self, spooled: Spooled, name: str) -> str:
        """Put a spooled object under its name, and wait until it is durable."""
        with self._translated(name):
            if self._local:
                _write_durably(spooled.path, Path(self._path(name)))
            else:
                arguments = self._protection.upload_arguments if self._protection else {}
                self._filesystem.put_file(str(spooled.path), self._path(name), **arguments)
        return spooled.sha256

    @contextmanager
    def fetch(
        self,
        name: str,
        sha256: str,
        size: int,
        *,
        compared: bool = False,  # noqa: ARG002 - files lie in no database
    ) -> Iterator[ParquetObject]:
        """Bring an object back whole, and refuse it unless its bytes are those that were written.

        :raises ArchiveDamaged: when the object is missing, truncated or altered
        """
        with tempfile.TemporaryDirectory(prefix="dbhygiene-") as folder:
            path = Path(folder) / "object.parquet"
            # What only the way here has spoiled comes well at the second time.
            if self._got(path, name, sha256, size) and (fault := self._got(path, name, sha256, size)):
                raise ArchiveDamaged(f"object {self.url}/{name} {fault}: {_RESTORE}")
            with pq.ParquetFile(path) as file:
                yield ParquetObject(file)

    def protect(self, name: str) -> None:
        """Put an object under Object Lock, if there is to be one; again, it begins anew."""
        if self._protection:
            with self._translated(name):
                self._protection.put(self._path(name))

    def unprotected(self, name: str) -> str | None:
        """Say what is wrong with an object's lock."""
        if self._protection is None:
            return None
        with self._translated(name):
            return self._protection.fault(self._path(name))

    def write_text(self, name: str, text: str) -> str:
        """Put a small text beside the objects, in place of what killed tries left of it; give its address."""
        with tempfile.TemporaryDirectory(prefix="dbhygiene-") as folder:
            path = Path(folder) / "text"
            path.write_text(text, encoding="utf-8")
            self.upload(Spooled(path, 0, path.stat().st_size, ""), name)
        for leftover in _unfinished(Path(self._path(name))) if self._local else ():
            leftover.unlink(missing_ok=True)
        return f"{self.url}/{name}"

    def read_text(self, name: str) -> bytes | None:
        """Give back the bytes of a small text, None when it is not there."""
        with self._translated(name):
            try:
                return bytes(self._filesystem.cat_file(self._path(name)))
            except FileNotFoundError as error:
                if not self._has_bucket(error):
                    raise
                return None

    def texts(self) -> Iterator[str]:
        """Name all texts below the URL."""
        with self._translated(""):
            self._filesystem.invalidate_cache()
            start = len(self._root) + 1
            for path in sorted(self._filesystem.find(self._root)):
                if path.endswith(".json"):
                    yield path[start:]

    @staticmethod
    def keeps(_: str) -> bool:
        """Tell that what certificates below this URL name is here: a store may have moved since."""
        return True

    def discard(self, name: str) -> None:
        """Remove an object, and what killed uploads left of it; one that is not there is no error."""
        with self._translated(name):
            for path in (self._path(name), *(_unfinished(Path(self._path(name))) if self._local else ())):
                with contextlib.suppress(FileNotFoundError):
                    self._filesystem.rm_file(str(path))

    def _got(self, path: Path, name: str, sha256: str, size: int) -> str | None:
        """Bring an object to a path, and say what is wrong with it."""
        with self._translated(name):
            try:
                self._filesystem.get_file(self._path(name), str(path))
            except FileNotFoundError as error:
                if not self._has_bucket(error):
                    raise
                raise ArchiveDamaged(f"object {self.url}/{name} is missing: {_RESTORE}") from error
        return _fault(path, sha256, size)

    def _has_bucket(self, missing: FileNotFoundError) -> bool:
        """Tell a wrong URL from a missing object: a folder comes and goes with its objects, a bucket does not.

        S3 says which; to ask for the bucket needs a right more, and an answer.
        """
        if (code := s3_code(missing)) in ("NoSuchKey", "NoSuchBucket"):
            return code == "NoSuchKey"
        return self._local or bool(self._filesystem.exists(self._root.partition("/")[0]))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _translated(self, name: str) -> AbstractContextManager[None]:
        """Let the file system's errors leave as ours."""
        return translated(f"{self.url}/{name}")


@contextmanager
def spooling(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, notes: Mapping[str, str], compression_level: int
) -> Iterator[Spooled]:
    """Write batches to a local Parquet file; the file goes when the context ends."""
    with tempfile.TemporaryDirectory(prefix="dbhygiene-") as folder:
        path = Path(folder) / "object.parquet"
        noted = schema.with_metadata({NOTES_PREFIX + name: value for name, value in notes.items()})
        rows = 0
        with (
            told_when_full(folder),
            pq.ParquetWriter(
                path, noted, compression="zstd", compression_level=compression_level, write_statistics=True
            ) as writer,
        ):
            for group in _row_groups(batches):
                writer.write_table(group, row_group_size=group.num_rows)
                rows += group.num_rows
        yield Spooled(path, rows, path.stat().st_size, _sha256(path))


def fingerprint(database: Database, selection: Selection, archived: Archived) -> str:
    """Read an object's (key, version) pairs back and digest them."""
    pairs = hashlib.sha256()
    for batch in archived.batches(_ROWS_AT_A_TIME, selection.identifying):
        pairs.update(database.encode_keys(selection, pa.Table.from_batches([batch])))
    return pairs.hexdigest()


def spread(total: int, wanted: int) -> Any:
    """Give so many places of so many rows, spread evenly."""
    return np.unique(np.linspace(0, max(total - 1, 0), min(wanted, total), dtype=np.int64))


_RESTORE: Final = (
    "nothing was deleted on its account. Bring back the object as it was (a versioned bucket still has it), or, if no "
    "row of its chunk is purged yet, clear the chunk's archive task to archive it anew."
)


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


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _write_durably(source: Path, target: Path) -> None:
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


def _fault(path: Path, sha256: str, size: int) -> str | None:
    """Say how a file differs from what was written."""
    found = path.stat().st_size
    if found != size:
        return f"has {found} bytes where {size} were written"
    return None if _sha256(path) == sha256 else "is not what was written (SHA-256 differs)"


def _unfinished(target: Path) -> list[Path]:
    return list(target.parent.glob(f".{glob.escape(target.name)}.*"))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
