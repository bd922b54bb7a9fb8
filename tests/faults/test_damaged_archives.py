"""What the store holds is read back before any row goes: a damaged archive stops the purge, whenever it was damaged.

Invariants 1 and 8, on a local folder and on S3.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import s3fs
from fsspec.implementations.local import LocalFileSystem
from pyarrow import parquet as pq

from airflow_dbhygiene.databases.protocol import VERSION_COLUMN
from airflow_dbhygiene.errors import ArchiveDamaged, DiskFull, IllegalMove, NotFound, RowsLocked, StoreUnavailable
from tests.faults.between import before_batch
from tests.faults.stage import (
    ALL_ROWS,
    BATCH_ROWS,
    CHUNK_ROWS,
    OBJECT_ROWS,
    REST,
    STEPS,
    Copies,
    Stage,
    assert_every_row_is_accounted_for,
    assert_ledger_adds_up,
    keys_of,
    strangers,
)
from tests.servers.proxy import FaultProxy
from tests.servers.s3 import S3Server
from tests.servers.small_disk import filled, small_disk

Place = Callable[[Stage], Stage]
Damage = Callable[[Stage, str], None]

STOPPED = RuntimeError("the worker is stopped here")


# Where the archive lies


def on_s3(stage: Stage, server: S3Server, endpoint_url: str | None = None) -> Stage:
    """Move a stage's archive to a prefix of its own in the server's bucket."""
    files = s3fs.S3FileSystem(
        key=server.access_key,
        secret=server.secret_key,
        client_kwargs={"endpoint_url": endpoint_url or server.endpoint_url, "region_name": server.region},
        config_kwargs={"s3": {"addressing_style": "path"}, "retries": {"total_max_attempts": 1}},
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    files.retries = 1
    prefix = f"{server.bucket}/{secrets.token_hex(6)}"
    for path in stage.folder.rglob("*"):
        if path.is_file():
            files.put_file(str(path), f"{prefix}/{path.relative_to(stage.folder)}")
    return replace(stage, filesystem=files, prefix=prefix)


# How it is damaged


def truncate(stage: Stage, path: str) -> None:
    """Cut the object short."""
    stage.files.pipe_file(path, stage.files.cat_file(path)[:-10])


def flip(stage: Stage, path: str) -> None:
    """Alter one bit of the object."""
    content = bytearray(stage.files.cat_file(path))
    content[len(content) // 2] ^= 1
    stage.files.pipe_file(path, bytes(content))


def replace_by_other(stage: Stage, path: str) -> None:
    """Put another chunk's object in its place: one that is sound in itself."""
    stage.files.pipe_file(path, stage.files.cat_file(stage.object_paths(2)[0]))


def replace_by_same_size(stage: Stage, path: str) -> None:
    """Put anything of the same size in its place."""
    stage.files.pipe_file(path, os.urandom(len(stage.files.cat_file(path))))


def remove(stage: Stage, path: str) -> None:
    """Remove the object."""
    stage.files.rm_file(path)


def forge_other_chunk(stage: Stage, path: str) -> None:
    """Put another chunk's object in its place, and let the receipt say so."""
    replace_by_other(stage, path)
    _forge_receipt(stage, path)


def forge_versions(stage: Stage, path: str) -> None:
    """Write the object with other row versions, as if it were of another time, and let the receipt say so."""
    _rewrite(stage, path, VERSION_COLUMN, lambda versions: pc.add(versions, 1))
    _forge_receipt(stage, path)


DAMAGES = (truncate, flip, replace_by_other, replace_by_same_size, remove, forge_other_chunk, forge_versions)


CASES = [("local", damage) for damage in DAMAGES] + [
    ("s3", damage) for damage in (truncate, flip, replace_by_other, remove)
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1].__name__}")
def case(request: pytest.FixtureRequest) -> tuple[Place, Damage]:
    """Give a way to move a stage's archive to a kind of store, and a way to damage an object there."""
    store, damage = request.param
    if store == "local":
        return (lambda stage: stage), damage
    server: S3Server = request.getfixturevalue("s3")
    return (lambda stage: on_s3(stage, server)), damage


