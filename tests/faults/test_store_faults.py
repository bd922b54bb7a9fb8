"""S3 fails at any request, once or for ever: no row goes without its archive, and the run ends as an undisturbed one.

Invariants 1, 4 and 8. A real S3 server answers; a proxy before it spoils one request or all of a kind.
"""

from __future__ import annotations

import base64
import os
import secrets
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
import pytest
import s3fs
from botocore import auth

from airflow_dbhygiene.errors import (
    ArchiveDamaged,
    HygieneError,
    NotFound,
    PrivilegeMissing,
    StoreUnavailable,
    Terminal,
    Transient,
)
from airflow_dbhygiene.steps.verify_archive import verify_archive, verify_store
from airflow_dbhygiene.stores import sending
from airflow_dbhygiene.stores.failures import S3_CODES
from tests.contract.test_sending import under_way
from tests.faults.share import NOTE, chosen
from tests.faults.stage import (
    REST,
    STEPS,
    Copies,
    Stage,
    assert_every_row_is_accounted_for,
    assert_ledger_adds_up,
    drop_and_copy,
    end_state,
    keys_of,
)
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server
from tests.servers.s3_proxy import (
    Fault,
    S3FaultProxy,
    alter,
    delay,
    fail_after_all,
    lose_answer,
    refuse,
    repeat,
    reset_answer,
    reset_request,
    stall,
    truncate,
)

FAULTS: Final[dict[str, Fault]] = {
    "500": refuse(500, "InternalError"),
    "503 SlowDown": refuse(503, "SlowDown"),
    "reset amid the request": reset_request,
    "reset amid the answer": reset_answer,
    "done, answer lost": lose_answer,
    "done, answered 500": fail_after_all,
    "stalled": stall,
    "delayed": delay,
    "truncated": truncate,
    "altered": alter,
}
HARMLESS: Final = ("delayed",)
"""Faults that no error follows."""

TRIES: Final = 4
"""How often a step is tried, as Airflow would."""
NEVER_READ: Final = ("PutObject", "UploadPart", "HeadObject", "DeleteObject")
"""Requests whose answer says nothing that anyone reads."""

MOMENTS: Final = {
    "plan": "few_flights",
    "archive 1": "flights_planned",
    "verify 1": "flights_archived",
    "purge 1": "flights_verified",
    "report": "flights_verified",
}
"""The steps that are disturbed, and the moment before each; the report has an object to discard."""


class Point(NamedTuple):
    """Which request is spoiled, and how; ``nth`` counts the step's requests of that kind from 1."""

    operation: str
    nth: int
    fault: str
    for_ever: bool

    def __str__(self) -> str:
        return f"{self.operation} no. {self.nth} {self.fault} {'for ever' if self.for_ever else 'once'}"


@dataclass(frozen=True)
class Ways:
    """A proxy before the S3 server, and clients of it that give up at once: retries are the steps' own."""

    server: S3Server
    proxy: S3FaultProxy
    patient: Any
    hasty: Any

    def place(self, stage: Stage, fault: str = "") -> Stage:
        """Move a stage's archive to a prefix of its own in the bucket."""
        files = self.hasty if fault == "stalled" else self.patient
        prefix = f"{self.server.bucket}/{secrets.token_hex(6)}"
        for path in stage.folder.rglob("*"):
            if path.is_file():
                files.put_file(str(path), f"{prefix}/{path.relative_to(stage.folder)}")
        return replace(stage, filesystem=files, prefix=prefix)


def client(proxy: S3FaultProxy, **config: Any) -> s3fs.S3FileSystem:
    """Open s3fs at the proxy."""
    return s3fs.S3FileSystem(
        key=proxy.server.access_key,
        secret=proxy.server.secret_key,
        client_kwargs={"endpoint_url": proxy.endpoint_url, "region_name": proxy.server.region},
        config_kwargs={"s3": {"addressing_style": "path"}, **config},
        skip_instance_cache=True,
        use_listings_cache=False,
    )


@pytest.fixture
def ways(open_ways: Ways) -> Iterator[Ways]:
    """Give the same ways to each test, and heal what it leaves."""
    yield open_ways
    open_ways.proxy.heal()


