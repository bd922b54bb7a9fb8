"""The application goes on while rows are archived and purged: none of its changes is lost, and it never waits long.

Invariants 1, 2, 6, 7, 8 and 10.
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
    HygieneError,
    NotFound,
    Paused,
    PlanRefused,
    RowsLocked,
    RowsReferenced,
    SchemaChanged,
    StatementTimedOut,
)
from airflow_dbhygiene.policy import ColdTable
from airflow_dbhygiene.steps.purge import purge
from tests.faults.between import after_delete, before_batch, before_read
from tests.faults.stage import (
    ALL_ROWS,
    BATCH_ROWS,
    CHUNK_ROWS,
    OBJECT_ROWS,
    REST,
    RUN,
    STALE_ROWS,
    VERIFIED,
    Copies,
    Stage,
    archived_rows,
    assert_every_row_is_accounted_for,
    assert_ledger_adds_up,
    keys_of,
    place_hold,
    set_pace,
)

ORDINAL = 700
"""A row in the second batch of the first chunk."""


@pytest.fixture(params=["archived", "verified", "partly purged"])
def moment(request: pytest.FixtureRequest) -> str:
    """Name each of three moments of a run."""
    return str(request.param)


@pytest.fixture
def midway(copies: Copies, moment: str) -> Stage:
    """Give a stage that has come to that moment, or is about to."""
    return copies("flights_archived" if moment == "archived" else "flights_verified")


@pytest.fixture
def disturb(midway: Stage, moment: str) -> Callable[[str], None]:
    """Give a way to run a statement at that moment, and then the rest of the run."""

    def run(statement: str) -> None:
        if moment == "partly purged":
            midway.perform("purge 1", site=before_batch(midway, 2, lambda: midway.execute(statement)))
        else:
            midway.execute(statement)
        midway.perform(*(("verify 1", "verify 2") if moment == "archived" else ()), *REST)

    return run


# Single rows


def test_an_updated_row_stays_as_it_is(midway: Stage, disturb: Callable[[str], None]) -> None:
    """Invariant 2: a row that changed after it was archived is drifted, and left alone."""
    keys, key = keys_of(midway), midway.id_at(ORDINAL)
    disturb(f"UPDATE flights SET dest = 'XXX' WHERE id = {key}")
    assert midway.one("SELECT dest FROM flights WHERE id = %s", (key,)) == "XXX"
    assert (midway.figures(1)["drifted"], midway.figures(1)["purged"]) == (1, CHUNK_ROWS - 1)
    assert_every_row_is_accounted_for(midway, keys)


def test_an_update_to_the_same_values_is_an_update(midway: Stage, disturb: Callable[[str], None]) -> None:
    """The application said that it still wants the row: its version counts, not its values."""
    keys, key = keys_of(midway), midway.id_at(ORDINAL)
    disturb(f"UPDATE flights SET dest = dest WHERE id = {key}")
    assert midway.figures(1)["drifted"] == 1
    assert key in keys_of(midway)
    assert_every_row_is_accounted_for(midway, keys)


def test_a_row_that_becomes_fresh_stays(midway: Stage, disturb: Callable[[str], None]) -> None:
    """It has left the range and is stale no more."""
    keys, key = keys_of(midway), midway.id_at(ORDINAL)
    disturb(f"UPDATE flights SET time_hour = now() WHERE id = {key}")
    assert midway.figures(1)["drifted"] == 1
    assert key in keys_of(midway)
    assert_every_row_is_accounted_for(midway, keys)


def test_a_row_that_moves_into_a_later_chunk_is_not_taken_there(midway: Stage, disturb: Callable[[str], None]) -> None:
    """It is stale still, and lies in a range that is yet to be purged: as a row that nobody archived."""
    keys, key = keys_of(midway), midway.id_at(ORDINAL)
    disturb(f"UPDATE flights SET time_hour = '2013-01-04T01:00:00Z' WHERE id = {key}")
    assert key in keys_of(midway)
    assert (midway.figures(1)["drifted"], midway.figures(2)["purged"]) == (1, STALE_ROWS - CHUNK_ROWS)
    assert_every_row_is_accounted_for(midway, keys)


def test_a_late_row_is_not_taken(midway: Stage, disturb: Callable[[str], None]) -> None:
    """Invariant 1: a row that appears within an archived range was never archived, so it stays."""
    keys, key = keys_of(midway), midway.id_at(ORDINAL)
    disturb(_insert_like(key, 1_000_000))
    assert 1_000_000 in keys_of(midway)
    assert midway.figures(1)["purged"] == CHUNK_ROWS
    assert_every_row_is_accounted_for(midway, keys | {1_000_000})


def test_a_deleted_row_has_vanished(midway: Stage, disturb: Callable[[str], None]) -> None:
    """What the application erased is recorded, so that nobody restores it."""
    keys, key = keys_of(midway), midway.id_at(ORDINAL)
    disturb(f"DELETE FROM flights WHERE id = {key}")
    assert midway.figures(1)["vanished"] == 1
    assert key not in archived_rows(midway).column("id").to_pylist()
    assert_every_row_is_accounted_for(midway, keys - {key})


def test_a_row_that_was_deleted_and_put_back_stays(midway: Stage, disturb: Callable[[str], None]) -> None:
    """It has the same key and the same values, and is another row."""
    keys, key = keys_of(midway), midway.id_at(ORDINAL)
    disturb(
        f"CREATE TABLE aside AS SELECT * FROM flights WHERE id = {key};"
        f" DELETE FROM flights WHERE id = {key}; INSERT INTO flights SELECT * FROM aside"
    )
    assert key in keys_of(midway)
    assert midway.figures(1)["drifted"] == 1
    assert_every_row_is_accounted_for(midway, keys)


def test_a_row_with_another_key_stays(midway: Stage, disturb: Callable[[str], None]) -> None:
    """Under its old key it has vanished; under the new one nobody archived it."""
    keys, key = keys_of(midway), midway.id_at(ORDINAL)
    disturb(f"UPDATE flights SET id = 1000000 WHERE id = {key}")
    assert midway.figures(1)["vanished"] == 1
    assert_every_row_is_accounted_for(midway, keys - {key} | {1_000_000})


def test_keys_that_change_places_stay_apart(midway: Stage, disturb: Callable[[str], None]) -> None:
    """Two rows swap their keys: each key is there, with the right number of rows in the range, and neither goes."""
    keys, first, second = keys_of(midway), midway.id_at(ORDINAL), midway.id_at(ORDINAL + 1)
    disturb(
        f"UPDATE flights SET id = -1 WHERE id = {first}; UPDATE flights SET id = {first} WHERE id = {second};"
        f" UPDATE flights SET id = {second} WHERE id = -1"
    )
    assert {first, second} <= keys_of(midway)
    assert midway.figures(1)["drifted"] == 2
    assert_every_row_is_accounted_for(midway, keys)


def test_vacuum_and_reindexing_change_no_version(midway: Stage, disturb: Callable[[str], None]) -> None:
    """What only moves or freezes rows is no change: all are purged."""
    keys = keys_of(midway)
    disturb("CLUSTER flights USING flights_time_hour_id")
    assert midway.figures(1)["purged"] == CHUNK_ROWS
    assert_every_row_is_accounted_for(midway, keys)


def test_a_table_that_was_emptied_has_vanished(midway: Stage, disturb: Callable[[str], None]) -> None:
    """TRUNCATE leaves nothing to purge; each archived row that is gone without us is recorded so."""
    disturb("TRUNCATE flights")
    figures = midway.figures(1)
    assert figures["purged"] + figures["vanished"] == CHUNK_ROWS
    assert figures["vanished"] >= CHUNK_ROWS - BATCH_ROWS
    assert_ledger_adds_up(midway)


# Rows under lock


def test_a_change_that_is_committed_in_time_is_seen(verified: Stage) -> None:
    """The row is locked when its batch comes by, and drifted when purge returns to it."""
    keys, key = keys_of(verified), verified.id_at(ORDINAL)
    with verified.application() as application:
        application.execute("UPDATE flights SET dest = 'XXX' WHERE id = %s", (key,))
        _after(0.3, application.commit, lambda: verified.perform("purge 1"))
    assert verified.one("SELECT dest FROM flights WHERE id = %s", (key,)) == "XXX"
    assert _outcomes(verified) == {"drifted": 1}
    verified.perform("purge 2", "report")
    assert_every_row_is_accounted_for(verified, keys)


def test_a_change_that_is_rolled_back_was_none(verified: Stage) -> None:
    """The row is locked when its batch comes by, and purged when purge returns to it."""
    keys, key = keys_of(verified), verified.id_at(ORDINAL)
    with verified.application() as application:
        application.execute("DELETE FROM flights WHERE id = %s", (key,))
        _after(0.3, application.rollback, lambda: verified.perform("purge 1"))
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
    keys = keys_of(verified)
    verified.perform("purge 1", "purge 2", "report")
    assert verified.one("SELECT count(*) FROM dbhygiene.batch WHERE careful") > 0
    assert_every_row_is_accounted_for(verified, keys)


def test_a_locked_table_stops_the_purge_for_now(verified: Stage) -> None:
    """Nobody waits behind the purge for a lock on the whole table; a retry goes on."""
    keys = keys_of(verified)
    with verified.application() as application:
        application.execute("LOCK TABLE flights IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(StatementTimedOut):
            verified.perform("purge 1")
        assert time.monotonic() - started < 3
        assert keys_of_other(application) == keys
    verified.perform(*REST)
    assert_every_row_is_accounted_for(verified, keys)


# Schema


SCHEMA_CHANGES = {
    "a column with a default": "ALTER TABLE flights ADD COLUMN checked boolean NOT NULL DEFAULT true",
    "a dropped column": "ALTER TABLE flights DROP COLUMN air_time",
    "a renamed column": "ALTER TABLE flights RENAME COLUMN dest TO destination",
    "another type": "ALTER TABLE flights ALTER COLUMN distance TYPE bigint",
    "a type that keeps all versions": "ALTER TABLE flights ALTER COLUMN tailnum TYPE varchar(10)",
    "a delete trigger": (
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
        " CREATE TRIGGER note BEFORE DELETE ON flights FOR EACH ROW EXECUTE FUNCTION note()"
    ),
    "a rule": "CREATE RULE note AS ON DELETE TO flights DO ALSO SELECT 1",
    "a rule that deletes nothing": "CREATE RULE keep AS ON DELETE TO flights DO INSTEAD NOTHING",
    "row security": "ALTER TABLE flights ENABLE ROW LEVEL SECURITY",
    "a policy": "CREATE POLICY odd ON flights USING (id % 2 = 1)",
    "a foreign key that cascades": (
        "CREATE TABLE meals (flight_id bigint REFERENCES flights ON DELETE CASCADE);"
        " INSERT INTO meals SELECT id FROM flights"
    ),
    "a child table": "CREATE TABLE special_flights () INHERITS (flights)",
    "another primary key": "ALTER TABLE flights DROP CONSTRAINT flights_pkey, ADD PRIMARY KEY (id, time_hour)",
    "another table of that name": (
        "ALTER TABLE flights RENAME TO old_flights;"
        " CREATE TABLE flights (LIKE old_flights INCLUDING ALL); INSERT INTO flights SELECT * FROM old_flights"
    ),
}


@pytest.mark.parametrize("change", SCHEMA_CHANGES)
@pytest.mark.parametrize("moment", ["before purge", "between batches"])
def test_a_changed_schema_stops_the_purge(verified: Stage, change: str, moment: str) -> None:
    """Invariant 6: it is seen in the very next batch; nothing is deleted from then on, and the error says why."""
    purged = _disturb_purge(verified, SCHEMA_CHANGES[change], moment, SchemaChanged, "public.flights")
    assert verified.figures(1)["purged"] == purged
    assert verified.one("SELECT count(*) FROM flights") == ALL_ROWS - purged
    if "meals" in SCHEMA_CHANGES[change]:
        assert verified.one("SELECT count(*) FROM meals") == ALL_ROWS - purged
    with pytest.raises(SchemaChanged):
        verified.perform("purge 1")
    assert verified.one("SELECT count(*) FROM flights") == ALL_ROWS - purged


def test_a_column_that_goes_as_it_is_to_be_read_is_a_changed_schema(planned: Stage) -> None:
    """The server knows no such column; the error says what to do about that."""
    drop = before_read(planned, lambda: planned.execute("ALTER TABLE flights DROP COLUMN air_time"))
    with pytest.raises(SchemaChanged, match=r"public\.flights has changed"):
        planned.perform("archive 1", site=drop)
    assert planned.state_of(1) == "planned"


def test_a_type_that_cannot_be_compared_with_its_copy_is_a_changed_schema(stage: Stage) -> None:
    """The server compares no record with one of other types: it is said what has changed, and nothing goes."""
    keys = keys_of(stage)
    cold = ColdTable("cold.flights", object_rows=OBJECT_ROWS)
    beside = replace(stage, policy=stage.policy.model_copy(update={"archive": cold}))
    beside.perform(*VERIFIED)
    stage.execute("ALTER TABLE flights ALTER COLUMN distance TYPE bigint")
    with pytest.raises(SchemaChanged, match=r"public\.flights has changed"):
        beside.perform("purge 1")
    assert keys_of(stage) == keys


@pytest.mark.parametrize("moment", ["before purge", "between batches"])
def test_a_renamed_table_is_not_found(verified: Stage, moment: str) -> None:
    """The rows stay under the table's new name; when it has its old name again, the retry goes on."""
    keys = keys_of(verified)
    purged = _disturb_purge(verified, "ALTER TABLE flights RENAME TO old_flights", moment, NotFound, "flights")
    assert verified.one("SELECT count(*) FROM old_flights") == ALL_ROWS - purged
    verified.execute("ALTER TABLE old_flights RENAME TO flights")
    verified.perform(*REST)
    assert_every_row_is_accounted_for(verified, keys)


