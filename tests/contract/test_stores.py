"""Every store keeps what was written, notices what was changed, and says whose fault a failure is."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from airflow_dbhygiene.errors import (
    ArchiveDamaged,
    HygieneError,
    NotFound,
    PrivilegeMissing,
    StoreUnavailable,
    Transient,
)
from airflow_dbhygiene.stores.parquet import ParquetStore
from airflow_dbhygiene.stores.protocol import Spooled
from tests.servers.cache import PROJECT_ROOT
from tests.servers.proxy import FaultProxy
from tests.servers.s3 import S3Server

SCHEMA = pa.schema([("id", pa.int64()), ("note", pa.string())])


@dataclasses.dataclass(frozen=True)
class Place:
    """A store, and a way around it to what it holds."""

    store: ParquetStore
    read: Callable[[str], bytes | None]
    write: Callable[[str, bytes], None]
    names: Callable[[], list[str]]


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give each kind of store in turn, empty."""
    if request.param == "folder":
        yield folder(tmp_path / "cold")
    else:
        yield bucket(request.getfixturevalue("s3"), f"prefix/{tmp_path.name}")


def folder(root: Path) -> Place:
    """Give a store in a local folder."""

    def read(name: str) -> bytes | None:
        return (root / name).read_bytes() if (root / name).exists() else None

    def names() -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def write(name: str, data: bytes) -> None:
        (root / name).write_bytes(data)

    return Place(ParquetStore(fsspec.filesystem("file"), str(root), url="file:///cold"), read, write, names)


def bucket(s3: S3Server, prefix: str) -> Place:
    """Give a store in the S3 server's bucket."""
    client: Any = s3.client()

    def names() -> list[str]:
        found = client.list_objects_v2(Bucket=s3.bucket, Prefix=prefix + "/").get("Contents", [])
        return sorted(each["Key"].removeprefix(prefix + "/") for each in found)

    def read(name: str) -> bytes | None:
        if name not in names():
            return None
        data: bytes = client.get_object(Bucket=s3.bucket, Key=f"{prefix}/{name}")["Body"].read()
        return data

    def write(name: str, data: bytes) -> None:
        client.put_object(Bucket=s3.bucket, Key=f"{prefix}/{name}", Body=data)

    return Place(s3_store(s3, f"{s3.bucket}/{prefix}"), read, write, names)


def s3_store(s3: S3Server, root: str, **changes: Any) -> ParquetStore:
    """Open a store at the S3 server, perhaps with another key or address."""
    settings = {"key": s3.access_key, "secret": s3.secret_key, "endpoint_url": s3.endpoint_url} | changes
    config = {"retries": {"total_max_attempts": 1}, "connect_timeout": 2, "read_timeout": 2}
    filesystem = fsspec.filesystem("s3", **settings, config_kwargs=config, skip_instance_cache=True)
    return ParquetStore(filesystem, root, url=f"s3://aws@{root}")


def put(place: Place, name: str = "a/b.parquet", rows: int = 1000) -> Spooled:
    """Spool rows in two batches and upload them under a name."""
    batches = [batch(0, rows), batch(rows, rows)]
    with place.store.spool(iter(batches), SCHEMA, {"run": "one", "ü": "größe"}) as spooled:
        place.store.upload(spooled, name)
        return spooled


def batch(start: int, rows: int) -> pa.RecordBatch:
    """Give numbered rows."""
    ids = range(start, start + rows)
    return pa.record_batch([pa.array(ids, pa.int64()), pa.array([f"row {i}" for i in ids])], schema=SCHEMA)


def test_what_was_written_comes_back(place: Place) -> None:
    """Rows, their order and the notes; the receipt's size and digest are those of the stored bytes."""
    spooled = put(place)
    assert (spooled.rows, place.names()) == (2000, ["a/b.parquet"])
    stored = place.read("a/b.parquet")
    assert stored is not None
    assert len(stored) == spooled.bytes
    with place.store.fetch("a/b.parquet", spooled.sha256, spooled.bytes) as archived:
        assert pa.Table.from_batches(archived.batches(500)).column("id").to_pylist() == list(range(2000))
        assert [batch.num_rows for batch in archived.batches(1000)] == [1000, 1000]
        assert archived.notes == {"run": "one", "ü": "größe"}


KILLED = """
import os, signal
from pathlib import Path
from tests.contract.test_stores import SCHEMA, batch, folder

store = folder(Path("cold")).store
with store.spool(iter([batch(0, 1000)]), SCHEMA, {}) as spooled:
    store.upload(spooled, "a.parquet")
    with store.fetch("a.parquet", spooled.sha256, spooled.bytes):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_worker_leaves_nothing_in_its_folder_for_temporary_files(tmp_path: Path) -> None:
    """Neither what it was about to upload nor what it had fetched: such files would fill the disk over time."""
    for name in ("tmp", "cold"):
        (tmp_path / name).mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(PROJECT_ROOT)}
    ended = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.rglob("*.parquet")] == ["a.parquet"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_empty_archive_is_an_archive(place: Place) -> None:
    """A chunk whose rows all vanished still has an object with its notes."""
    with place.store.spool(iter(()), SCHEMA, {"run": "one"}) as spooled:
        place.store.upload(spooled, "empty.parquet")
    with place.store.fetch("empty.parquet", spooled.sha256, spooled.bytes) as archived:
        assert archived.rows == 0


def test_a_large_object_goes_up_in_parts(place: Place) -> None:
    """Tens of megabytes that do not compress."""
    noise = pa.record_batch([pa.array([os.urandom(1_000_000) for _ in range(60)])], names=["noise"])
    with place.store.spool(iter([noise]), noise.schema, {}) as spooled:
        place.store.upload(spooled, "large.parquet")
    assert spooled.bytes > 60_000_000
    with place.store.fetch("large.parquet", spooled.sha256, spooled.bytes) as archived:
        assert archived.rows == 60


def change_a_byte(data: bytes) -> bytes:
    """Alter one byte in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-1], "bytes where"),
        (lambda data: data + b"\0", "bytes where"),
        (lambda _: b"", "bytes where"),
        (change_a_byte, "SHA-256 differs"),
    ],
    ids=["truncated", "longer", "emptied", "altered"],
)
def test_a_changed_object_is_noticed(place: Place, damage: Callable[[bytes], bytes], said: str) -> None:
    """The error names the object and what to do, and says that no more is deleted."""
    spooled = put(place)
    stored = place.read("a/b.parquet")
    assert stored
    place.write("a/b.parquet", damage(stored))
    with (
        pytest.raises(ArchiveDamaged, match=rf"a/b\.parquet .*{said}.*no more is deleted"),
        place.store.fetch("a/b.parquet", spooled.sha256, spooled.bytes),
    ):
        pass