# When


def test_damage_before_verify(archived: Stage, case: tuple[Place, Damage]) -> None:
    """Verify says so and purge never begins; the chunk is archived anew, and the run ends well."""
    (place, damage), keys = case, keys_of(archived)
    stage = place(archived)
    damage(stage, stage.object_paths(1)[0])
    with pytest.raises(ArchiveDamaged):
        stage.perform("verify 1")
    assert stage.state_of(1) == "damaged"
    for step in ("verify 1", "purge 1"):
        with pytest.raises(IllegalMove, match=r"[Cc]lear its archive task"):
            stage.perform(step)
    assert keys_of(stage) == keys
    stage.perform("archive 1", "verify 1", "verify 2", *REST)
    assert_every_row_is_accounted_for(stage, keys)
    assert list(strangers(stage)) == []


def test_damage_between_verify_and_purge(verified: Stage, case: tuple[Place, Damage]) -> None:
    """Purge reads back for itself: it stops before the first row, and the chunk is archived anew."""
    (place, damage), keys = case, keys_of(verified)
    stage = place(verified)
    damage(stage, stage.object_paths(1)[0])
    with pytest.raises(ArchiveDamaged):
        stage.perform("purge 1")
    assert stage.state_of(1) == "damaged"
    with pytest.raises(IllegalMove):
        stage.perform("purge 1")
    assert keys_of(stage) == keys
    stage.perform("archive 1", "verify 1", *REST)
    assert_every_row_is_accounted_for(stage, keys)
    assert list(strangers(stage)) == []


@pytest.mark.parametrize("part", [0, 1])
def test_damage_when_some_rows_are_purged(verified: Stage, case: tuple[Place, Damage], part: int) -> None:
    """The archive holds the only copy of purged rows: it is never replaced. With the object back, the purge goes on."""
    (place, damage), keys = case, keys_of(verified)
    stage = place(verified)
    _purge_one_batch(stage)
    path = stage.object_paths(1)[part]
    sound, receipt = stage.files.cat_file(path), _receipt(stage, path)
    damage(stage, path)
    purged = BATCH_ROWS if part == 0 else OBJECT_ROWS
    for _ in range(2):
        with pytest.raises(ArchiveDamaged):
            stage.perform("purge 1")
        assert stage.one("SELECT count(*) FROM flights") == ALL_ROWS - purged
        objects = stage.files.find(stage.root)
        stage.perform("archive 1", "verify 1")
        assert (stage.state_of(1), stage.files.find(stage.root)) == ("purging", objects)
    assert_ledger_adds_up(stage)
    stage.files.pipe_file(path, sound)
    stage.execute("UPDATE dbhygiene.object SET bytes = %s, sha256 = %s WHERE name LIKE %s", receipt)
    stage.perform(*REST)
    assert_every_row_is_accounted_for(stage, keys)


@pytest.mark.parametrize("damage", [flip, remove])
def test_damage_when_only_locked_rows_are_left(verified: Stage, damage: Damage) -> None:
    """Rows that were locked are matched with what the store holds then, not with what it held before."""
    stage, key = verified, verified.id_at(100)
    with stage.application() as application:
        application.execute("SELECT FROM flights WHERE id = %s FOR UPDATE", (key,))
        with pytest.raises(RowsLocked):
            stage.perform("purge 1")
    damage(stage, stage.object_paths(1)[0])
    with pytest.raises(ArchiveDamaged):
        stage.perform("purge 1")
    assert key in keys_of(stage)
    assert stage.figures(1)["locked"] == 1