@pytest.mark.parametrize("moment", ["before purge", "between batches"])
@pytest.mark.parametrize("index", ["flights_time_hour_id", "flights_pkey"])
def test_a_dropped_index_loses_no_row(verified: Stage, index: str, moment: str) -> None:
    """Without the walk's index it is slow, and right; without the primary key it is another table."""
    keys = keys_of(verified)
    if index == "flights_pkey":
        _disturb_purge(verified, "ALTER TABLE flights DROP CONSTRAINT flights_pkey", moment, SchemaChanged, "flights")
        return
    number = 1 if moment == "before purge" else 2
    verified.perform("purge 1", site=before_batch(verified, number, lambda: verified.execute(f"DROP INDEX {index}")))
    verified.perform(*REST)
    assert_every_row_is_accounted_for(verified, keys)


def test_a_schema_that_changes_within_a_batch_has_to_wait(verified: Stage) -> None:
    """From the delete on, its lock keeps others from altering the table until the batch is committed."""
    refusals: list[str] = []

    def alter() -> None:
        with pytest.raises(psycopg.errors.LockNotAvailable) as refusal:
            verified.execute("SET lock_timeout = '50ms'; ALTER TABLE flights ADD COLUMN checked boolean DEFAULT true")
        refusals.append(str(refusal.value))

    verified.perform("purge 1", site=after_delete(verified, 2, alter))
    assert len(refusals) == 1
    assert verified.figures(1)["purged"] == CHUNK_ROWS


