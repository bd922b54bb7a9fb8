"""Tasks that are killed from the UI or by the kernel, and a database that is away for a while."""

import contextlib
import random
import time
from collections import Counter

import psutil
import pytest

from tests.system.lab import Lab, eventually

ROWS = 20_000
DONE = "done"
KILLS = 2
TASKS = ("chunk.archive", "chunk.verify", "chunk.purge")
SEED = 20131003
# How long Airflow takes to notice, at most: its tasks ask every two seconds. It kills five seconds after it has asked.
NOTICE_SECONDS = 3
TICK = """
CREATE TABLE lazy.switch (slow text);
INSERT INTO lazy.switch VALUES ('nothing');
CREATE FUNCTION lazy.tick(bigint) RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF current_setting('transaction_read_only')
        = (SELECT CASE slow WHEN 'archive' THEN 'on' WHEN 'purge' THEN 'off' ELSE slow END FROM lazy.switch)
    THEN
        PERFORM pg_sleep(0.1);
    END IF;
    RETURN 1;
END $$
"""
_ACTIVE = """
SELECT count(*) FROM pg_stat_activity
WHERE state = 'active' AND application_name = 'airflow-dbhygiene' AND query LIKE '%lazy.tick%'
"""


@pytest.fixture(scope="module")
def scenarios(lab: Lab) -> Lab:
    """Return the lab once Airflow knows the scenarios and their tables are there."""
    lab.create_events("lazy", stale=900)
    lab.sql(TICK)
    lab.create_events("battered", stale=ROWS)
    lab.create_events("unreachable", stale=900, database="fragile")
    lab.create_ledger()
    lab.install_scenario("interruptions.py")
    return lab


def test_archive_marked_failed_stops_on_the_server(scenarios: Lab) -> None:
    """The query is cancelled before Airflow kills the process; a cleared task does the work."""
    _switch(scenarios, "archive")
    dag, run = "hygiene_lazy", scenarios.start("hygiene_lazy")
    _fail_running(scenarios, dag, run, "chunk.archive")
    _switch(scenarios, "nothing")
    scenarios.pause("lazy")
    scenarios.clear(dag, run, "chunk.archive")
    eventually(lambda: scenarios.chunk_states("lazy") == ["verified"], "a verified chunk")
    eventually(lambda: "pausing" in scenarios.log_so_far(dag, run, "chunk.purge", 0), "a purge that pauses")
    _switch(scenarios, "purge")
    scenarios.go_on("lazy")
    _fail_running(scenarios, dag, run, "chunk.purge")
    assert scenarios.sql("SELECT count(*) FROM lazy.events") == [(1_000,)]
    _switch(scenarios, "nothing")
    scenarios.clear(dag, run, "chunk.purge")
    assert scenarios.finish(dag, run).state == "success"
    assert scenarios.sql("SELECT count(*) FROM lazy.events") == [(100,)]
    assert scenarios.archived("lazy").num_rows == 900


def test_killed_tasks_are_retried_to_the_undisturbed_result(scenarios: Lab) -> None:
    """A seeded few SIGKILLs of archive, verify and purge: the run is green and no row is lost or counted twice."""
    dag, run = "hygiene_battered", scenarios.start("hygiene_battered")
    hits = _batter(scenarios, dag, run, random.Random(SEED))  # noqa: S311 - the same kills each time
    print("kills per task:", dict(hits))  # noqa: T201 - a reader wants to know where they hit
    assert hits["chunk.purge"] >= 1
    assert scenarios.finish(dag, run, 180).state == "success", scenarios.states(dag, run)
    assert max(scenarios.tries(dag, run).values()) > 1
    certificate = scenarios.client.xcom(dag, run, "report")
    figures = {name: certificate[f"rows_{name}"] for name in ("archived", "purged", "drifted", "vanished", "locked")}
    assert figures == {"archived": ROWS, "purged": ROWS, "drifted": 0, "vanished": 0, "locked": 0}
    archived = scenarios.archived("battered").column("id").to_pylist()
    assert sorted(archived) == list(range(1, ROWS + 1))
    assert scenarios.sql("SELECT count(*), min(id) FROM battered.events") == [(100, ROWS + 1)]


def test_database_that_is_away_is_tried_again(scenarios: Lab) -> None:
    """The first try finds no server and waits for its retry; a later one finds it, and the run is green."""
    scenarios.fragile.stop()
    try:
        dag, run = "hygiene_unreachable", scenarios.start("hygiene_unreachable")
        eventually(lambda: scenarios.states(dag, run)["sense"] == "up_for_retry", "a task that waits for its retry")
    finally:
        scenarios.fragile.restart()
    assert scenarios.finish(dag, run).state == "success"
    assert scenarios.tries(dag, run)["sense"] > 1
    assert "the database did not answer" in scenarios.client.log(dag, run, "sense")
    assert scenarios.sql("SELECT count(*) FROM unreachable.events", database="fragile") == [(100,)]


def _switch(lab: Lab, slow: str) -> None:
    lab.sql("UPDATE lazy.switch SET slow = %s", [slow])


def _fail_running(lab: Lab, dag: str, run: str, task_id: str) -> None:
    """Mark a task failed whose query is running, and see that the query ends before the process is killed."""
    eventually(lambda: lab.sql(_ACTIVE + "AND clock_timestamp() - query_start > '1 s'")[0][0], f"a query of {task_id}")
    lab.fail_task(dag, run, task_id, 0)
    marked = time.monotonic()
    eventually(lambda: not lab.sql(_ACTIVE)[0][0], "the end of the query", 30)
    seconds = time.monotonic() - marked
    assert seconds < NOTICE_SECONDS + 1
    time.sleep(1)
    assert lab.sql(_ACTIVE) == [(0,)], "the task has begun another query"
    eventually(lambda: lab.client.run(dag, run).state == "failed", "a failed run")


def _batter(lab: Lab, dag: str, run: str, dice: random.Random) -> Counter[str]:
    """Kill processes of each of a chunk's tasks, at moments after their start that the dice choose."""
    hits: Counter[str] = Counter()
    for task_id in [task_id for task_id in TASKS for _ in range(KILLS)]:
        found = eventually(lambda task_id=task_id: _seen(lab, dag, run, task_id), f"a process of {task_id}")
        if found == DONE:
            continue  # on a quick machine a task may be over before it is seen
        time.sleep(dice.uniform(0, 1))
        with contextlib.suppress(psutil.NoSuchProcess):
            dice.choice(found).kill()
            hits[task_id] += 1
    return hits


def _seen(lab: Lab, dag: str, run: str, task_id: str) -> list[psutil.Process] | str:
    """Return the task's processes, or that it has come to its end without any."""
    mapped = [state for name, state in lab.states(dag, run).items() if name.startswith(f"{task_id}[")]
    over = bool(mapped) and set(mapped) == {"success"}
    return _processes(lab, dag, run, task_id) or (DONE if over else [])


def _processes(lab: Lab, dag: str, run: str, task_id: str) -> list[psutil.Process]:
    """Return the processes of a task that run now; Airflow puts the task instance's id into their titles."""
    running = lab.client.http.get(f"dags/{dag}/dagRuns/{run}/taskInstances", params={"state": "running"}).json()
    titles = {f"airflow worker -- {task['id']}" for task in running["task_instances"] if task["task_id"] == task_id}
    return sorted((each for each in lab.airflow.family() if _title(each) in titles), key=lambda each: each.pid)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""
