"""Sensors that wait: poking, rescheduled, deferred; through an outage; until there is nothing to wait for."""

import asyncio
import json
import re
import time
from typing import Any

import psycopg
import pytest

from airflow_dbhygiene import OlderThan, Parquet, Policy
from airflow_dbhygiene.triggers import ClutterTrigger
from tests.servers.postgres import PostgresServer
from tests.system.lab import STALE, Lab, eventually

INSERT = f"INSERT INTO {{}}.events SELECT n, '{STALE}', 'late' FROM generate_series(1001, 1010) AS n"
WAYS = ("poking", "rescheduled", "deferred")


@pytest.fixture(scope="module")
def waiting(lab: Lab) -> dict[str, str]:
    """Return the ids of runs whose sensors wait, by DAG; they start together to save time."""
    for name, database in (("ways", "lab"), ("dropped", "lab"), ("outage", "fragile")):
        lab.create_events(name, stale=9, database=database)
    lab.install_scenario("waiting.py")
    return {dag: lab.start(dag) for dag in ("sensors_wait", "sensor_outage", "sensor_terminal")}


def test_sensors_wait_until_the_limit_is_reached(lab: Lab, waiting: dict[str, str]) -> None:
    """Nine stale rows of ten: each sensor waits in its own way; with the tenth all go on."""
    dag, run = "sensors_wait", waiting["sensors_wait"]
    eventually(lambda: lab.states(dag, run)["deferred"] == "deferred", "a deferred sensor")
    eventually(lambda: lab.states(dag, run)["rescheduled"] == "up_for_reschedule", "a rescheduled sensor")
    eventually(lambda: "clutter: stale_rows 9" in lab.log_so_far(dag, run, "poking"), "a poke")
    assert lab.states(dag, run)["poking"] == "running"
    lab.sql(INSERT.format("ways"))
    assert lab.finish(dag, run).state == "failed"
    states = lab.states(dag, run)
    assert {name: states[name] for name in WAYS} == dict.fromkeys(WAYS, "success")
    for name in WAYS:
        assert lab.client.xcom(dag, run, name) == {"stale_rows": 10.0}


def test_sensor_that_does_not_wait_skips_what_follows(lab: Lab, waiting: dict[str, str]) -> None:
    """With on_below="skip" one look decides."""
    states = _finished(lab, "sensors_wait", waiting)
    assert (states["skipping"], states["behind"]) == ("skipped", "skipped")


def test_any_limit_is_enough(lab: Lab, waiting: dict[str, str]) -> None:
    """The sensor goes on when one of several limits is reached, and returns all that it measured."""
    assert _finished(lab, "sensors_wait", waiting)["any_limit"] == "success"
    measured = lab.client.xcom("sensors_wait", waiting["sensors_wait"], "any_limit")
    assert measured["table_bytes"] > 1
    assert measured["stale_rows"] >= 9


def test_unknown_measure_fails_at_once(lab: Lab, waiting: dict[str, str]) -> None:
    """A limit on what does not exist is not tried again, and the log lists what does."""
    assert _finished(lab, "sensors_wait", waiting)["unknown_measure"] == "failed"
    run = waiting["sensors_wait"]
    assert lab.tries("sensors_wait", run)["unknown_measure"] == 1
    assert "at_least.stale_rwos is not a measure; known are stale_rows" in lab.client.log(
        "sensors_wait", run, "unknown_measure"
    )


def test_deferred_sensor_has_a_timeout(lab: Lab, waiting: dict[str, str]) -> None:
    """A sensor whose limit is never reached fails when its own time-out says so."""
    assert _finished(lab, "sensors_wait", waiting)["timed_out"] == "failed"


