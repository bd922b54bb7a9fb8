"""The application changes single rows while they are archived and purged: none of its changes is lost.

Invariants 1, 2 and 10.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.stage import (
    BATCH_ROWS,
    CHUNK_ROWS,
    ORDINAL,
    STALE_ROWS,
    Stage,
    archived_rows,
    assert_every_row_is_accounted_for,
    assert_ledger_adds_up,
    keys_of,
)


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


def _insert_like(key: int, new: int) -> str:
    columns = (
        "year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier, flight,"
        " tailnum, origin, dest, air_time, distance, hour, minute, time_hour"
    )
    return f"INSERT INTO flights (id, {columns}) SELECT {new}, {columns} FROM flights WHERE id = {key}"
