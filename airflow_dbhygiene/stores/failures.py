"""What a file system's error means: one table of S3's codes, and the system's own errors, as ours."""

from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from pyarrow import ArrowException

from airflow_dbhygiene.errors import DiskFull, HygieneError, NotFound, PrivilegeMissing, StoreUnavailable

_REFUSED: Final = "the store refused: {}. Correct the Airflow connection, or the bucket's policy."
_EXPIRED: Final = "the credentials have run out: {}. A retry takes new ones; if it comes again, renew the connection's."
_SKEWED: Final = "this worker's clock and the store's differ by too much: {}. Correct the worker's clock."
_NO_BUCKET: Final = "no such bucket or folder: {}. Create it, or correct the URL."
_BROKEN_OFF: Final = "the store no longer knows an upload that had begun: {}. A retry begins it anew."

S3_CODES: Final[Mapping[str, tuple[type[HygieneError], str]]] = {
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem"), (PrivilegeMissing, _REFUSED)),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch"), (PrivilegeMissing, _REFUSED)),
    **dict.fromkeys(("AuthorizationHeaderMalformed", "InvalidToken"), (PrivilegeMissing, _REFUSED)),
    **dict.fromkeys(("ExpiredToken", "TokenRefreshRequired", "RequestExpired"), (StoreUnavailable, _EXPIRED)),
    "RequestTimeTooSkewed": (StoreUnavailable, _SKEWED),
    "NoSuchBucket": (NotFound, _NO_BUCKET),
    "NoSuchUpload": (StoreUnavailable, _BROKEN_OFF),
}
"""Those that say more than that the store failed; all others may pass."""

_NO_CREDENTIALS: Final = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")


_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Let the errors of a file system, and of the libraries below it, leave as ours.

    :param address: what was read or written
    """
    try:
        yield
    except (OSError, ArrowException) as error:
        raise _translate(error, address) from error
    except Exception as error:
        if isinstance(error, _library_errors()):
            raise _translate(error, address) from error
        raise


@contextmanager
def told_when_full() -> Iterator[None]:
    """Say that the disk for temporary files is full; any other error passes as it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _disk_full(tempfile.gettempdir(), error) from error


def s3_code(error: BaseException) -> str:
    """Give S3's own code of an error, also of one that s3fs has turned into one of the system's; empty without one."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _translate(error: Exception, address: str) -> HygieneError:
    if (code := s3_code(error)) in S3_CODES:
        kind, text = S3_CODES[code]
        return kind(f"{address}: {text.format(f'{error} ({code})')}")
    if getattr(error, "errno", None) in _FULL:
        return _disk_full(address, error)
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{address}: {_NO_BUCKET.format(error)}")
    if isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS:
        return PrivilegeMissing(f"{address}: {_REFUSED.format(error)}")
    return StoreUnavailable(f"{address}: the store did not answer: {str(error) or type(error).__name__}")


def _disk_full(address: str, error: Exception) -> DiskFull:
    return DiskFull(
        f"{address}: no space left on this worker's disk: {error}. Make room in {tempfile.gettempdir()}, where objects "
        f"pass through, or in the archive's folder if it is on this machine."
    )


def _library_errors() -> tuple[type[Exception], ...]:
    """Give the errors of botocore and aiohttp, which are no OSErrors, if anything has loaded them."""
    botocore, aiohttp = sys.modules.get("botocore.exceptions"), sys.modules.get("aiohttp")
    return (
        *((botocore.BotoCoreError, botocore.ClientError) if botocore else ()),
        *((aiohttp.ClientError,) if aiohttp else ()),
    )