def test_deferred_sensor_holds_no_slot_and_outlives_an_outage(lab: Lab, waiting: dict[str, str]) -> None:
    """The database is down for a while: the patient sensor waits on, and sees the rows that come afterwards."""
    dag, run = "sensor_outage", waiting["sensor_outage"]
    eventually(lambda: lab.states(dag, run)["deferred"] == "deferred", "a deferred sensor")
    eventually(lambda: lab.states(dag, run)["impatient"] == "deferred", "another deferred sensor")
    pool = lab.client.http.get("pools/hygiene_fragile_pg").json()
    assert (pool["running_slots"], pool["occupied_slots"], pool["deferred_slots"]) == (0, 0, 2)
    lab.fragile.stop()
    time.sleep(4)
    assert lab.states(dag, run)["deferred"] == "deferred"
    lab.fragile.restart()
    lab.sql(INSERT.format("outage"), database="fragile")
    assert lab.finish(dag, run).state == "failed"
    assert lab.states(dag, run) == {"deferred": "success", "impatient": "failed"}
    assert lab.client.xcom(dag, run, "deferred") == {"stale_rows": 10.0}
    # Its one look that counts may meet the server going down, or gone.
    assert re.search(r"the database did not answer|SQLSTATE 57P0[13]", lab.client.log(dag, run, "impatient"))


def test_deferred_sensor_fails_at_once_when_the_table_is_gone(lab: Lab, waiting: dict[str, str]) -> None:
    """What no waiting mends ends the wait: no retry, and the log names the table."""
    dag, run = "sensor_terminal", waiting["sensor_terminal"]
    eventually(lambda: lab.states(dag, run)["deferred"] == "deferred", "a deferred sensor")
    lab.sql("DROP TABLE dropped.events CASCADE")
    assert lab.finish(dag, run).state == "failed"
    assert lab.tries(dag, run) == {"deferred": 1}
    assert "dropped.events" in lab.client.log(dag, run, "deferred")


def _finished(lab: Lab, dag: str, runs: dict[str, str]) -> dict[str, Any]:
    lab.finish(dag, runs[dag])
    return lab.states(dag, runs[dag])


def test_trigger_never_blocks_the_event_loop(
    database: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a measurement hangs on a lock the loop goes on; it measures again, and gives its event in the end."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute("CREATE INDEX ON events (at, id)")
        connection.execute(f"INSERT INTO events VALUES (1, '{STALE}')")
        value = {"conn_type": "postgres", **connection.info.get_parameters(), "password": postgres.password}
    value |= {"login": value["user"], "schema": value["dbname"]}
    fields = {name: value[name] for name in ("conn_type", "host", "port", "login", "schema", "password")}
    monkeypatch.setenv("AIRFLOW_CONN_LOOP_PG", json.dumps(fields))
    with psycopg.connect(database) as locker:
        locker.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        events, gaps = asyncio.run(_watched(_trigger(), locker))
    assert events == [{"status": "reached", "measured": {"stale_rows": 1.0}}]
    assert len(gaps) > 50
    assert max(gaps) < 1


def _trigger() -> ClutterTrigger:
    policy = Policy(
        name="loop",
        conn_id="loop_pg",
        table="public.events",
        stale=OlderThan("at", keep="1 day"),
        archive=Parquet("file:///nowhere"),
    )
    path, arguments = ClutterTrigger(
        policy_json=policy.json_text,
        as_of="2026-01-01T00:00:00+00:00",
        since=None,
        cutoff="2025-12-31T00:00:00+00:00",
        limits={"stale_rows": 1},
        poke_interval=0.1,
        patience_seconds=60,
    ).serialize()
    assert path == "airflow_dbhygiene.triggers.clutter.ClutterTrigger"
    return ClutterTrigger(**arguments)


async def _watched(trigger: ClutterTrigger, locker: psycopg.Connection[Any]) -> tuple[list[Any], list[float]]:
    """Run a trigger beside a task that notes how long each of its short sleeps took; unlock after three seconds."""
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            started = time.monotonic()
            await asyncio.sleep(0.02)
            gaps.append(time.monotonic() - started)

    ticking = asyncio.create_task(tick())
    asyncio.get_running_loop().call_later(3, locker.rollback)
    events = [event.payload async for event in trigger.run()]
    ticking.cancel()
    return events, gaps
