"""Two workers at once, answers that never arrive, servers that crash, and servers that are not the planned one.

Invariants 3 and 4.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from airflow_dbhygiene.errors import DatabaseUnavailable, ReadOnlyServer, WrongServer
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.steps import archive as archive_step
from airflow_dbhygiene.steps.hold import HoldWish, place_hold
from airflow_dbhygiene.steps.pause import pause, resume
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.site import Site
from tests.faults.between import after_delete, before_batch
from tests.faults.kill_points import Forge, Point
from tests.faults.share import NOTE, chosen
from tests.faults.stage import (
    ALL_ROWS,
    BATCH_ROWS,
    CHUNK_ROWS,
    REST,
    RUN,
    STALE_ROWS,
    VERIFIED,
    Copies,
    Stage,
    assert_every_row_is_accounted_for,
    assert_ledger_adds_up,
    drop_and_copy,
    edit_plan,
    end_state,
    keys_of,
    lay_out,
    set_pace,
    strangers,
)
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import FaultProxy, Flow


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Give a process that forks workers."""
    with Forge(tmp_path_factory.mktemp("workers")) as forge:
        yield forge


# Twins


def test_two_workers_archive_at_once(planned: Stage, forge: Forge) -> None:
    """One wins, and the other removes what it has written."""
    keys = keys_of(planned)
    workers = [forge.start(planned, "archive 1", "archive 2") for _ in range(2)]
    for worker in workers:
        worker.ending().succeeded()
    planned.perform("verify 1", "verify 2", *REST)
    assert planned.figures(1)["archived_rows"] == CHUNK_ROWS
    assert_every_row_is_accounted_for(planned, keys)
    assert list(strangers(planned)) == []


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_that_purge_at_once_take_turns(verified: Stage, forge: Forge, workers: int) -> None:
    """Batch by batch one or the other is first, and each batch is counted once."""
    keys = keys_of(verified)
    set_pace(verified, max_batch_rows=160)
    verified.execute("UPDATE flights SET dest = 'XXX' WHERE id = %s", (verified.id_at(300),))
    twins = [forge.start(verified, "purge 1", "purge 2") for _ in range(workers)]
    for twin in twins:
        twin.ending().succeeded()
    assert verified.figures(1)["drifted"] == 1
    verified.perform("report")
    assert_every_row_is_accounted_for(verified, keys)


