"""A large object goes to S3 in parts while its file is still written: what is in the file of a Parquet writer stays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

PART_BYTES: Final = 8 * 2**20
PARTS_AT_ONCE: Final = 4
_OF_ONE_SIZE: Final = 1_000
"""So many parts are of one size, the next so many of one more of it: S3 takes 10,000 parts."""

_LAST_WORD_SECONDS: Final = 2.0
"""A task that was told to stop has five seconds."""


class Sending:
    """An object on its way. What goes wrong leaves as the file system's own error.

    While the file grows nothing waits for S3: the rows come from a snapshot, which a slow store must not hold open.

    :param filesystem: s3fs's
    :param path: the file, which may still grow
    :param place: the object's path in the file system
    :param arguments: how S3 is to keep the object
    """

    def __init__(self, filesystem: Any, path: Path, place: str, arguments: dict[str, str]) -> None:
        bucket, key, _ = filesystem.split_path(place)
        self._filesystem = filesystem
        self._path = path
        self._place = {"Bucket": bucket, "Key": key}
        self._arguments = arguments
        self._upload: Future[dict[str, Any]] | None = None
        self._parts: list[Future[dict[str, Any]]] = []
        self._sent = 0

    @property
    def begun(self) -> bool:
        """Whether anything is under way."""
        return self._upload is not None

    def grown(self, size: int) -> None:
        """Send the parts that are complete, as many at once as may be: behind them comes the file's end at least.

        What went wrong is told as soon as it is known.
        """
        if self._upload is None:
            if size >= self._part_bytes:
                self._upload = self._ask("create_multipart_upload", {}, **self._arguments)
            return
        for asked in (self._upload, *self._parts):
            if asked.done():
                asked.result()
        while self._upload.done() and self._under_way < PARTS_AT_ONCE and size - self._sent >= self._part_bytes:
            self._send(self._upload.result(), self._part_bytes)

    def finish(self, size: int) -> None:
        """Send the rest of the file, which has that size, and put the parts together."""
        assert self._upload is not None  # noqa: S101 - or it would not be asked
        upload = self._upload.result()
        while self._sent < size:
            if self._under_way >= PARTS_AT_ONCE:
                self._parts[-PARTS_AT_ONCE].result()
            self._send(upload, min(self._part_bytes, size - self._sent))
        parts = [{"PartNumber": n, "ETag": part.result()["ETag"]} for n, part in enumerate(self._parts, start=1)]
        self._ask("complete_multipart_upload", upload, MultipartUpload={"Parts": parts}).result()
        self._upload = None

    def give_up(self) -> None:
        """Let S3 forget the parts, if they have not become an object; what it does not hear in time, it keeps."""
        if self._upload is None:
            return
        for part in self._parts:
            part.cancel()
        with contextlib.suppress(Exception):  # the error that led here is what counts
            upload = self._upload.result(_LAST_WORD_SECONDS)
            self._ask("abort_multipart_upload", upload).result(_LAST_WORD_SECONDS)

    def _send(self, upload: dict[str, Any], size: int) -> None:
        with self._path.open("rb") as file:
            file.seek(self._sent)
            body = file.read(size)
        self._parts.append(self._ask("upload_part", upload, PartNumber=len(self._parts) + 1, Body=body))
        self._sent += size

    def _ask(self, operation: str, upload: dict[str, Any], **more: Any) -> Future[dict[str, Any]]:
        """Ask S3 in the file system's own thread, as all that it does."""
        known = {name: upload[name] for name in ("UploadId",) if upload}
        asked = self._filesystem._call_s3(operation, **self._place, **known, **more)  # noqa: SLF001
        return asyncio.run_coroutine_threadsafe(asked, self._filesystem.loop)

    @property
    def _under_way(self) -> int:
        return sum(not part.done() for part in self._parts)

    @property
    def _part_bytes(self) -> int:
        return PART_BYTES * (1 + len(self._parts) // _OF_ONE_SIZE)


@contextmanager
def sending(filesystem: Any, path: Path, place: str, arguments: dict[str, str]) -> Iterator[Sending]:
    """Send a file while the context is open; what is not finished then is given up."""
    under_way = Sending(filesystem, path, place, arguments)
    try:
        yield under_way
    finally:
        under_way.give_up()