def test_a_row_that_others_point_at_stays(stage: Stage) -> None:
    """A foreign key was there when the run was planned, and a row of the other table came later: the batch fails."""
    stage.execute("CREATE TABLE meals (flight_id bigint REFERENCES flights); CREATE INDEX ON meals (flight_id)")
    stage.perform(*VERIFIED)
    stage.execute("INSERT INTO meals VALUES (%s)", (stage.id_at(ORDINAL),))
    with pytest.raises(RowsReferenced):
        stage.perform("purge 1")
    assert stage.figures(1)["purged"] == BATCH_ROWS
    assert_ledger_adds_up(stage)
    stage.execute("TRUNCATE meals")
    stage.perform(*REST)
    assert stage.figures(1)["purged"] == CHUNK_ROWS


# Holds and pauses


def test_a_hold_binds_from_the_next_batch_on(midway: Stage, disturb: Callable[[str], None]) -> None:
    """Invariant 7: whenever it was placed, rows under it that are still there stay."""
    keys, held = keys_of(midway), [midway.id_at(ordinal) for ordinal in (600, 800, 1_300, 2_000)]
    disturb_hold = (
        "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
        f" VALUES ('case', 'public.flights', 'id IN ({', '.join(map(str, held))})', 'case 4711', 'legal')"
    )
    disturb(disturb_hold)
    assert set(held) <= keys_of(midway)
    assert (midway.figures(1)["held"], midway.figures(2)["held"]) == (3, 1)
    assert_every_row_is_accounted_for(midway, keys)


