"""Certificates, their chain and verify-archive, on every engine: each alteration is found, and named."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from airflow_dbhygiene.databases.mysql import session as mysql_session
from airflow_dbhygiene.databases.postgres import session as postgres_session
from airflow_dbhygiene.errors import ArchiveDamaged, IllegalMove, NotFound, PolicyInvalid, StatementTimedOut
from airflow_dbhygiene.policy import Matching
from airflow_dbhygiene.steps import archive as archiving
from airflow_dbhygiene.steps import erase as erasing
from airflow_dbhygiene.steps import restore as restoring
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.erase import Erased, ErasureWish, erase
from airflow_dbhygiene.steps.hold import HoldWish, place_hold, release_hold
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import describe, report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.steps.verify_archive import Verified, verify_archive, verify_store
from airflow_dbhygiene.stores.parquet import ParquetStore
from airflow_dbhygiene.stores.protocol import Spooled
from airflow_dbhygiene.version import VERSION
from tests.job import AS_OF, STALE_EVENTS, Job, window_of
from tests.mysql_job import MySqlJob

Run = dict[str, Any]


def three_runs(job: Job) -> list[Run]:
    """Purge in three runs of one policy, each some weeks after the one before."""
    policy = job.policy()
    return [job.run(policy, window_of(policy, AS_OF.subtract(days=days))) for days in (100, 50, 0)]


def file_of(job: Job, run: Run) -> Path:
    """Give the run's certificate in the store."""
    return job.folder / str(run["certificate"]).removeprefix("file:///cold/")


def objects_of(run: Run) -> list[Run]:
    """Give what the certificate says of its objects."""
    return [each for chunk in run["chunk_list"] for each in chunk["objects"]]


