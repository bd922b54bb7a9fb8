"""The schema changes while rows are archived and purged: nothing is deleted by accident of it.

Invariants 6 and 8. For columns' types, on every engine: tests/contract/test_types_underneath.py.
"""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from airflow_dbhygiene.errors import (
    HygieneError,
    NotFound,
    PlanRefused,
    RowsReferenced,
    SchemaChanged,
)
from airflow_dbhygiene.policy import ColdTable
from airflow_dbhygiene.steps.purge import purge
from tests.faults.between import after_delete, before_batch, before_read
from tests.faults.stage import (
    ALL_ROWS,
    BATCH_ROWS,
    CHUNK_ROWS,
    OBJECT_ROWS,
    ORDINAL,
    REST,
    RUN,
    VERIFIED,
    Stage,
    assert_every_row_is_accounted_for,
    assert_ledger_adds_up,
    keys_of,
)

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


def test_a_label_within_a_range_that_was_renamed_stops_the_purge(stage: Stage) -> None:
    """The archive has the old one, and the server could not read it back."""
    stage.execute("CREATE TYPE class AS ENUM ('economy', 'first')")
    stage.execute("CREATE TYPE classes AS RANGE (subtype = class)")
    stage.execute("ALTER TABLE flights ADD classes classes")
    stage.execute("UPDATE flights SET classes = '[economy,first]'")
    keys = keys_of(stage)
    stage.perform(*VERIFIED)
    stage.execute("ALTER TYPE class RENAME VALUE 'economy' TO 'second'")
    with pytest.raises(SchemaChanged, match="labels of a type"):
        stage.perform("purge 1")
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


def _disturb_purge(verified: Stage, statement: str, moment: str, expected: type[HygieneError], message: str) -> int:
    """Run a statement before the first or the second batch; give how many rows were purged before it."""
    number = 1 if moment == "before purge" else 2
    with pytest.raises(expected, match=message):
        purge(before_batch(verified, number, lambda: verified.execute(statement)), RUN, 1)
    assert_ledger_adds_up(verified)
    return (number - 1) * BATCH_ROWS
