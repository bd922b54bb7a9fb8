"""The application holds locks while its rows are purged: it never waits long, and no change of it is lost.

Invariants 1, 2 and 10.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from airflow_dbhygiene.errors import (
    Paused,
    RowsLocked,
)
from airflow_dbhygiene.ledger import Ledger
from tests.faults.stage import (
    CHUNK_ROWS,
    ORDINAL,
    POLICY,
    REST,
    RUN,
    VERIFIED,
    Stage,
    assert_every_row_is_accounted_for,
    assert_ledger_adds_up,
    keys_of,
    place_hold,
    set_pace,
)


def test_a_change_that_is_committed_in_time_is_seen(verified: Stage) -> None:
    """The row is locked when its batch comes by, and drifted when purge returns to it."""
    keys, key = keys_of(verified), verified.id_at(ORDINAL)
    with verified.application() as application:
        application.execute("UPDATE flights SET dest = 'XXX' WHERE id = %s", (key,))
        _once_skipped(verified, application.commit, lambda: verified.perform("purge 1"))
    assert verified.one("SELECT dest FROM flights WHERE id = %s", (key,)) == "XXX"
    assert _outcomes(verified) == {"drifted": 1}
    verified.perform("purge 2", "report")
    assert_every_row_is_accounted_for(verified, keys)


def test_a_change_that_is_rolled_back_was_none(verified: Stage) -> None:
    """The row is locked when its batch comes by, and purged when purge returns to it."""
    keys, key = keys_of(verified), verified.id_at(ORDINAL)
    with verified.application() as application:
        application.execute("DELETE FROM flights WHERE id = %s", (key,))
        _once_skipped(verified, application.rollback, lambda: verified.perform("purge 1"))
    assert verified.figures(1)["purged"] == CHUNK_ROWS
    assert verified.one("SELECT sum(locked)::int FROM dbhygiene.batch") == 1
    verified.perform("purge 2", "report")
    assert_every_row_is_accounted_for(verified, keys)


def test_a_row_that_is_locked_for_ever_is_left_to_a_retry(verified: Stage) -> None:
    """All other rows are purged, the error is one that a retry helps, and the retry after the release ends it."""
    keys, key = keys_of(verified), verified.id_at(ORDINAL)
    with verified.application() as application:
        application.execute("SELECT FROM flights WHERE id = %s FOR UPDATE", (key,))
        with pytest.raises(RowsLocked, match="1 rows locked"):
            verified.perform("purge 1")
        assert verified.figures(1) | {"purged": CHUNK_ROWS - 1, "locked": 1} == verified.figures(1)
        assert verified.state_of(1) == "purging"
        assert_ledger_adds_up(verified)
    verified.perform(*REST)
    assert verified.figures(1)["purged"] == CHUNK_ROWS
    assert_every_row_is_accounted_for(verified, keys)


def test_many_locked_rows_are_settled_however_many_rounds_that_takes(
    verified: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is given up while there is progress: more rounds go by here than tries are made in vain."""
    monkeypatch.setattr("airflow_dbhygiene.steps.purge._LOCKED_AT_A_TIME", 1)
    keys, locked = keys_of(verified), [verified.id_at(ORDINAL + n) for n in range(8)]
    with verified.application() as application:
        application.execute("SELECT FROM flights WHERE id = ANY(%s) FOR UPDATE", (locked,))
        _once_skipped(verified, application.rollback, lambda: verified.perform("purge 1"))
    assert verified.figures(1)["purged"] == CHUNK_ROWS
    verified.perform("purge 2", "report")
    assert_every_row_is_accounted_for(verified, keys)