def test_a_certificate_holds_all_that_an_auditor_asks(events_job: Job) -> None:
    """Policy and digest, predicate, cutoff, counts, objects, approver, versions; the digest is of the stored bytes."""
    policy = events_job.policy()
    place_hold(events_job.site, HoldWish(policy.table, "Smith v. Jones", "legal", where="id < 10", hold_id="case"))
    run = events_job.run(policy)
    again = report(events_job.site, run["run"], "anna")
    stored = json.loads(file_of(events_job, again).read_bytes())
    assert hashlib.sha256(file_of(events_job, again).read_bytes()).hexdigest() == again["certificate_sha256"]
    assert (stored["policy"], stored["policy_digest"]) == ("events", policy.digest)
    assert (stored["predicate"], stored["cutoff"]) == (run["predicate"], "2023-05-06T00:00:00+00:00")
    assert (stored["approver"], stored["state"]) == ("anna", "done")
    assert (stored["rows_purged"], stored["rows_under_hold"]) == (STALE_EVENTS - 10, 10)
    assert [(hold["hold"], hold["placed_by"]) for hold in stored["holds"]] == [("case", "legal")]
    assert "held back: 10 stale rows, by holds case" in describe(stored)
    assert stored["versions"]["airflow_dbhygiene"] == VERSION
    assert stored["versions"]["python"] == platform.python_version()
    assert stored["server"]["version"]
    for each in objects_of(stored):
        content = (events_job.folder / each["name"]).read_bytes()
        assert (each["bytes"], each["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert sum(each["rows"] for each in objects_of(stored)) == STALE_EVENTS - 10


def test_a_report_that_says_the_same_leaves_the_certificate(events_job: Job) -> None:
    """Cleared, it changes nothing; with something new to say it adds a certificate, and the first one stays."""
    tickets = events_job.start(events_job.policy())
    archive(events_job.site, tickets[0].run, tickets[0].chunk)
    failed = report(events_job.site, tickets[0].run)
    before = file_of(events_job, failed).read_bytes()
    assert report(events_job.site, tickets[0].run) == failed
    done = events_job.finish(tickets)
    assert (failed["state"], done["state"]) == ("failed", "done")
    assert (failed["certificate_number"], done["certificate_number"]) == (1, 2)
    assert done["previous_certificate_sha256"] == failed["certificate_sha256"]
    assert (file_of(events_job, failed).name, file_of(events_job, done).name) == (
        "certificate.json",
        "certificate-2.json",
    )
    assert file_of(events_job, failed).read_bytes() == before
    assert verify_archive(events_job.site, run_id=tickets[0].run).findings == []


def test_an_archive_as_it_was_written_is_verified(events_job: Job) -> None:
    """One run, the whole policy, and the store alone: all is read, and nothing is found."""
    runs = three_runs(events_job)
    assert [each["certificate_number"] for each in runs] == [1, 2, 3]
    assert [each["previous_certificate_sha256"] for each in runs[1:]] == [
        each["certificate_sha256"] for each in runs[:2]
    ]
    found = verify_archive(events_job.site, policy="events")
    assert (found.runs, found.certificates, found.rows, found.findings) == (3, 3, STALE_EVENTS, [])
    assert found.objects == sum(len(objects_of(run)) for run in runs)
    assert "all is as it was written" in found.describe()
    assert verify_archive(events_job.site, run_id=runs[1]["run"]).rows == runs[1]["rows_purged"]
    alone = verify_store(events_job.store(), runs[2]["certificate_sha256"])
    assert (alone.runs, alone.certificates, alone.rows, alone.findings) == (3, 3, STALE_EVENTS, [])
    for unknown in ({"policy": "typo"}, {"run_id": "typo"}):
        with pytest.raises(NotFound, match="typo"):
            verify_archive(events_job.site, **unknown)


Alter = Callable[[Job, list[Run]], None]


def cut_an_object(job: Job, runs: list[Run]) -> None:
    """Truncate one object."""
    path = job.folder / objects_of(runs[0])[0]["name"]
    path.write_bytes(path.read_bytes()[:-1])


def swap_objects(job: Job, runs: list[Run]) -> None:
    """Put one sound object in another's place."""
    first, second = (job.folder / objects_of(run)[0]["name"] for run in runs[:2])
    second.write_bytes(first.read_bytes())


def remove_an_object(job: Job, runs: list[Run]) -> None:
    """Remove one object."""
    (job.folder / objects_of(runs[1])[0]["name"]).unlink()


def forge_a_certificate(job: Job, runs: list[Run]) -> None:
    """Make a certificate claim a row less."""
    path = file_of(job, runs[1])
    path.write_text(path.read_text().replace(f'"rows_purged": {runs[1]["rows_purged"]}', '"rows_purged": 1'))


def remove_a_certificate(job: Job, runs: list[Run]) -> None:
    """Remove a certificate from the middle of the chain."""
    file_of(job, runs[1]).unlink()


def forge_the_ledger(job: Job, runs: list[Run]) -> None:
    """Make the ledger claim that fewer rows were purged."""
    job.execute(
        "UPDATE dbhygiene.chunk SET vanished = purged + vanished, purged = 0 WHERE run_id = %s", (runs[2]["run"],)
    )


def forge_a_receipt(job: Job, runs: list[Run]) -> None:
    """Replace an object, and let the ledger's receipt say so."""
    swap_objects(job, runs)
    sound, target = (objects_of(run)[0] for run in runs[:2])
    statement = "UPDATE dbhygiene.object SET bytes = %s, sha256 = %s WHERE name = %s"
    job.execute(statement, (sound["bytes"], sound["sha256"], target["name"]))


def cut_the_chain(job: Job, runs: list[Run]) -> None:
    """Remove a certificate from the ledger."""
    job.execute("DELETE FROM dbhygiene.certificate WHERE run_id = %s", (runs[1]["run"],))


ALTERATIONS: tuple[tuple[Alter, str, bool], ...] = (
    (cut_an_object, r"\.parquet: object .* bytes where", True),
    (swap_objects, r"\.parquet: object .* (bytes where|SHA-256 differs)", True),
    (remove_an_object, r"\.parquet: object .* is missing", True),
    (forge_a_certificate, r"certificate.*(is altered: its SHA-256|missing or altered)", True),
    (remove_a_certificate, r"certificate.* (is missing|missing or altered)", True),
    (forge_the_ledger, r"rows of chunk 1 .* were purged, the ledger 0", False),
    (forge_a_receipt, r"receipt is not what the certificate says", False),
    (cut_the_chain, r"the ledger's chain is broken before number 3", False),
)
"""What is altered, what is said of it, and whether the store alone shows it."""


def test_every_alteration_is_found_and_named(events_job: Job) -> None:
    """One after the other, each undone before the next."""
    runs = three_runs(events_job)
    files = {path: path.read_bytes() for path in events_job.folder.rglob("*") if path.is_file()}
    tables = ("chunk", "object", "certificate")
    for table in tables:
        events_job.execute(f"CREATE TABLE kept_{table} AS SELECT * FROM dbhygiene.{table}")
    for alter, said, shows in ALTERATIONS:
        alter(events_job, runs)
        _assert_found(verify_archive(events_job.site, policy="events"), said)
        alone = verify_store(events_job.store())
        assert bool(alone.findings) == (shows or alter is forge_a_receipt), alter.__name__
        if shows:
            _assert_found(alone, said)
        for path, content in files.items():
            path.write_bytes(content)
        for table in reversed(tables):
            _put_back(events_job, table)
        assert verify_archive(events_job.site, policy="events").findings == [], alter.__name__


def test_all_faults_are_told_and_not_the_first_alone(events_job: Job) -> None:
    """Three at once, each with its run."""
    runs = three_runs(events_job)
    for alter in (cut_an_object, remove_an_object, remove_a_certificate):
        alter(events_job, runs)
    found = verify_archive(events_job.site, policy="events")
    assert len(found.findings) == 3
    assert {each.run for each in found.findings} == {runs[0]["run"], runs[1]["run"]}
    assert len(verify_archive(events_job.site, run_id=runs[2]["run"]).findings) == 0


def test_the_last_certificate_needs_a_witness(events_job: Job) -> None:
    """Whoever removes the last run from the store is found out by a digest that was kept elsewhere."""
    runs = three_runs(events_job)
    file_of(events_job, runs[2]).unlink()
    assert verify_store(events_job.store()).findings == []
    _assert_found(
        verify_store(events_job.store(), runs[2]["certificate_sha256"]), "no certificate here has the SHA-256"
    )


def test_an_address_above_several_policies_verifies_them_all(
    events_job: Job, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each archives to a folder of its own; what is missing is named, what was erased is no fault."""
    three_runs(events_job)
    assert erase(events_job.site, ErasureWish("events", (("5",),), "request 17", "dpo")) == Erased(1)
    cold = tmp_path_factory.mktemp("cold")
    shutil.copytree(events_job.folder, cold / "events")
    above = ParquetStore(fsspec.filesystem("file"), str(cold), url="file:///all")
    found = verify_store(above)
    assert (found.runs, found.rows, found.rows_erased, found.findings) == (3, STALE_EVENTS - 1, 1, [])
    next(path for path in cold.rglob("*.parquet") if "erased" not in path.name).unlink()
    _assert_found(verify_store(above), r"events/.*\.parquet is missing")


def test_where_nothing_is_nothing_is_verified(events_job: Job) -> None:
    """A mistyped address, or a store that somebody has emptied, is no archive as it was written."""
    three_runs(events_job)
    elsewhere = ParquetStore(fsspec.filesystem("file"), str(events_job.folder / "typo"), url="file:///cold/typo")
    _assert_found(verify_store(elsewhere), "file:///cold/typo: no certificate is here")


def _assert_found(found: Verified, said: str) -> None:
    assert re.search(said, found.describe()), found.describe()


def _put_back(job: Job, table: str) -> None:
    keys = {"chunk": ("run_id", "chunk"), "object": ("run_id", "chunk", "nonce", "part")}
    if table == "certificate":
        job.execute("DELETE FROM dbhygiene.certificate")
        job.execute("INSERT INTO dbhygiene.certificate SELECT * FROM kept_certificate")
        return
    names = {"chunk": ("purged", "vanished"), "object": ("bytes", "sha256")}[table]
    same = " AND ".join(f"k.{key} = t.{key}" for key in keys[table])
    sets = ", ".join(f"{name} = (SELECT {name} FROM kept_{table} k WHERE {same})" for name in names)
    job.execute(f"UPDATE dbhygiene.{table} AS t SET {sets}")


@pytest.mark.rights("restore")
def test_a_persons_rows_are_erased_from_the_archive(events_job: Job) -> None:
    """They are in no object any more; the rest is as it was; certificates and verify-archive tell of it."""
    runs = three_runs(events_job)
    with pytest.raises(NotFound, match="typo"):
        erase(events_job.site, ErasureWish("typo", (("1",),), "request 17", "dpo"))
    keys = (("5",), ("2999",), ("9000",))
    assert erase(events_job.site, ErasureWish("events", keys, "request 17", "dpo")) == Erased(2, (("9000",),))
    assert erase(events_job.site, ErasureWish("events", keys, "request 17", "dpo")) == Erased(0, keys)
    assert erase(events_job.site, ErasureWish("events", (("6",),), "request 18", "dpo")) == Erased(1)
    rows = pa.concat_tables(pq.read_table(path, partitioning=None) for path in events_job.folder.rglob("*.parquet"))
    assert sorted(rows.column("id").to_pylist()) == [n for n in range(STALE_EVENTS) if n not in (5, 6, 2_999)]
    for found in (verify_archive(events_job.site, policy="events"), verify_store(events_job.store())):
        assert (found.rows, found.rows_erased, found.findings) == (STALE_EVENTS - 3, 3, [])
    last = report(events_job.site, runs[0]["run"])
    assert (last["restorable"], [each["reason"] for each in last["erasures"]]) == (False, ["request 17", "request 18"])
    with pytest.raises(IllegalMove, match=r"erased from its archive on request \(request 18\)"):
        restore(events_job.site, Wish(runs[0]["run"], "back"))
    (events_job.folder / last["erasures"][-1]["replaced_by"]).unlink()
    _assert_found(verify_archive(events_job.site, policy="events"), r"erased-2\.parquet is missing")


VISITS = {
    False: "id int, at timestamptz, paid numeric(10, 2), held boolean, code uuid",
    True: "id int, at datetime(6), paid decimal(10, 2), held boolean, code varchar(40)",
}
CODE = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"
WRITTEN: dict[bool, tuple[tuple[str, ...], ...]] = {
    False: (
        ("1", "2023-01-01 05:00:00.5+00", "1.50", "t", CODE.lower()),
        ("02", "2023-01-01T06:00:00.500+01:00", "1.5", "true", CODE),
        ("3", "2023-01-01 05:00:00.500000+00:00", "1.50", "True", CODE.lower()),
    ),
    True: (
        ("1", "2023-01-01 05:00:00.500000", "1.50", "1", CODE),
        ("02", "2023-01-01 05:00:00.5", "1.5", "1", CODE),
        ("3", "20230101050000.5", "001.5", "1", CODE),
    ),
}


@pytest.mark.rights("restore")
def test_the_server_reads_the_keys_that_are_to_be_erased(events_job: Job) -> None:
    """As it writes them itself, as Python does, or as a person may; one that is no key of the table is refused."""
    mysql = isinstance(events_job, MySqlJob)
    events_job.execute(f"CREATE TABLE visits ({VISITS[mysql]}, PRIMARY KEY (id, at, paid, held, code))")
    values = (f"({n}, '2023-01-01 05:00:00.5{'' if mysql else '+00'}', 1.5, true, '{CODE}')" for n in range(1, 5))
    events_job.execute(f"INSERT INTO visits VALUES {', '.join(values)}")
    events_job.execute(f"ANALYZE {'TABLE ' * mysql}visits")
    table = events_job.policy().table.replace("events", "visits")
    events_job.run(events_job.policy(name="visits", table=table, stale=Matching("id < 100")))
    for key in WRITTEN[mysql]:
        keys = (key, ("0" + key[0], *key[1:]))  # the same twice: both are met
        assert erase(events_job.site, ErasureWish("visits", keys, "request 17", "dpo")) == Erased(1), key
    left = pa.concat_tables(
        pq.read_table(path, partitioning=None) for path in events_job.folder.rglob("*visits*/**/*.parquet")
    )
    assert left.column("id").to_pylist() == [4]
    with pytest.raises(PolicyInvalid, match=r"a key does not fit \(id, at, paid, held, code\)"):
        erase(events_job.site, ErasureWish("visits", (("one", *WRITTEN[mysql][0][1:]),), "request 17", "dpo"))


@pytest.mark.rights("restore")
def test_what_a_killed_try_has_archived_is_erased_too(events_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """It read a row that was gone when the next try won, and no report has removed its objects yet."""
    ticket, *others = events_job.start(events_job.policy())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archiving, "_claim", _be_killed)
        archive(events_job.site, ticket.run, ticket.chunk)
    events_job.execute("DELETE FROM events WHERE id = 5")
    for each in (ticket, *others):
        for step in (archive, verify, purge):
            step(events_job.site, each.run, each.chunk)
    assert erase(events_job.site, ErasureWish("events", (("5",),), "request 17", "dpo")) == Erased(0, (("5",),))
    rows = pa.concat_tables(pq.read_table(path, partitioning=None) for path in events_job.folder.rglob("*.parquet"))
    assert sorted(rows.column("id").to_pylist()) == [n for n in range(STALE_EVENTS) if n != 5]


@pytest.mark.rights("restore")
def test_two_erasures_at_once_spoil_nothing(events_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that comes second has read what the first one replaces: it is called again, and both rows are gone."""
    events_job.run(events_job.policy())
    first, second = (ErasureWish("events", ((key,),), "request 17", "dpo") for key in ("5", "6"))
    spool, others = ParquetStore.spool, [first]

    @contextmanager
    def spool_and_wait(store: ParquetStore, *arguments: Any) -> Iterator[Spooled]:
        with spool(store, *arguments) as file:
            while others:
                assert erase(events_job.site, others.pop()) == Erased(1)
            yield file

    monkeypatch.setattr(ParquetStore, "spool", spool_and_wait)
    with pytest.raises(StatementTimedOut, match=r"another erasure has replaced .*\.parquet meanwhile"):
        erase(events_job.site, second)
    assert erase(events_job.site, second) == Erased(1)
    found = verify_archive(events_job.site, policy="events")
    assert (found.rows, found.rows_erased, found.findings) == (STALE_EVENTS - 2, 2, [])


@pytest.mark.rights("restore")
def test_an_upload_may_take_longer_than_a_transaction_may_be_idle(
    events_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure holds a lock while it replaces an object: servers that would end its connection meanwhile do not."""
    events_job.run(events_job.policy())
    monkeypatch.setitem(postgres_session.SETTINGS, "idle_in_transaction_session_timeout", "1s")  # type: ignore[arg-type]
    monkeypatch.setitem(mysql_session._MARIADB, "idle_transaction_timeout", 1)  # type: ignore[arg-type]
    upload = ParquetStore.upload

    def upload_slowly(*arguments: Any) -> Any:
        time.sleep(2.5)
        return upload(*arguments)

    monkeypatch.setattr(ParquetStore, "upload", upload_slowly)
    assert erase(events_job.site, ErasureWish("events", (("5",),), "request 17", "dpo")) == Erased(1)


@pytest.mark.rights("restore")
def test_what_a_hold_protects_stays_in_the_archive(events_job: Job) -> None:
    """A case needs it, wherever it lies by now. What a restore holds, and what is held no more, goes."""
    site, table = events_job.site, events_job.policy().table
    run = events_job.run(events_job.policy())["run"]
    holds = ("events.note = 'row 5'", "CASE WHEN id = 6 THEN NULL ELSE note = 'row 9000' END")
    for number, where in enumerate(holds):
        place_hold(site, HoldWish(table, "case 7", "legal", where=where, hold_id=f"case {number}"))
    restore(site, Wish(run, "back"))
    wish = ErasureWish("events", (("5",), ("6",), ("7",), ("9000",)), "request 17", "dpo")
    assert erase(site, wish) == Erased(1, (("9000",),), held=(("5",), ("6",)))
    release_hold(site, "case 1", "legal")
    assert erase(site, wish) == Erased(1, (("7",), ("9000",)), held=(("5",),))
    rows = pa.concat_tables(pq.read_table(path, partitioning=None) for path in events_job.folder.rglob("*.parquet"))
    assert sorted(rows.column("id").to_pylist()) == [n for n in range(STALE_EVENTS) if n not in (6, 7)]
    assert verify_archive(site, policy="events").findings == []
    events_job.execute("ALTER TABLE events ADD COLUMN later int")
    place_hold(site, HoldWish(table, "case 8", "legal", where="later = 1"))
    with pytest.raises(IllegalMove, match=r"whether a hold protects .* cannot be told: .*later"):
        erase(site, replace(wish, keys=(("8",),)))


@pytest.mark.rights("restore")
def test_an_object_that_is_gone_keeps_no_other_from_being_erased(events_job: Job) -> None:
    """A bucket may let old objects go: what is left of a person elsewhere is erased all the same, and the rest told."""
    runs = three_runs(events_job)
    remove_an_object(events_job, runs)
    for _ in range(2):
        with pytest.raises(ArchiveDamaged, match=r"^1 objects could not be looked into; in all others .* is missing"):
            erase(events_job.site, ErasureWish("events", (("2999",),), "request 17", "dpo"))
        found = verify_archive(events_job.site, policy="events")
        assert (found.rows_erased, len(found.findings)) == (1, 1)


def test_a_hold_is_asked_of_the_columns_that_a_mask_has_left(events_job: Job) -> None:
    """One that it cannot be asked of is a reason not to erase."""
    site, table = events_job.site, events_job.policy().table
    events_job.run(events_job.policy(mask={"note": "null"}))
    place_hold(site, HoldWish(table, "case 7", "legal", where="id = 5", hold_id="case 7"))
    wish = ErasureWish("events", (("5",), ("6",)), "request 17", "dpo")
    assert erase(site, wish) == Erased(1, held=(("5",),))
    place_hold(site, HoldWish(table, "case 8", "legal", where="note = 'row 5'"))
    with pytest.raises(IllegalMove, match=r"cannot be told: .*note"):
        erase(site, wish)


@pytest.mark.rights("restore")
def test_a_restore_under_way_brings_nothing_back_that_was_erased(
    events_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the object as it was, and stops at its next batch."""
    run = events_job.run(events_job.policy())["run"]
    batch, others = restoring._restore_batch, [ErasureWish("events", (("500",),), "request 17", "dpo")]

    def erased_meanwhile(job: Any, chunk: Any, span: range, rows: pa.Table) -> Any:
        while span.start and others:
            assert erase(events_job.site, others.pop()) == Erased(1)
        return batch(job, chunk, span, rows)

    monkeypatch.setattr(restoring, "_BATCH_ROWS", 100)
    monkeypatch.setattr(restoring, "_restore_batch", erased_meanwhile)
    with pytest.raises(IllegalMove, match="were erased from its archive on request"):
        restore(events_job.site, Wish(run, "back"))
    assert events_job.execute("SELECT count(*), max(id) FROM events WHERE id < 3000") == [(100, 99)]


def _be_killed(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.rights("restore")
def test_a_run_that_begins_during_an_erasure_is_left_alone(events_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its archive is of what the table holds by then, and goes on being whole."""
    policy = events_job.policy()
    events_job.run(policy, window_of(policy, AS_OF.subtract(days=50)))
    ticket, *_ = events_job.start(policy)
    check = erasing._check

    def check_while_it_begins(*arguments: Any) -> None:
        check(*arguments)
        archive(events_job.site, ticket.run, ticket.chunk)

    monkeypatch.setattr(erasing, "_check", check_while_it_begins)
    assert erase(events_job.site, ErasureWish("events", (("5",), ("1900",)), "request 17", "dpo")) == Erased(
        1, (("1900",),)
    )
    verify(events_job.site, ticket.run, ticket.chunk)
    assert purge(events_job.site, ticket.run, ticket.chunk).purged > 0


@pytest.mark.rights("restore")
def test_a_run_that_can_never_end_does_not_stand_against_erasure(events_job: Job) -> None:
    """While it has archived nothing; and once its table is another, when what it has archived is erased too."""
    policy = events_job.policy()
    events_job.run(policy, window_of(policy, AS_OF.subtract(days=50)))
    ticket, *_ = events_job.start(policy)
    assert erase(events_job.site, ErasureWish("events", (("4",),), "request 16", "dpo")) == Erased(1)
    archive(events_job.site, ticket.run, ticket.chunk)
    wish = ErasureWish("events", (("5",), ("1900",)), "request 17", "dpo")
    with pytest.raises(
        IllegalMove, match=r"is not purged\. Finish the run first: clear the failed tasks of its DAG run \(tests, one\)"
    ):
        erase(events_job.site, wish)
    events_job.execute("ALTER TABLE events ADD COLUMN more int")
    assert erase(events_job.site, wish) == Erased(2)
    found = verify_archive(events_job.site, policy="events")
    assert (found.rows_erased, found.findings) == (3, [])
