"""What is S3's own: a client that takes a while to make, locks on single objects, encryption."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.stores.failures import s3_code

if TYPE_CHECKING:
    from airflow_dbhygiene.policy.archive import Encryption, ObjectLock

_MAY_PASS: Final = frozenset({"", "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"})
_NO_LOCK: Final = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration", "InvalidRequest"})


def reaching(filesystem: Any) -> Callable[[], object]:
    """Begin to make S3's client, while the database is at work; give what waits for it. Of others there is none.

    What goes wrong is told to whoever asks S3 for something.
    """
    begin = getattr(filesystem, "set_session", None)
    return asyncio.run_coroutine_threadsafe(begin(), filesystem.loop).exception if begin else lambda: None


def forget_uploads(filesystem: Any, path: str) -> None:
    """Let S3 forget uploads in parts of an object that nobody completed: nobody sees them, and everybody pays.

    Where that is refused, in whatever words S3's like have for it, they are left to the bucket's lifecycle rule.
    """
    bucket, key, _ = filesystem.split_path(path)
    try:
        found = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key).get("Uploads", ())
        for upload in found:
            if upload["Key"] == key:
                filesystem.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload["UploadId"])
    except OSError as error:
        if s3_code(error) in _MAY_PASS:
            raise


class S3Protection:
    """Lock and encryption of the objects in one store.

    :param filesystem: s3fs's
    :param root: bucket and prefix
    :param lock: mode and days of Object Lock, None for none
    :param encryption: how S3 encrypts, None to leave it to the bucket
    """

    def __init__(self, filesystem: Any, root: str, lock: ObjectLock | None, encryption: Encryption | None) -> None:
        self._call = filesystem.call_s3
        self._bucket = root.partition("/")[0]
        self._lock = lock
        self.upload_arguments = _encryption_arguments(encryption)

    def check(self) -> None:
        """Refuse a bucket that knows no Object Lock.

        :raises PolicyInvalid: with the fix
        """
        if self._lock is None:
            return
        try:
            self._call("get_object_lock_configuration", Bucket=self._bucket)
        except OSError as error:
            if s3_code(error) not in _NO_LOCK:
                raise
            message = (
                f"archive.object_lock: bucket {self._bucket!r} has no Object Lock: enable it, or leave object_lock out."
            )
            raise PolicyInvalid(message) from error

    def put(self, path: str) -> None:
        """Protect an object from now on, if there is to be a lock."""
        if self._lock is None:
            return
        until = datetime.now(UTC) + timedelta(days=self._lock.days)
        retention = {"Mode": self._lock.mode.upper(), "RetainUntilDate": until}
        self._call("put_object_retention", **self._object(path), Retention=retention)

    def fault(self, path: str) -> str | None:
        """Say what is wrong with an object's retention, None when it is as it was put."""
        if self._lock is None:
            return None
        try:
            found = self._call("get_object_retention", **self._object(path))["Retention"]
        except OSError as error:
            if s3_code(error) not in _NO_LOCK:
                raise
            return "it is under no Object Lock"
        mode = str(found.get("Mode")).lower()
        return None if mode == self._lock.mode else f"its Object Lock is in mode {mode}, not {self._lock.mode}"

    def _object(self, path: str) -> dict[str, str]:
        bucket, _, key = path.partition("/")
        return {"Bucket": bucket, "Key": key}


def _encryption_arguments(wanted: Encryption | None) -> dict[str, str]:
    """Say to S3 how an object is to be encrypted."""
    if wanted is None:
        return {}
    if wanted.kind == "sse-s3":
        return {"ServerSideEncryption": "AES256"}
    return {"ServerSideEncryption": "aws:kms", **({"SSEKMSKeyId": wanted.key_id} if wanted.key_id else {})}