def test_twins_that_meet_locked_rows_settle_them_once(verified: Stage, forge: Forge) -> None:
    """All come back for the rows that the application had locked, and each row is counted once."""
    keys = keys_of(verified)
    set_pace(verified, max_batch_rows=160)
    locked = [verified.id_at(ordinal) for ordinal in range(0, CHUNK_ROWS, 90)]
    with verified.application() as application:
        application.execute("SELECT FROM flights WHERE id = ANY(%s) FOR UPDATE", (locked,))
        workers = [forge.start(verified, "purge 1") for _ in range(3)]
        _wait_until(lambda: verified.figures(1)["locked"] > len(locked) // 2)
        application.execute("UPDATE flights SET dest = 'XXX' WHERE id = %s", (locked[0],))
        application.commit()
    for worker in workers:
        worker.ending().succeeded()
    assert verified.figures(1) | {"drifted": 1, "locked": 0} == verified.figures(1)
    verified.perform("purge 2", "report")
    assert_every_row_is_accounted_for(verified, keys)


OVERTAKEN = {
    "archive 1": ("flights_planned", ("archive 1", "archive 2", "verify 1", "verify 2", *REST)),
    "verify 1": ("flights_archived", ("verify 1", "verify 2", *REST)),
    "purge 1": ("flights_verified", REST),
    "report": ("flights_verified", ("report",)),
}
"""The step in which a worker stands still, the moment before it, and what another worker does meanwhile."""


@pytest.mark.parametrize("step", OVERTAKEN)
def test_a_worker_that_is_overtaken_does_no_harm(forge: Forge, copies: Copies, step: str) -> None:
    """It stands still anywhere, as one whose task was cleared may; another ends the run; then the first goes on."""
    moment, meanwhile = OVERTAKEN[step]
    undisturbed = copies(moment)
    keys = keys_of(undisturbed)
    if step == "report":
        meanwhile = REST
    # Between a point and the next, nothing happens outside.
    passed = [point for point in forge.run(copies(moment), step).succeeded().points if point.moment != "after"]
    undisturbed = copies(moment)
    undisturbed.perform(*meanwhile)
    end = end_state(undisturbed)
    faults = []
    for point in chosen(passed, f"overtaken in {step}"):
        stage = copies(moment)
        faults += [f"stood still {point}: {fault}" for fault in _overtake(forge, stage, step, point, meanwhile)]
        try:
            assert_every_row_is_accounted_for(stage, keys)
            assert end_state(stage) == end
        except AssertionError as error:
            faults.append(f"stood still {point}: {error}")
    assert not faults, f"{len(faults)} faults ({NOTE}):\n" + "\n".join(fault[:2000] for fault in faults[:20])


def _overtake(forge: Forge, stage: Stage, step: str, point: Point, meanwhile: tuple[str, ...]) -> Iterator[str]:
    first = forge.start(stage, step, at=point, signal=signal.SIGSTOP)
    if not first.stopped():
        yield "the point was not met"
        return
    if stage.one(_LEDGER_UNDER_LOCK):  # then the other has to wait until the first goes on
        second = forge.start(stage, *meanwhile)
        time.sleep(0.05)
        first.go_on()
        endings = [second.ending(), first.ending()]
    else:
        endings = [forge.run(stage, *meanwhile)]
        first.go_on()
        endings.append(first.ending())
    yield from (str(ending.error) for ending in endings if ending.error)
    if step == "report":
        forge.run(stage, "report").succeeded()


_LEDGER_UNDER_LOCK = """
SELECT count(*) FROM pg_locks
WHERE relation IN ('dbhygiene.chunk'::regclass, 'dbhygiene.run'::regclass)
  AND mode IN ('RowShareLock', 'RowExclusiveLock')
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def test_an_attempt_that_wins_while_the_report_tidies_up_keeps_its_objects(
    planned: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that found the chunk without a winner looks again, under the chunk's lock, before it removes any."""
    keys = keys_of(planned)
    claim, listed = archive_step._claim, Objects.losing
    waiting: list[Callable[[], object]] = []

    def claim_later(*args: Any) -> int:
        waiting.append(lambda: claim(*args))
        return 0

    def list_and_be_overtaken(objects: Objects, run_id: str) -> Any:
        losers = listed(objects, run_id)
        while waiting:
            waiting.pop()()
        return losers

    monkeypatch.setattr(archive_step, "_claim", claim_later)
    planned.perform("archive 1")
    monkeypatch.setattr(archive_step, "_claim", claim)
    monkeypatch.setattr(Objects, "losing", list_and_be_overtaken)
    planned.perform("report")
    assert planned.state_of(1) == "archived"
    planned.perform("archive 2", "verify 1", "verify 2", *REST)
    assert_every_row_is_accounted_for(planned, keys)


def test_a_verdict_is_on_the_archive_that_was_read(archived: Stage) -> None:
    """While verify reads, a twin finds the archive damaged and it is written anew: the new one is not verified."""
    site = archived.site()
    original = site.database.differing
    renewed: list[bool] = []

    def renew_meanwhile(*args: Any) -> tuple[int, int]:
        if not renewed:
            archived.execute("UPDATE dbhygiene.chunk SET state = 'damaged' WHERE chunk = 1")
            archived.perform("archive 1")
            renewed.append(True)
        return original(*args)

    site.database.differing = renew_meanwhile  # type: ignore[method-assign]
    archived.perform("verify 1", site=site)
    assert archived.state_of(1) == "archived"


def test_a_killed_workers_statement_may_still_be_running(verified: Stage, forge: Forge) -> None:
    """The server goes on with a DELETE whose worker is dead; the retry waits for its end, and nothing counts twice."""
    keys = keys_of(verified)
    set_pace(verified, lock_timeout_seconds=0.5)
    with verified.application() as application:
        application.execute("UPDATE flights SET dest = dest WHERE id = %s", (verified.id_at(400),))
        orphan = forge.start(verified, "purge 1")
        _wait_until(lambda: verified.one(_BATCHES_THAT_WAIT))
        forge.kill(orphan)
        retry = forge.start(verified, "purge 1")
        time.sleep(0.1)
        application.rollback()
    retry.ending().succeeded()
    verified.perform("purge 2", "report")
    assert verified.figures(1)["purged"] == CHUNK_ROWS
    assert_every_row_is_accounted_for(verified, keys)


_BATCHES_THAT_WAIT = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'airflow-dbhygiene' AND wait_event_type = 'Lock' AND datname = current_database()
"""


# Lost acknowledgements


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[FaultProxy]:
    """Give a way to the database that can be cut."""
    with FaultProxy((postgres.host, postgres.port)) as proxy:
        yield proxy


LOST = {"plan": 3, "archive 1": 4, "verify 1": 3, "purge 1": 4}
"""How many transactions and ledger writes of each step are cut, at least."""


@pytest.mark.parametrize("flow", [Flow.DOWN, Flow.UP], ids=["the answer", "the request"])
@pytest.mark.parametrize("step", LOST)
def test_what_is_lost_on_the_way_is_made_good_by_the_retry(
    copies: Copies, proxy: FaultProxy, step: str, flow: Flow
) -> None:
    """The connection is cut right before the answer to, or the request of, each COMMIT and each write of the ledger."""
    moments = {"plan": "few_flights", "archive 1": "flights_planned", "verify 1": "flights_archived"}
    before = moments.get(step, "flights_verified")
    number = 0
    while True:
        stage, number = copies(before), number + 1
        keys = keys_of(stage)
        if before == "flights_verified":
            stage.execute("UPDATE flights SET dest = 'XXX' WHERE id = %s", (stage.id_at(700),))
        with _cutting(proxy, flow, number) as cut:
            try:
                stage.perform(step, site=_through(stage, proxy))
            except DatabaseUnavailable:
                assert cut
        if not cut:
            break
        proxy.heal()
        stage.perform(*(*VERIFIED, *REST)[(*VERIFIED, *REST).index(step) :])
        assert_every_row_is_accounted_for(stage, keys)
        assert stage.figures(1)["drifted"] == (1 if before == "flights_verified" else 0)
        assert list(strangers(stage)) == []
    assert number > LOST[step]


def test_a_connection_that_is_reset_amid_a_delete_deletes_nothing(verified: Stage, proxy: FaultProxy) -> None:
    """The server rolls back what nobody can commit any more, and the retry starts where the fence stands."""
    keys = keys_of(verified)
    set_pace(verified, lock_timeout_seconds=0.5)
    with verified.application() as application:
        application.execute("SELECT FROM flights WHERE id = %s FOR UPDATE", (verified.id_at(700),))

        def reset() -> None:
            _wait_until(lambda: verified.one(_BATCHES_THAT_WAIT))
            proxy.reset_all()

        breaker = threading.Thread(target=reset)
        breaker.start()
        with pytest.raises(DatabaseUnavailable):
            verified.perform("purge 1", site=_through(verified, proxy))
        breaker.join()
    assert verified.figures(1)["purged_through"] == BATCH_ROWS
    assert verified.one("SELECT count(*) FROM flights") == ALL_ROWS - BATCH_ROWS
    verified.perform(*REST)
    assert_every_row_is_accounted_for(verified, keys)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_connection_that_is_reset_before_the_receipt_takes_the_delete_along(
    verified: Stage, proxy: FaultProxy, batch: int
) -> None:
    """Rows that were deleted are there again, since their receipt never was."""
    keys = keys_of(verified)
    site = after_delete(verified, batch, proxy.reset_all, _through(verified, proxy))
    with pytest.raises(DatabaseUnavailable):
        verified.perform("purge 1", site=site)
    assert verified.figures(1)["purged_through"] == (batch - 1) * BATCH_ROWS
    assert_ledger_adds_up(verified)
    verified.perform(*REST)
    assert_every_row_is_accounted_for(verified, keys)


# Servers that crash, or are others


@pytest.fixture(scope="module")
def frail(postgres: PostgresServer, flights_template: str) -> Iterator[PostgresServer]:
    """Give a server of this file's own that may crash.

    It writes asynchronous commits to the disk every ten seconds only, so that a crash is sure to lose them.
    """
    settings = {"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "autovacuum": "off"}
    with PostgresServer.start("16", settings=settings) as server:
        lay_out(server, postgres.dsn(flights_template), "few_flights")
        yield server


@pytest.fixture
def crashing(frail: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Give a stage on it, with both chunks verified."""
    stage = Stage(drop_and_copy(frail, "crashing", "few_flights"), tmp_path_factory.mktemp("cold"))
    stage.perform(*VERIFIED)
    return stage


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before the batch", "before its commit"])
def test_a_server_that_crashes_amid_a_purge(crashing: Stage, frail: PostgresServer, batch: int, moment: str) -> None:
    """After the crash rows and ledger agree, whatever was committed; the retry ends the run as if nothing had been."""
    keys = keys_of(crashing)
    at = before_batch if moment == "before the batch" else after_delete
    with pytest.raises(DatabaseUnavailable):
        crashing.perform("purge 1", site=at(crashing, batch, frail.kill))
    frail.restart()
    assert crashing.one("SELECT count(*) FROM flights") == ALL_ROWS - crashing.figures(1)["purged_through"]
    assert_ledger_adds_up(crashing)
    crashing.perform(*REST)
    assert crashing.figures(1)["purged"] == CHUNK_ROWS
    assert_every_row_is_accounted_for(crashing, keys)


def test_batches_that_a_crash_has_taken_back_are_done_again(crashing: Stage, frail: PostgresServer) -> None:
    """They had been acknowledged before they were on the disk: delete and receipt are gone together."""
    keys, acknowledged = keys_of(crashing), []

    def crash() -> None:
        acknowledged.append(crashing.figures(1)["purged_through"])
        frail.kill()

    with pytest.raises(DatabaseUnavailable):
        crashing.perform("purge 1", site=before_batch(crashing, 3, crash))
    frail.restart()
    assert acknowledged == [2 * BATCH_ROWS]
    assert crashing.figures(1)["purged_through"] < 2 * BATCH_ROWS, "nothing was lost: this shows nothing"
    assert crashing.one("SELECT count(*) FROM flights") == ALL_ROWS - crashing.figures(1)["purged_through"]
    crashing.perform(*REST)
    assert_every_row_is_accounted_for(crashing, keys)


def test_a_purged_chunk_survives_a_crash(crashing: Stage, frail: PostgresServer) -> None:
    """A task that says that its chunk is purged has it on the disk, even where commits are asynchronous by default."""
    crashing.execute("ALTER DATABASE crashing SET synchronous_commit = off")
    crashing.perform("purge 1")
    frail.kill()
    frail.restart()
    assert crashing.state_of(1) == "purged"
    assert crashing.one("SELECT count(*) FROM flights") == ALL_ROWS - CHUNK_ROWS


def test_whatever_was_told_survives_a_crash(frail: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A plan, a verified chunk, a hold, a pause and a restore are on the disk, whatever the database's default is.

    A hold that was promised, and then forgotten, would let its rows go.
    """
    stage = Stage(drop_and_copy(frail, "crashing", "few_flights"), tmp_path_factory.mktemp("cold"))
    stage.execute("ALTER DATABASE crashing SET synchronous_commit = off")
    wish = Wish(RUN, "back")
    done: dict[str, tuple[Callable[[], object], str, object]] = {
        "plan": (lambda: stage.perform("plan"), "SELECT count(*) FROM dbhygiene.run", 1),
        "verify": (
            lambda: stage.perform(*VERIFIED),
            "SELECT count(*) FROM dbhygiene.chunk WHERE state = 'verified'",
            2,
        ),
        "hold": (
            lambda: place_hold(stage.site(), HoldWish("public.flights", "a dispute", "legal", where="id = 1")),
            "SELECT count(*) FROM dbhygiene.hold WHERE placed_by = 'legal'",
            1,
        ),
        "pause": (lambda: pause(stage.site(), "all", "a sale", "ops"), "SELECT count(*) FROM dbhygiene.pause", 1),
        "resume, purge": (
            lambda: (resume(stage.site(), "all"), stage.perform("purge 1", "purge 2")),
            "SELECT count(*) FROM flights WHERE id <> 1",
            ALL_ROWS - STALE_ROWS,
        ),
        "restore": (lambda: restore(stage.site(), wish), "SELECT count(*) FROM flights", ALL_ROWS),
    }
    for name, (act, question, answer) in done.items():
        act()
        frail.kill()
        frail.restart()
        assert (name, stage.one(question)) == (name, answer)


def test_a_standby_is_refused_and_so_is_what_becomes_of_it(crashing: Stage, frail: PostgresServer) -> None:
    """On a standby nothing can be done; after a failover versions mean nothing, and each step says so."""
    keys = keys_of(crashing)
    with frail.start_replica() as replica:
        copy = Stage(replica.dsn("crashing"), crashing.folder)
        for step in ("plan", "purge 1"):
            with pytest.raises(ReadOnlyServer):
                copy.perform(step)
        with psycopg.connect(replica.dsn(), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")
        _assert_wrong_server(copy)
        assert keys_of(copy) == keys


def test_a_server_that_is_read_only_is_refused(verified: Stage) -> None:
    """The error says so before anything is tried."""
    database = verified.dsn.rpartition("/")[2]
    verified.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with pytest.raises(ReadOnlyServer):
        verified.perform("purge 1")
    assert verified.state_of(1) == "verified"


@pytest.mark.parametrize(("field", "value"), [("system_identifier", "7000000000000000000"), ("timeline", "00000007")])
def test_another_server_is_refused(copies: Copies, field: str, value: str) -> None:
    """A run that was planned elsewhere, or before a failover, is not gone on with in any step."""
    for moment, step in (("flights_planned", "archive 1"), ("flights_archived", "verify 1")):
        stage = copies(moment)
        edit_plan(stage, ("server", field), value)
        with pytest.raises(WrongServer, match="start a new one"):
            stage.perform(step)
    stage = copies("flights_verified")
    keys = keys_of(stage)
    edit_plan(stage, ("server", field), value)
    _assert_wrong_server(stage)
    assert keys_of(stage) == keys


def test_a_failover_between_two_batches_is_noticed(verified: Stage) -> None:
    """Each batch asks again: the connection may lead to another server than the one before."""
    site = before_batch(verified, 2, lambda: edit_plan(verified, ("server", "timeline"), "00000007"))
    server, batches = site.database.server, []

    def other_server_later(session: Any) -> Any:
        found = server(session)
        batches.append(found)
        return found if len(batches) < 2 else type(found)(**(vars(found) | {"timeline": "00000007"}))

    site.database.server = other_server_later  # type: ignore[method-assign]
    with pytest.raises(WrongServer):
        verified.perform("purge 1", site=site)
    assert verified.figures(1)["purged"] == BATCH_ROWS


# What the tests above are made of


def _assert_wrong_server(stage: Stage) -> None:
    for step in ("plan", "purge 1", "purge 2"):
        with pytest.raises(WrongServer):
            stage.perform(step)


def _through(stage: Stage, proxy: FaultProxy) -> Site:
    scheme, _, rest = stage.dsn.partition("@")
    return stage.site(f"{scheme}@{proxy.host}:{proxy.port}/{rest.partition('/')[2]}")


@contextmanager
def _cutting(proxy: FaultProxy, flow: Flow, number: int) -> Iterator[list[bool]]:
    """Cut the connection at the n-th COMMIT or single write of the ledger; the list is empty when there are fewer."""
    cut: list[bool] = []
    count = 0
    commit, execute = psycopg.Transaction.__exit__, psycopg.Cursor.execute

    def reach() -> None:
        nonlocal count
        count += 1
        if count == number:
            cut.append(True)
            proxy.cut_after(0, flow)

    def committing(transaction: Any, error: Any, *args: Any) -> Any:
        if error is None:
            reach()
        return commit(transaction, error, *args)

    def executing(cursor: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        write = str(statement).split(maxsplit=1)[0] in ("INSERT", "UPDATE") and "dbhygiene." in str(statement)
        if write and cursor.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            reach()
        return execute(cursor, statement, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Transaction, "__exit__", committing)
        patch.setattr(psycopg.Cursor, "execute", executing)
        yield cut


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