def test_a_hold_that_says_unknown_holds(verified: Stage) -> None:
    """A condition that is NULL for a row protects it, since nobody can say that it does not."""
    keys = keys_of(verified)
    place_hold(verified, "dep_delay > 0")
    verified.perform(*REST)
    unknown = verified.one(
        "SELECT count(*) FROM flights WHERE dep_delay IS NULL AND time_hour < '2013-01-04T05:00:00Z'"
    )
    assert unknown > 0
    assert verified.figures(1)["held"] > 0
    assert verified.one("SELECT count(*) FROM flights WHERE dep_delay > 0") > 0
    assert_every_row_is_accounted_for(verified, keys)


def test_a_hold_that_cannot_be_read_stops_all(verified: Stage) -> None:
    """Invariant 8: a condition over a column that is not there protects everything."""
    place_hold(verified, "custodian = 'X'")
    with pytest.raises(HygieneError, match="custodian"):
        verified.perform("purge 1")
    assert verified.figures(1)["purged"] == 0
    assert verified.one("SELECT count(*) FROM flights") == ALL_ROWS


def test_a_released_hold_leaves_unarchived_rows_alone(stage: Stage) -> None:
    """Rows that were held when their range was archived are in no archive: they wait for another run."""
    keys, held = keys_of(stage), stage.id_at(ORDINAL)
    stage.perform("plan")
    place_hold(stage, f"id = {held}")
    stage.perform(*VERIFIED[1:])
    stage.execute("UPDATE dbhygiene.hold SET released_at = now(), released_by = 'legal'")
    stage.perform(*REST)
    assert held in keys_of(stage)
    assert_every_row_is_accounted_for(stage, keys)