@pytest.fixture(scope="module")
def open_ways(s3: S3Server) -> Iterator[Ways]:
    """Give a proxy before the server. Digests of the client's own are off: not every store has them."""
    alone = {"retries": {"total_max_attempts": 1}, "response_checksum_validation": "when_required"}
    with S3FaultProxy(s3) as proxy:
        patient, hasty = client(proxy, **alone), client(proxy, **alone, read_timeout=1)
        patient.retries = hasty.retries = 1
        yield Ways(s3, proxy, patient, hasty)


def after(step: str) -> tuple[str, ...]:
    """Give the step and those that are run after it: to the end, but a plan says by itself what it has done."""
    return ("plan",) if step == "plan" else STEPS[STEPS.index(step) :]


def outcome(stage: Stage, step: str) -> object:
    """Read what must be equal however often a step was disturbed."""
    if step != "plan":
        return end_state(stage)
    chunks = "SELECT chunk, state, label, planned_rows FROM dbhygiene.chunk ORDER BY chunk"
    return stage.execute(chunks), [name for name in stage.stored() if name != stage.root], keys_of(stage)


@pytest.mark.parametrize("step", MOMENTS)
def test_any_request_may_fail(copies: Copies, ways: Ways, step: str) -> None:
    """Each request of a step, in each way, once and for ever; then the rest of the run."""
    undisturbed = ways.place(copies(MOMENTS[step]))
    if step == "report":
        _before_the_report(undisturbed)
    before = Counter(ways.proxy.passed)
    undisturbed.perform(step)
    points = chosen(_points(ways.proxy.passed - before), f"S3 in {step}", 0.5)
    undisturbed.perform(*after(step)[1:])
    end, faults = outcome(undisturbed, step), []
    for point in points:
        stage = ways.place(copies(MOMENTS[step]), point.fault)
        if step == "report":
            _before_the_report(stage)
        faults += [f"{point}: {fault}" for fault in _disturb(stage, ways.proxy, step, point, end)]
    assert not faults, f"{len(faults)} faults in {step} ({NOTE}):\n" + "\n".join(each[:1500] for each in faults[:20])