def test_values_that_differ_from_the_servers_are_found(archived: Stage) -> None:
    """An object that agrees with its receipt, keys and versions included, but has another value, is no archive."""
    path = archived.object_paths(1)[0]
    _rewrite(archived, path, "distance", lambda distances: pc.add(distances, 1))
    _forge_receipt(archived, path)
    with pytest.raises(ArchiveDamaged, match=f"{OBJECT_ROWS} of {OBJECT_ROWS} rows differ"):
        archived.perform("verify 1")


def test_a_receipt_that_is_gone_stops_the_purge(verified: Stage) -> None:
    """Without one of its receipts the chunk cannot end as purged, and the rows of that object stay."""
    verified.execute("UPDATE dbhygiene.object SET state = 'intended' WHERE chunk = 1 AND part = 1")
    with pytest.raises(Exception, match="chunk"):
        verified.perform("purge 1")
    assert verified.state_of(1) == "purging"
    assert verified.one("SELECT count(*) FROM flights") >= ALL_ROWS - OBJECT_ROWS


# Uploads that fail


class HalfWritten(LocalFileSystem):  # type: ignore[misc]
    """A store to which files are put, and where the put of a given number breaks in its middle."""

    protocol = ("remote",)
    cachable = False

    def __init__(self, broken: int) -> None:
        super().__init__(auto_mkdir=True)
        self._broken = broken
        self._puts = 0

    def put_file(self, path1: str, path2: str, **_: Any) -> None:
        """Leave half a file under the object's own name, as an interrupted stream would."""
        self._puts += 1
        super().put_file(path1, path2)
        if self._puts == self._broken:
            with open(path2, "r+b") as file:  # noqa: PTH123 - a path of fsspec's
                file.truncate(self.size(path2) // 2)
            raise ConnectionResetError("connection reset by peer")


@pytest.mark.parametrize("broken", [1, 2])
def test_an_upload_that_breaks_never_wins(stage: Stage, broken: int) -> None:
    """The half object has no receipt; a retry writes others, and the report removes it."""
    keys = keys_of(stage)
    stage.perform("plan")
    stage = replace(stage, filesystem=HalfWritten(broken))
    with pytest.raises(StoreUnavailable):
        stage.perform("archive 1")
    assert stage.state_of(1) == "planned"
    for step in ("verify 1", "purge 1"):
        with pytest.raises(IllegalMove):
            stage.perform(step)
    stage.perform("archive 1", "archive 2", "verify 1", "verify 2", *REST)
    assert_every_row_is_accounted_for(stage, keys)
    assert list(strangers(stage)) == []


@pytest.fixture
def small() -> Iterator[Path]:
    """Give a folder on a small disk of its own."""
    with small_disk(megabytes=2) as folder:
        yield folder


@pytest.mark.parametrize("free", [0, 20_000])
def test_a_full_disk_never_wins(stage: Stage, small: Path, free: int) -> None:
    """A local object has its name only when all of it is on the disk; with room again, the run ends well."""
    keys = keys_of(stage)
    stage = replace(stage, folder=small / "cold")
    stage.perform("plan")
    with filled(small, leave_bytes=free), pytest.raises(DiskFull, match="no space left on this worker's disk"):
        stage.perform("archive 1")
    assert not [name for name in stage.files.find(stage.root) if name.endswith(".parquet")]
    stage.perform("archive 1", "archive 2", "verify 1", "verify 2", *REST)
    assert_every_row_is_accounted_for(stage, keys)
    assert list(strangers(stage)) == []


@pytest.mark.parametrize("step", ["archive 1", "verify 1", "purge 1"])
def test_a_worker_without_room_for_an_object(
    copies: Copies, small: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects pass through its folder for temporary files: the error names it, and a retry with room goes on."""
    stage = copies({"archive 1": "flights_planned", "verify 1": "flights_archived"}.get(step, "flights_verified"))
    keys, state = keys_of(stage), stage.state_of(1)
    monkeypatch.setattr(tempfile, "tempdir", str(small))
    for free in (0, 12_000):  # an object has forty thousand bytes
        with filled(small, leave_bytes=free), pytest.raises(DiskFull, match=f"Make room in {small}"):
            stage.perform(step)
        assert (stage.state_of(1), keys_of(stage)) == (state, keys)
    stage.perform(*STEPS[STEPS.index(step) :])
    assert_every_row_is_accounted_for(stage, keys)
    assert list(strangers(stage)) == []


def test_each_folder_that_an_archive_makes_is_on_the_disk(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's name lies in the folder above: unless that is synced, a power cut takes all below away."""
    stage = replace(stage, folder=stage.folder / "new" / "deep")
    stage.perform("plan")
    synced: set[str] = set()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    stage.perform("archive 1")
    table = stage.folder / "public.flights"
    assert {str(stage.folder), str(table), *(str(path) for path in table.iterdir())} <= synced


@pytest.fixture
def cut_s3(s3: S3Server) -> Iterator[FaultProxy]:
    """Give a way to the S3 server that can be cut."""
    with FaultProxy(("127.0.0.1", s3.port)) as proxy:
        yield proxy


def test_s3_that_goes_away_is_waited_for(stage: Stage, s3: S3Server, cut_s3: FaultProxy) -> None:
    """An upload that the network cuts is an error that a retry helps, and the retry does."""
    keys = keys_of(stage)
    stage = on_s3(stage, s3, f"http://{cut_s3.host}:{cut_s3.port}")
    stage.perform("plan")
    cut_s3.refuse = True
    cut_s3.reset_all()
    with pytest.raises(StoreUnavailable):
        stage.perform("archive 1")
    assert stage.state_of(1) == "planned"
    cut_s3.heal()
    stage.perform("archive 1", "archive 2", "verify 1", "verify 2")
    cut_s3.refuse = True
    cut_s3.reset_all()
    with pytest.raises(StoreUnavailable):
        stage.perform("purge 1")
    assert (stage.state_of(1), keys_of(stage)) == ("verified", keys)
    cut_s3.heal()
    stage.perform(*REST)
    assert_every_row_is_accounted_for(stage, keys)
    assert list(strangers(stage)) == []


def test_a_missing_bucket_damages_nothing(verified: Stage, s3: S3Server) -> None:
    """A wrong URL is no damaged archive: the chunk stays verified, and with the right one its purge goes on."""
    stage = on_s3(verified, s3)
    with pytest.raises(NotFound, match="no such bucket"):
        replace(stage, prefix="no-such-bucket/cold").perform("purge 1")
    assert stage.state_of(1) == "verified"


# What the tests above are made of


def _purge_one_batch(stage: Stage) -> None:
    def stop() -> None:
        raise STOPPED

    with pytest.raises(RuntimeError, match="stopped here"):
        stage.perform("purge 1", site=before_batch(stage, 2, stop))
    assert stage.figures(1)["purged"] == BATCH_ROWS < CHUNK_ROWS


def _receipt(stage: Stage, path: str) -> tuple[Any, ...]:
    name = f"%{path.rpartition('/')[2]}"
    (row,) = stage.execute("SELECT bytes, sha256 FROM dbhygiene.object WHERE name LIKE %s", (name,))
    return (*row, name)


def _forge_receipt(stage: Stage, path: str) -> None:
    content = stage.files.cat_file(path)
    values = (len(content), hashlib.sha256(content).hexdigest(), f"%{path.rpartition('/')[2]}")
    stage.execute("UPDATE dbhygiene.object SET bytes = %s, sha256 = %s WHERE name LIKE %s", values)


def _rewrite(stage: Stage, path: str, column: str, change: Callable[[Any], Any]) -> None:
    rows = pq.ParquetFile(io.BytesIO(stage.files.cat_file(path))).read()
    place = rows.schema.get_field_index(column)
    field = rows.schema.field(place)
    sink = io.BytesIO()
    pq.write_table(rows.set_column(place, field, change(rows.column(place)).cast(field.type)), sink)
    stage.files.pipe_file(path, sink.getvalue())