def test_placing_a_hold_waits_for_the_batch_under_way(verified: Stage) -> None:
    """Whoever places it through the gate knows, when it is placed, that no batch without it is still to commit."""
    site, order, placed = verified.site(), [], threading.Event()

    def place() -> None:
        with site.database.session() as session, session.transaction(lock_timeout="10s"):
            site.database.close_gate(session)
            order.append(verified.figures(1)["purged"])
            session.execute(_HOLD_ALL)
        placed.set()

    thread = threading.Thread(target=place)

    def begin_placing() -> None:
        thread.start()
        time.sleep(0.3)
        assert not placed.is_set()

    verified.perform("purge 1", site=after_delete(verified, 2, begin_placing))
    thread.join()
    assert order == [2 * BATCH_ROWS]
    assert verified.figures(1)["held"] == CHUNK_ROWS - 2 * BATCH_ROWS


def test_a_hold_binds_under_any_default_isolation(verified: Stage) -> None:
    """A batch that began before the hold was placed, and waited for it, sees it: whatever the database's default is."""
    database = sql.Identifier(verified.dsn.rpartition("/")[2]).as_string()
    verified.execute(f"ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'")
    gate = verified.site().database
    with gate.session() as legal:

        def hold_while_it_waits() -> None:
            placing = legal.transaction()
            placing.__enter__()
            gate.close_gate(legal)
            legal.execute(_HOLD_ALL)
            threading.Timer(0.2, placing.__exit__, (None, None, None)).start()

        verified.perform("purge 1", site=before_batch(verified, 2, hold_while_it_waits))
    assert verified.figures(1) | {"purged": BATCH_ROWS, "held": CHUNK_ROWS - BATCH_ROWS} == verified.figures(1)


