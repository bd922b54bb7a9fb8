"""Holds and pauses that come while rows are purged bind from the next batch on.

Invariants 7 and 8.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from psycopg import sql

from airflow_dbhygiene.errors import (
    HygieneError,
    Paused,
)
from tests.faults.between import after_delete, before_batch
from tests.faults.stage import (
    ALL_ROWS,
    BATCH_ROWS,
    CHUNK_ROWS,
    ORDINAL,
    REST,
    VERIFIED,
    Stage,
    assert_every_row_is_accounted_for,
    keys_of,
    place_hold,
)


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


_HOLD_ALL = (
    "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
    " VALUES ('all', 'public.flights', 'true', 'case 4711', 'legal')"
)