def test_any_request_of_an_upload_in_parts_may_fail(
    postgres: PostgresServer, ways: Ways, tmp_path: Path, noisy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun, sent and completed in requests of their own, the first of them while rows still come."""
    monkeypatch.setattr(sending, "PART_BYTES", 5 * 2**20)
    operations = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
    asked = Counter({"CreateMultipartUpload": 1, "UploadPart": 3, "CompleteMultipartUpload": 1})
    points = chosen(_points(asked), "S3 in parts", 0.25)
    end, faults = None, []
    for point in (None, *points):
        stage = Stage(drop_and_copy(postgres, "in_parts", noisy), tmp_path)
        stage = ways.place(stage, point.fault if point else "")
        before = Counter(ways.proxy.passed)
        if point is None:
            stage.perform(*STEPS[1:])
            assert {name: (ways.proxy.passed - before)[name] for name in operations} == asked
            end = outcome(stage, "archive 1")
        else:
            faults += [f"{point}: {fault}" for fault in _disturb(stage, ways.proxy, "archive 1", point, end)]
    postgres.drop_database("in_parts")
    assert not faults, f"{len(faults)} faults ({NOTE}):\n" + "\n".join(each[:1500] for each in faults[:20])


def test_the_report_removes_the_parts_that_a_killed_worker_sent(
    postgres: PostgresServer, s3: S3Server, ways: Ways, tmp_path: Path, noisy: str
) -> None:
    """Two had gone up, and are no object that anyone would see; the retry is another attempt."""
    stage = ways.place(Stage(drop_and_copy(postgres, "in_parts", noisy), tmp_path))
    keys = keys_of(stage)
    keys_of_s3 = {"key": s3.access_key, "secret": s3.secret_key, "endpoint_url": s3.endpoint_url}
    order = (stage.dsn, tmp_path, stage.root, keys_of_s3)
    worker = get_context("spawn").Process(target=_archive_until_killed, args=order)
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    stage.perform(*STEPS[1:-1])
    assert len(under_way(s3, stage.root.partition("/")[2])) == 1
    stage.perform("report")
    assert under_way(s3, stage.root.partition("/")[2]) == []
    assert_every_row_is_accounted_for(stage, keys)
    postgres.drop_database("in_parts")


def _archive_until_killed(dsn: str, folder: Path, root: str, keys: dict[str, Any]) -> None:
    """Archive a chunk, and die as soon as S3 has acknowledged two parts."""
    send = sending.Sending._send

    def send_and_die(self: sending.Sending, *arguments: Any) -> None:
        send(self, *arguments)
        if len(self._parts) > 1:
            for part in self._parts:
                part.result()
            os.kill(os.getpid(), signal.SIGKILL)

    sending.Sending._send, sending.PART_BYTES = send_and_die, 5 * 2**20  # type: ignore[method-assign, misc]
    stage = Stage(dsn, folder, filesystem=s3fs.S3FileSystem(**keys), prefix=root)
    stage.perform("archive 1")


@pytest.fixture
def noisy(postgres: PostgresServer, copies: Copies, few_flights: str) -> Iterator[str]:
    """Give the name of a database with a run planned, whose first object has three parts of noise."""
    stage = copies(few_flights)
    stage.execute("ALTER TABLE flights ADD COLUMN noise text; ALTER TABLE flights ALTER noise SET STORAGE EXTERNAL")
    keys = stage.execute("SELECT id FROM flights ORDER BY time_hour, id LIMIT 900")
    with psycopg.connect(stage.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE filling (id bigint, noise text)")
        with cursor.copy("COPY filling FROM STDIN (FORMAT binary)") as rows:
            rows.set_types(["int8", "text"])
            for (key,) in keys:
                rows.write_row((key, base64.b85encode(os.urandom(13_000)).decode()))
        cursor.execute("UPDATE flights SET noise = filling.noise FROM filling WHERE flights.id = filling.id")
    stage.execute("VACUUM (ANALYZE) flights")
    stage.perform("plan")
    name = stage.dsn.rpartition("/")[2]
    yield postgres.create_database("noisy", name).rpartition("/")[2]
    postgres.drop_database("noisy")


def _points(asked: Counter[str]) -> Iterator[Point]:
    assert asked
    for operation, count in sorted(asked.items()):
        for nth in range(1, count + 1):
            for fault in FAULTS:
                yield Point(operation, nth, fault, for_ever=False)
                yield Point(operation, nth, fault, for_ever=True)


def _before_the_report(stage: Stage) -> None:
    """Come to the report, with an object that did not win."""
    stage.perform(*(step for step in REST if step != "report"))
    _leave_a_loser(stage)


def _leave_a_loser(stage: Stage) -> None:
    """Leave an object that did not win its chunk, for the report to discard."""
    name = "public.flights/run=lost/chunk-0001-lost-000.parquet"
    stage.files.pipe_file(f"{stage.root}/{name}", b"lost")
    stage.execute(
        "INSERT INTO dbhygiene.object (run_id, chunk, nonce, part, name, state)"
        " SELECT run_id, 1, 'lost', 0, %s, 'intended' FROM dbhygiene.run",
        (name,),
    )


def _disturb(stage: Stage, proxy: S3FaultProxy, step: str, point: Point, end: object) -> Iterator[str]:
    """Spoil a request of a step, run the rest of the steps as Airflow would, and say what is wrong with the end."""
    keys = keys_of(stage)
    proxy.spoiled.clear()
    proxy.spoil(point.operation, FAULTS[point.fault], skip=point.nth - 1, times=None if point.for_ever else 1)
    try:
        if point.for_ever:
            yield from _fails(stage, step, point)
            proxy.heal()
        yield from _goes_on(stage, after(step))
    finally:
        proxy.heal()
    if not proxy.spoiled:
        yield "nothing was spoiled: this shows nothing"
    try:
        if step not in ("plan", "report"):
            assert_every_row_is_accounted_for(stage, keys)
        assert_ledger_adds_up(stage)
        assert outcome(stage, step) == end
    except AssertionError as error:
        yield str(error)


def _fails(stage: Stage, step: str, point: Point) -> Iterator[str]:
    """Try a step that cannot succeed: the error is ours, and of the right kind; what it deleted has its receipt."""
    rows, purged = len(keys_of(stage)), _purged(stage)
    spoiled = ("truncated", "altered")
    unread = point.fault in spoiled or (point.operation in NEVER_READ and point.fault == "reset amid the answer")
    try:
        stage.perform(step)
    except StoreUnavailable as error:
        if point.fault in HARMLESS or (point.operation == "GetObject" and point.fault in spoiled):
            yield f"is taken for a failure of the store: {error}"
    except ArchiveDamaged as error:
        if point.operation != "GetObject" or point.fault not in spoiled:
            yield f"is taken for damage: {error}"
    except Exception as error:  # noqa: BLE001 - the very thing that is looked for
        yield f"leaves as {type(error).__name__}: {error}"
    else:
        if point.fault not in HARMLESS and (not unread or point.operation == "GetObject"):
            yield "no error"
    if len(keys_of(stage)) != rows - (_purged(stage) - purged):
        yield "rows are gone without a receipt"


def _goes_on(stage: Stage, steps: tuple[str, ...]) -> Iterator[str]:
    """Run steps; Airflow repeats transient errors, and a person clears the archive task of a damaged chunk."""
    for step in steps:
        for left in reversed(range(TRIES)):
            try:
                if step != "plan" and not step.startswith("archive"):
                    _archive_damaged_anew(stage)
                stage.perform(step)
                break
            except (Transient, ArchiveDamaged) as error:
                if not left:
                    yield f"{step} fails to the end: {error}"
            except HygieneError as error:
                yield f"{step}: {type(error).__name__}: {error}"
                return


def _archive_damaged_anew(stage: Stage) -> None:
    for (number,) in stage.execute("SELECT chunk FROM dbhygiene.chunk WHERE state = 'damaged'"):
        stage.perform(f"archive {number}", f"verify {number}")


def _purged(stage: Stage) -> int:
    known = stage.one("SELECT to_regclass('dbhygiene.chunk') IS NOT NULL")
    return int(stage.one("SELECT coalesce(sum(purged), 0) FROM dbhygiene.chunk")) if known else 0


# What a client of today absorbs by itself


@pytest.mark.parametrize("fault", ["500", "503 SlowDown", "reset amid the answer", "done, answer lost"])
def test_a_single_failure_is_absorbed(planned: Stage, ways: Ways, fault: str) -> None:
    """As the connection is by default, botocore and s3fs ask again: the step does not even notice."""
    keys = keys_of(planned)
    stage = replace(ways.place(planned), filesystem=client(ways.proxy))
    ways.proxy.spoiled.clear()
    operations = ("PutObject", "GetObject", "DeleteObject")
    for operation in operations:
        ways.proxy.spoil(operation, FAULTS[fault])
    _leave_a_loser(stage)
    stage.perform(*STEPS[1:])
    assert ways.proxy.spoiled == dict.fromkeys(operations, 1)
    assert_every_row_is_accounted_for(stage, keys)


def test_what_the_way_has_altered_is_asked_for_again(archived: Stage, ways: Ways) -> None:
    """Where the client compares a digest of its own, it is a failure of the store, and no damage to the object."""
    stage = replace(ways.place(archived), filesystem=client(ways.proxy))
    ways.proxy.spoil("GetObject", alter)
    with pytest.raises(StoreUnavailable, match="checksum"):
        stage.perform("verify 1")
    assert stage.state_of(1) == "archived"
    stage.perform("verify 1", "verify 2", *REST)


# Credentials and clocks


_MEANING: Final[dict[str, tuple[int, type[HygieneError], str]]] = {
    "AccessDenied": (403, PrivilegeMissing, "the store refused"),
    "InvalidAccessKeyId": (403, PrivilegeMissing, "Correct the Airflow connection"),
    "SignatureDoesNotMatch": (403, PrivilegeMissing, "Correct the Airflow connection"),
    "InvalidToken": (400, PrivilegeMissing, "Correct the Airflow connection"),
    "AuthorizationHeaderMalformed": (400, PrivilegeMissing, "Correct the Airflow connection"),
    "ExpiredToken": (400, StoreUnavailable, "the credentials have run out"),
    "TokenRefreshRequired": (400, StoreUnavailable, "the credentials have run out"),
    "RequestTimeTooSkewed": (403, StoreUnavailable, "clock"),
    "NoSuchBucket": (404, NotFound, "no such bucket"),
    "NoSuchUpload": (404, StoreUnavailable, "begins it anew"),
    "RequestTimeout": (400, StoreUnavailable, "did not answer"),
    "KMS.DisabledException": (400, StoreUnavailable, "KMS.DisabledException"),
}


def test_each_code_has_its_meaning(copies: Copies, ways: Ways) -> None:
    """On the way up and on the way back: the chunk stays what it is, no row goes, and a retry goes on."""
    assert set(S3_CODES) - {"AllAccessDisabled", "AccountProblem", "RequestExpired"} <= set(_MEANING)
    for moment, step, operation in (
        ("flights_planned", "archive 1", "PutObject"),
        ("flights_verified", "purge 1", "GetObject"),
    ):
        stage = ways.place(copies(moment))
        keys, state = keys_of(stage), stage.state_of(1)
        for code, (status, kind, said) in _MEANING.items():
            if (code, operation) == ("NoSuchUpload", "GetObject"):
                continue
            ways.proxy.spoil(operation, refuse(status, code), times=None)
            with pytest.raises(kind, match=said):
                stage.perform(step)
            ways.proxy.heal()
            assert (stage.state_of(1), keys_of(stage)) == (state, keys)
        stage.perform(*STEPS[STEPS.index(step) :])
        assert_every_row_is_accounted_for(stage, keys)


def test_a_clock_that_is_wrong_is_told(verified: Stage, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real server's own answer to requests that were signed an hour ago."""
    stage, keys = ways.place(verified), keys_of(verified)
    now = auth.get_current_datetime
    with monkeypatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda *args: now(*args) - timedelta(hours=1))
        with pytest.raises(StoreUnavailable, match="clock"):
            stage.perform("purge 1")
    assert (stage.state_of(1), keys_of(stage)) == ("verified", keys)
    stage.perform(*REST)


