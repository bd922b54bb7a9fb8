"""Archives as Parquet objects in any file system that fsspec knows: a local folder, S3, and their like."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyarrow import parquet as pq

from airflow_dbhygiene.databases.cold import Outlook
from airflow_dbhygiene.errors import ArchiveDamaged
from airflow_dbhygiene.stores.failures import s3_code, translated
from airflow_dbhygiene.stores.folder import unfinished_of, write_durably
from airflow_dbhygiene.stores.parquet_file import ParquetObject, give_back_memory, sha256_of, write_parquet
from airflow_dbhygiene.stores.protocol import Spooled
from airflow_dbhygiene.stores.s3 import S3Protection, forget_uploads, reaching
from airflow_dbhygiene.stores.scratch import scratch_file
from airflow_dbhygiene.stores.sending import PART_BYTES, PARTS_AT_ONCE, Sending, sending

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Selection
    from airflow_dbhygiene.ledger import Run


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
        self._reached = reaching(filesystem)
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
        with self._translated(name):
            self._remove(name)

    @contextmanager
    def spool(
        self,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        notes: Mapping[str, str],
        name: str | None = None,
    ) -> Iterator[Spooled]:
        """Write batches to a local Parquet file; the file goes when the context ends.

        :param name: under which the first parts of a large one go up to S3 already
        """
        with scratch_file() as path, self._sending(path, name) as under_way:

            def grown(size: int) -> None:
                if under_way is not None:
                    with translated(self.url):  # and nothing waits for the store to be reached
                        under_way.grown(size)

            yield replace(
                write_parquet(path, batches, schema, notes, self._compression_level, grown), under_way=under_way
            )
        give_back_memory()

    def upload(self, spooled: Spooled, name: str) -> str:
        """Put a spooled object under its name, and wait until it is durable."""
        with self._translated(name):
            if spooled.under_way is not None and spooled.under_way.begun:
                spooled.under_way.finish(spooled.bytes)
            elif self._local:
                write_durably(spooled.path, Path(self._path(name)))
            else:
                self._filesystem.put_file(str(spooled.path), self._path(name), **self._upload_arguments(spooled.bytes))
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
        with scratch_file() as path:
            # What only the way here has spoiled comes well at the second time.
            if self._got(path, name, sha256, size) and (fault := self._got(path, name, sha256, size)):
                raise ArchiveDamaged(f"object {self.url}/{name} {fault}: {_RESTORE}")
            with pq.ParquetFile(path) as file:
                yield ParquetObject(file)
        give_back_memory()

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
        with scratch_file() as path:
            path.write_text(text, encoding="utf-8")
            self.upload(Spooled(path, 0, path.stat().st_size, ""), name)
        for leftover in unfinished_of(Path(self._path(name))) if self._local else ():
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
            self._remove(name)
            if "s3" in _protocols(self._filesystem):
                forget_uploads(self._filesystem, self._path(name))

    def _remove(self, name: str) -> None:
        for path in (self._path(name), *(unfinished_of(Path(self._path(name))) if self._local else ())):
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

    def _upload_arguments(self, size: int) -> dict[str, Any]:
        """Upload to S3 in parts that are small in memory: by itself the library takes a hundred megabytes at once."""
        parts = {"chunksize": max(PART_BYTES, size // _MOST_PARTS + 1), "max_concurrency": PARTS_AT_ONCE}
        protection = self._protection.upload_arguments if self._protection else {}
        return {**(parts if "s3" in _protocols(self._filesystem) else {}), **protection}

    def _sending(self, path: Path, name: str | None) -> AbstractContextManager[Sending | None]:
        if name is None or "s3" not in _protocols(self._filesystem):
            return nullcontext()
        arguments = self._protection.upload_arguments if self._protection else {}
        return sending(self._filesystem, path, self._path(name), arguments)

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
        """Let the file system's errors leave as ours, as soon as it is reached."""
        self._reached()
        return translated(f"{self.url}/{name}")


_MOST_PARTS: Final = 10_000
"""S3's own limit."""

_RESTORE: Final = (
    "no more is deleted for it. Bring back the object as it was (a versioned bucket still has it), or, if no "
    "row of its chunk is purged yet, clear the chunk's archive task to archive it anew."
)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _fault(path: Path, sha256: str, size: int) -> str | None:
    """Say how a file differs from what was written."""
    found = path.stat().st_size
    if found != size:
        return f"has {found} bytes where {size} were written"
    return None if sha256_of(path) == sha256 else "is not what was written (SHA-256 differs)"