def test_a_missing_object_is_noticed(place: Place) -> None:
    """Terminal: no retry brings it back."""
    spooled = put(place)
    place.store.discard("a/b.parquet")
    with (
        pytest.raises(ArchiveDamaged, match=r"a/b\.parquet is missing"),
        place.store.fetch("a/b.parquet", spooled.sha256, spooled.bytes),
    ):
        pass


def test_discarding_is_final_and_repeatable(place: Place) -> None:
    """A report that is retried discards again."""
    put(place)
    put(place, "a/c.parquet")
    place.store.discard("a/b.parquet")
    place.store.discard("a/b.parquet")
    assert place.names() == ["a/c.parquet"]


def test_a_probe_leaves_nothing(place: Place) -> None:
    """It writes, reads and removes."""
    place.store.probe("probe")
    assert place.names() == []


def test_a_text_is_written_beside_the_objects(place: Place) -> None:
    """The certificate, in UTF-8, at the address that is returned; written again it replaces."""
    assert place.store.write_text("run/certificate.json", "first") == f"{place.store.url}/run/certificate.json"
    place.store.write_text("run/certificate.json", "größe")
    assert place.read("run/certificate.json") == "größe".encode()
    assert place.names() == ["run/certificate.json"]


def test_a_failed_source_leaves_no_object(place: Place) -> None:
    """What breaks off while spooling was never uploaded, and the spool file is gone."""

    def failing() -> Iterator[pa.RecordBatch]:
        yield batch(0, 10)
        raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost"), place.store.spool(failing(), SCHEMA, {}):
        pass
    assert place.names() == []


def test_an_odd_name_is_a_name(place: Place) -> None:
    """Table names end up in object names."""
    name = "my schema.größe%20+#?/run=a b/chunk-0001.parquet"
    spooled = put(place, name)
    with place.store.fetch(name, spooled.sha256, spooled.bytes) as archived:
        assert archived.rows == 2000


def test_a_missing_bucket_is_named(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Terminal, with the fix. SeaweedFS makes a missing bucket by itself: the answer here is the one that S3 gives."""
    answer = {"Error": {"Code": "NoSuchBucket", "Message": "The specified bucket does not exist"}}
    store = s3_store(s3, "nowhere/x")

    def put_file(*_: object, **__: object) -> None:
        raise translate_boto_error(ClientError(answer, "PutObject"))

    monkeypatch.setattr(store._filesystem, "put_file", put_file)
    with pytest.raises(NotFound, match=r"s3://aws@nowhere/x/probe: no such bucket.*Create it, or correct the URL"):
        store.probe("probe")


def test_a_bucket_that_vanished_is_named(s3: S3Server) -> None:
    """Terminal as well; it is no damage to one object, and no chunk is marked for it."""
    store = s3_store(s3, "nowhere/x")
    with pytest.raises(NotFound, match="no such bucket"), store.fetch("a.parquet", "", 0):
        pass


@pytest.mark.parametrize("wrong", [{"secret": "wrong"}, {"key": "WRONG"}], ids=["secret", "key"])
def test_wrong_credentials_are_terminal_and_stay_secret(s3: S3Server, wrong: dict[str, str]) -> None:
    """The error points at the connection, and never repeats a key."""
    with pytest.raises(PrivilegeMissing, match="Correct the Airflow connection") as refused:
        s3_store(s3, f"{s3.bucket}/x", **wrong).probe("probe")
    assert s3.secret_key not in str(refused.value)


def test_a_server_that_is_down_is_transient(s3: S3Server) -> None:
    """A retry may find it up again."""
    with FaultProxy(("127.0.0.1", s3.port)) as proxy:
        store = s3_store(s3, f"{s3.bucket}/x", endpoint_url=f"http://127.0.0.1:{proxy.port}")
        store.probe("probe")
        proxy.refuse = True
        proxy.reset_all()
        with pytest.raises(StoreUnavailable) as unavailable:
            store.probe("probe")
    assert isinstance(unavailable.value, Transient)


def test_a_folder_that_cannot_be_made_is_ours_to_tell(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "cold").write_text("")
    with pytest.raises(HygieneError, match=r"file:///cold/probe"):
        folder(tmp_path / "cold").store.probe("probe")


def test_a_local_object_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """An upload that fails leaves no object under its name."""
    place = folder(tmp_path / "cold")
    with place.store.spool(iter([batch(0, 10)]), SCHEMA, {}) as spooled, pytest.raises(HygieneError):
        place.store.upload(dataclasses.replace(spooled, path=tmp_path / "gone"), "a.parquet")
    assert place.read("a.parquet") is None