def test_no_key_at_all_is_terminal(verified: Stage, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is to be had by asking again."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    without = s3fs.S3FileSystem(client_kwargs={"endpoint_url": ways.proxy.endpoint_url}, skip_instance_cache=True)
    with pytest.raises(PrivilegeMissing, match="Correct the Airflow connection") as refused:
        replace(verified, filesystem=without, prefix="cold/x").perform("purge 1")
    assert isinstance(refused.value, Terminal)
    assert verified.state_of(1) == "verified"


# Lists


def test_no_step_trusts_a_list(copies: Copies, few_flights: str, ways: Ways) -> None:
    """What is in the archive is known from the ledger alone: a whole run and its audit ask for no list at all."""
    stage = ways.place(copies(few_flights))
    before = Counter(ways.proxy.passed)
    stage.perform(*STEPS)
    assert verify_archive(stage.site(), policy="flights").findings == []
    assert not {name for name in ways.proxy.passed - before if name in ("ListObjectsV2", "GetBucket")}


def test_a_list_that_lags_hides_no_loss(verified: Stage, ways: Ways) -> None:
    """Without a ledger certificates are found by a list: the digest that was kept elsewhere says which is missing."""
    stage = ways.place(verified)
    stage.files.find(stage.root)
    old = ways.proxy.answers["ListObjectsV2"]
    stage.perform(*REST)
    (sha256,) = (row[0] for row in stage.execute("SELECT sha256 FROM dbhygiene.certificate"))
    sound = verify_store(stage.store(), sha256)
    assert (sound.findings, sound.certificates) == ([], 1)
    ways.proxy.spoil("ListObjectsV2", repeat(old), times=None)
    try:
        (finding,) = verify_store(stage.store(), sha256).findings
    finally:
        ways.proxy.heal()
    assert sha256 in finding.fault