def test_rows_behind_a_row_that_stays_locked_are_settled(verified: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round asks for all that were skipped, not for the first of them again and again."""
    monkeypatch.setattr("airflow_dbhygiene.steps.purge._LOCKED_AT_A_TIME", 1)
    kept, released = verified.id_at(ORDINAL), verified.id_at(ORDINAL + 1)
    with verified.application() as keeping, verified.application() as releasing:
        keeping.execute("SELECT FROM flights WHERE id = %s FOR UPDATE", (kept,))
        releasing.execute("SELECT FROM flights WHERE id = %s FOR UPDATE", (released,))
        with pytest.raises(RowsLocked, match="1 rows locked"):
            _once_skipped(verified, releasing.rollback, lambda: verified.perform("purge 1"))
        assert verified.figures(1)["purged"] == CHUNK_ROWS - 1
        assert_ledger_adds_up(verified)


def test_a_row_that_others_begin_to_point_at_stays(stage: Stage) -> None:
    """A child is committed while the DELETE runs, too late for it to see: row by row its parent is left out."""
    stage = replace(stage, policy=POLICY.model_copy(update={"children": "skip"}))
    stage.execute("CREATE TABLE child (flight int PRIMARY KEY REFERENCES flights)")
    stage.execute("INSERT INTO child SELECT max(id) FROM flights")
    stage.perform(*VERIFIED)
    set_pace(stage, lock_timeout_seconds=0.5)
    key = stage.id_at(ORDINAL)
    with stage.application() as application:
        application.execute("INSERT INTO child VALUES (%s)", (key,))
        waiter = threading.Thread(
            target=lambda: (_wait_until(lambda: stage.one(_BATCHES_THAT_WAIT)), application.commit())
        )
        waiter.start()
        stage.perform("purge 1")
        waiter.join()
    assert key in keys_of(stage)
    assert _outcomes(stage) == {"drifted": 1}


def test_a_share_lock_keeps_a_row_too(verified: Stage) -> None:
    """An uncommitted row of another table that points at ours holds it by FOR KEY SHARE: it is not deleted."""
    keys, key = keys_of(verified), verified.id_at(ORDINAL)
    with verified.application() as application:
        application.execute("SELECT FROM flights WHERE id = %s FOR KEY SHARE", (key,))
        with pytest.raises(RowsLocked):
            verified.perform("purge 1")
        assert key in keys_of(verified)
    verified.perform(*REST)
    assert_every_row_is_accounted_for(verified, keys)


def test_a_change_between_look_and_delete_is_not_lost(verified: Stage) -> None:
    """Row by row, a row that is updated after it was looked at is not deleted in its new version."""
    keys, drifted, changing = keys_of(verified), verified.id_at(ORDINAL), verified.id_at(ORDINAL + 1)
    verified.execute("UPDATE flights SET dest = 'XXX' WHERE id = %s", (drifted,))
    with _slow_look(
        verified, lambda: verified.execute("UPDATE flights SET dest = 'YYY' WHERE id = %s", (changing,))
    ) as site:
        verified.perform("purge 1", site=site)
    assert verified.one("SELECT dest FROM flights WHERE id = %s", (changing,)) == "YYY"
    assert _outcomes(verified) == {"drifted": 2}
    verified.perform("purge 2", "report")
    assert_every_row_is_accounted_for(verified, keys)


@pytest.mark.parametrize("deadlock_timeout", ["1s", "300ms"])
def test_the_application_is_not_the_victim_of_a_deadlock(verified: Stage, deadlock_timeout: str) -> None:
    """It holds row B and waits for row A, which a batch has deleted before it wants B: the batch gives way in time.

    So it does on a server that looks for deadlocks sooner. Another transaction holds the batch up in between, so that
    the application has waited longer than the batch.
    """
    database = sql.Identifier(verified.dsn.rpartition("/")[2]).as_string()
    verified.execute(f"ALTER DATABASE {database} SET deadlock_timeout = '{deadlock_timeout}'")
    set_pace(verified, lock_timeout_seconds=0.5)
    keys = keys_of(verified)
    row_a, row_between, row_b = (verified.id_at(ordinal) for ordinal in (10, 200, 400))
    errors: list[Exception] = []
    with verified.application() as application, verified.application() as another:
        application.execute("UPDATE flights SET dest = 'BBB' WHERE id = %s", (row_b,))
        another.execute("SELECT FROM flights WHERE id = %s FOR UPDATE", (row_between,))

        def want_row_a() -> None:
            _wait_until(lambda: verified.one(_BATCHES_THAT_WAIT))  # it has deleted row A by then
            threading.Timer(0.05, another.rollback).start()
            try:
                application.execute("UPDATE flights SET dest = 'AAA' WHERE id = %s", (row_a,))
                application.commit()
            except psycopg.Error as error:
                errors.append(error)

        waiter = threading.Thread(target=want_row_a)
        waiter.start()
        verified.perform("purge 1")
        waiter.join()
    assert errors == []
    found = verified.execute("SELECT id, dest FROM flights WHERE id = ANY(%s)", ([row_a, row_b],))
    assert dict(found) == {row_a: "AAA", row_b: "BBB"}
    verified.perform("purge 2", "report")
    assert_every_row_is_accounted_for(verified, keys)


def test_no_batch_lasts_until_others_look_for_a_deadlock(verified: Stage) -> None:
    """A range that takes longer is given up, and done row by row, without waiting for anybody."""
    database = sql.Identifier(verified.dsn.rpartition("/")[2]).as_string()
    verified.execute(f"ALTER DATABASE {database} SET deadlock_timeout = '1ms'")
    set_pace(verified, lock_timeout_seconds=0.5, max_batch_rows=20_000)
    place_hold(verified, "(SELECT count(*) FROM generate_series(1, 100 + id % 2)) < 0")  # or a range is done by then
    keys = keys_of(verified)
    verified.perform("purge 1", "purge 2", "report")
    assert verified.one("SELECT count(*) FROM dbhygiene.batch WHERE careful") > 0
    assert_every_row_is_accounted_for(verified, keys)


def test_where_a_range_takes_too_long_the_rest_of_its_object_goes_row_by_row(verified: Stage) -> None:
    """Few rows of the table are stale, say, and each range of them is wide: it is tried twice for each object."""
    database = sql.Identifier(verified.dsn.rpartition("/")[2]).as_string()
    verified.execute(f"ALTER DATABASE {database} SET deadlock_timeout = '50ms'")
    set_pace(verified, max_batch_rows=100)
    site, tries = verified.site(), []

    def slowly(session: Any, *_: Any) -> bool:
        tries.append(session)
        with session.before_a_deadlock():
            session.execute("SELECT pg_sleep(10)")
        return False

    site.database.delete = slowly  # type: ignore[method-assign]
    verified.perform("purge 1", site=site)
    assert len(tries) == 2 * verified.one("SELECT count(*) FROM dbhygiene.object WHERE chunk = 1")
    assert verified.one("SELECT count(*) FROM dbhygiene.batch") > len(tries)
    assert verified.figures(1)["purged"] == CHUNK_ROWS


def test_a_serializable_application_is_not_the_victim_of_an_archive(planned: Stage) -> None:
    """Read by a serializable transaction, which the database's default would make it, rows could not be changed."""
    one, other = planned.id_at(10), planned.id_at(CHUNK_ROWS - 10)  # on other pages
    with planned.site().database.session() as session:
        run, chunk = Ledger(session).existing_run(RUN), Ledger(session).chunk(RUN, 1)
    planned.execute(f"ALTER DATABASE {planned.dsn.rpartition('/')[2]} SET default_transaction_isolation = serializable")
    with planned.application() as application:
        application.execute("SELECT dest FROM flights WHERE id = %s", (one,))
        planned.execute("UPDATE flights SET dest = 'XXX' WHERE id = %s", (one,))
        with planned.site().database.read(run.selection, chunk.span, None, CHUNK_ROWS, None) as batches:
            assert sum(batch.num_rows for batch in batches) == CHUNK_ROWS
            application.execute("UPDATE flights SET dest = 'YYY' WHERE id = %s", (other,))
            application.commit()
    assert planned.one("SELECT dest FROM flights WHERE id = %s", (other,)) == "YYY"


def test_a_locked_table_stops_the_purge_for_now(verified: Stage) -> None:
    """Nobody waits behind the purge for a lock on the whole table; it goes on later."""
    keys = keys_of(verified)
    with verified.application() as application:
        application.execute("LOCK TABLE flights IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(Paused):
            verified.perform("purge 1")
        assert time.monotonic() - started < 3
        assert keys_of_other(application) == keys
    verified.perform(*REST)
    assert_every_row_is_accounted_for(verified, keys)


_BATCHES_THAT_WAIT = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'airflow-dbhygiene' AND wait_event_type = 'Lock' AND datname = current_database()
"""


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def _once_skipped(stage: Stage, event: Callable[[], object], act: Callable[[], object]) -> None:
    """Let something happen as soon as an act has gone past a locked row."""
    _once(stage, "SELECT count(*) FROM dbhygiene.outcome WHERE outcome = 'locked'", event, act)


def _once(stage: Stage, found: str, event: Callable[[], object], act: Callable[[], object]) -> None:
    """Let something happen as soon as a query finds something during an act."""

    def wait() -> None:
        _wait_until(lambda: stage.one(found))
        event()

    waiter = threading.Thread(target=wait)
    waiter.start()
    try:
        act()
    finally:
        waiter.join()


def _outcomes(stage: Stage) -> dict[str, int]:
    return dict(stage.execute("SELECT outcome, count(*) FROM dbhygiene.outcome GROUP BY 1"))


def keys_of_other(application: psycopg.Connection[Any]) -> set[int]:
    """Give the keys that an open transaction sees."""
    return {row[0] for row in application.execute("SELECT id FROM flights").fetchall()}


@contextmanager
def _slow_look(stage: Stage, event: Callable[[], object]) -> Iterator[Any]:
    """Give a site where something happens between the two statements of a careful batch."""
    site, looked = stage.site(), [False]

    def watch(session: Any) -> None:
        execute = session.execute

        def executed(statement: Any, *args: Any) -> Any:
            rows = execute(statement, *args)
            if isinstance(statement, sql.Composed) and "IS TRUE, (" in statement.as_string() and not looked[0]:
                looked[0] = True
                event()
            return rows

        session.execute = executed

    original = site.database.delete_carefully

    def carefully(session: Any, *args: Any) -> Any:
        watch(session)
        return original(session, *args)

    site.database.delete_carefully = carefully  # type: ignore[method-assign]
    yield site
    assert looked[0]
