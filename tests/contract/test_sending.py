"""Large objects go up to S3 while they are written: whole, and leaving nothing behind when they do not get to their end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from airflow_dbhygiene.errors import PrivilegeMissing
from tests.contract.test_stores import Place, bucket, s3_store
from tests.servers.s3 import S3Server

SCHEMA = pa.schema([("noise", pa.binary())])
NAME = "run/large.parquet"


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """Give each test a folder of its own in the bucket."""
    return f"sending/{tmp_path.name}"


@pytest.fixture
def place(s3: S3Server, prefix: str) -> Place:
    """Give an empty store."""
    return bucket(s3, prefix)


def noise(batches: int) -> Iterator[pa.RecordBatch]:
    """Give so many batches of ten megabytes that do not compress."""
    for _ in range(batches):
        yield pa.record_batch([pa.array([os.urandom(1_000_000) for _ in range(10)])], schema=SCHEMA)


def under_way(s3: S3Server, prefix: str) -> list[str]:
    """Name the uploads that were begun, and neither completed nor given up."""
    client: Any = s3.client()
    found = client.list_multipart_uploads(Bucket=s3.bucket, Prefix=prefix).get("Uploads", [])
    return [each["Key"] for each in found]


def begun(s3: S3Server, prefix: str) -> list[str]:
    """Wait until an upload has begun."""
    for _ in range(300):
        if found := under_way(s3, prefix):
            return found
        time.sleep(0.1)
    return []


def test_parts_go_up_while_rows_still_come(s3: S3Server, prefix: str, place: Place) -> None:
    """The object is there, whole, when the upload says so."""
    seen = []

    def rows() -> Iterator[pa.RecordBatch]:
        seen.append(under_way(s3, prefix))
        yield from noise(4)
        seen.append(begun(s3, prefix))
        yield from noise(4)

    with place.store.spool(rows(), SCHEMA, {"run": "one"}, NAME) as spooled:
        assert place.names() == []
        place.store.upload(spooled, NAME)
    assert seen == [[], [f"{prefix}/{NAME}"]]
    assert under_way(s3, prefix) == []
    with place.store.fetch(NAME, spooled.sha256, spooled.bytes) as archived:
        assert (archived.rows, archived.notes) == (80, {"run": "one"})


def test_a_small_object_is_not_begun_before_its_time(s3: S3Server, prefix: str, place: Place) -> None:
    """It may yet turn out to be empty."""
    small = pa.record_batch([pa.array([b"x"])], schema=SCHEMA)
    with place.store.spool(iter([small]), SCHEMA, {}, NAME) as spooled:
        assert under_way(s3, prefix) == []
        place.store.upload(spooled, NAME)
    assert place.names() == [NAME]


def test_what_breaks_off_is_given_up(s3: S3Server, prefix: str, place: Place) -> None:
    """Neither an object nor parts of one, for which the owner of the bucket would pay, stay behind."""

    def rows() -> Iterator[pa.RecordBatch]:
        yield from noise(4)
        assert begun(s3, prefix)
        raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost"), place.store.spool(rows(), SCHEMA, {}, NAME):
        pass
    assert (place.names(), under_way(s3, prefix)) == ([], [])


def test_an_object_that_nobody_uploads_is_given_up(s3: S3Server, prefix: str, place: Place) -> None:
    """The step failed between the last row and the upload."""

    def rows() -> Iterator[pa.RecordBatch]:
        yield from noise(4)
        assert begun(s3, prefix)

    with place.store.spool(rows(), SCHEMA, {}, NAME):
        pass
    assert (place.names(), under_way(s3, prefix)) == ([], [])


def test_what_killed_workers_sent_is_forgotten_with_the_object(s3: S3Server, prefix: str, place: Place) -> None:
    """And nothing of objects beside it, whose names begin alike."""
    client: Any = s3.client()
    for name in (NAME, f"{NAME}.other", NAME):
        client.create_multipart_upload(Bucket=s3.bucket, Key=f"{prefix}/{name}")
    place.store.discard(NAME)
    assert under_way(s3, prefix) == [f"{prefix}/{NAME}.other"]


@pytest.mark.parametrize("code", ["AccessDenied", "NotImplemented"])
def test_parts_that_nobody_may_list_are_left(place: Place, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """To the bucket's lifecycle rule: the object itself is gone."""
    place.write(NAME, b"lost")
    monkeypatch.setattr(place.store._filesystem, "call_s3", refusing(code))
    place.store.discard(NAME)
    assert place.names() == []


def refusing(code: str) -> Any:
    """Answer as an S3 does that refuses."""

    def call(operation: str, **_: Any) -> None:
        raise translate_boto_error(ClientError({"Error": {"Code": code}}, operation))

    return call


def test_what_s3_refuses_is_told_while_rows_still_come(s3: S3Server, prefix: str) -> None:
    """With the store's name, and as what it is: no retry helps."""
    store = s3_store(s3, f"{s3.bucket}/{prefix}", secret="wrong")  # noqa: S106 - it is not one

    def rows() -> Iterator[pa.RecordBatch]:
        for _ in range(300):
            yield from noise(4)
        raise AssertionError("all rows came")

    with pytest.raises(PrivilegeMissing, match="s3://aws@"), store.spool(rows(), SCHEMA, {}, NAME):
        pass