@pytest.mark.parametrize("scope", ["all", "table:public.flights", "policy:flights"])
def test_a_pause_stops_at_the_next_batch_and_the_retry_goes_on(verified: Stage, scope: str) -> None:
    """The error tells who paused and why; what was purged stays purged, and is not counted again."""
    keys = keys_of(verified)
    statement = "INSERT INTO dbhygiene.pause (scope, reason, placed_by) VALUES (%s, 'month end', 'finance')"
    with pytest.raises(Paused, match=r"by finance: month end"):
        verified.perform("purge 1", site=before_batch(verified, 2, lambda: verified.execute(statement, (scope,))))
    assert verified.figures(1)["purged"] == 2 * BATCH_ROWS  # the second had begun when the pause came
    with pytest.raises(Paused):
        verified.perform("purge 1")
    verified.execute("DELETE FROM dbhygiene.pause")
    verified.perform(*REST)
    assert_every_row_is_accounted_for(verified, keys)


# Partitions


@pytest.mark.parametrize("table", ["orders", "orders_2013"])
def test_a_cascade_that_hangs_on_a_partition_is_refused(stage: Stage, table: str) -> None:
    """Foreign keys of a partition, and of the table that a partition belongs to, delete as well as the table's own."""
    pointed_at = "orders_2013" if table == "orders" else "orders"
    stage.execute(
        "CREATE TABLE orders (id bigint, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        "CREATE TABLE orders_2013 PARTITION OF orders FOR VALUES FROM ('2013-01-01') TO ('2014-01-01');"
        "INSERT INTO orders SELECT i, '2013-01-01' FROM generate_series(1, 100) i;"
        "CREATE TABLE lines (id bigint, at timestamptz,"
        f" FOREIGN KEY (id, at) REFERENCES {pointed_at} ON DELETE CASCADE);"
        "CREATE INDEX ON lines (id, at); INSERT INTO lines SELECT * FROM orders; ANALYZE orders, orders_2013"
    )
    policy = stage.policy.model_copy(
        update={"table": f"public.{table}", "stale": stage.policy.stale.model_copy(update={"column": "at"})}
    )
    with pytest.raises(PlanRefused, match=r"ON DELETE CASCADE"):
        Stage(stage.dsn, stage.folder, policy).perform("plan")


# What the tests above are made of

_HOLD_ALL = (
    "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
    " VALUES ('all', 'public.flights', 'true', 'case 4711', 'legal')"
)


_BATCHES_THAT_WAIT = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'airflow-dbhygiene' AND wait_event_type = 'Lock' AND datname = current_database()
"""


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def _insert_like(key: int, new: int) -> str:
    columns = (
        "year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier, flight,"
        " tailnum, origin, dest, air_time, distance, hour, minute, time_hour"
    )
    return f"INSERT INTO flights (id, {columns}) SELECT {new}, {columns} FROM flights WHERE id = {key}"


def _disturb_purge(verified: Stage, statement: str, moment: str, expected: type[HygieneError], message: str) -> int:
    """Run a statement before the first or the second batch; give how many rows were purged before it."""
    number = 1 if moment == "before purge" else 2
    with pytest.raises(expected, match=message):
        purge(before_batch(verified, number, lambda: verified.execute(statement)), RUN, 1)
    assert_ledger_adds_up(verified)
    return (number - 1) * BATCH_ROWS


def _after(seconds: float, event: Callable[[], object], act: Callable[[], object]) -> None:
    """Let something happen some time after an act has begun."""
    timer = threading.Timer(seconds, event)
    timer.start()
    try:
        act()
    finally:
        timer.join()


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
