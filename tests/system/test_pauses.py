"""A long pause frees the workers: the tasks are deferred, the triggerer wakes them, and they go on from the ledger."""

from tests.system.lab import Lab, eventually

DAG = "hygiene_patient"
BATCHES = """
SELECT chunk, first_ordinal, end_ordinal, purged FROM dbhygiene.batch JOIN dbhygiene.run USING (run_id)
WHERE policy = 'patient' ORDER BY chunk, batch
"""
PURGES = [f"chunk.purge[{number}]" for number in range(3)]


def test_a_long_pause_defers_the_tasks_and_they_go_on_where_they_stopped(lab: Lab) -> None:
    """Meanwhile no slot of the pool is taken; no batch is done twice, none is left out, and all in one try."""
    lab.create_events("patient", 3_000)
    lab.create_ledger()
    lab.install_scenario("pauses.py")
    run = lab.start(DAG)
    eventually(lambda: len({row[0] for row in batches(lab)}) == 3, "a first batch of each chunk", 120)
    lab.pause("patient")
    eventually(lambda: all(lab.states(DAG, run)[name] == "deferred" for name in PURGES), "three deferred purges")
    pool = lab.client.http.get("pools/hygiene_month_pg").json()
    assert (pool["running_slots"], pool["occupied_slots"], pool["deferred_slots"]) == (0, 0, 3)
    before = batches(lab)
    assert 0 < sum(row[3] for row in before) < 3_000
    eventually(lambda: deferrals(lab, run) > 3, "a task that has looked again, and waits on")
    assert batches(lab) == before
    lab.go_on("patient")
    assert lab.finish(DAG, run).state == "success"
    done = batches(lab)
    for chunk in (1, 2, 3):
        mine = [row for row in done if row[0] == chunk]
        assert [row[1] for row in mine] == [0, *(row[2] for row in mine[:-1])]
        assert sum(row[3] for row in mine) == 1_000
    assert {lab.tries(DAG, run)[name] for name in PURGES} == {1}
    assert lab.client.xcom(DAG, run, "report")["rows_purged"] == 3_000


def test_a_task_that_gave_up_waiting_waits_again_once_it_is_cleared(lab: Lab) -> None:
    """Its deferrals count together, and those before the clearing do not: it need not meet a moment without pauses."""
    dag = "hygiene_tired"
    lab.create_events("tired", 900)
    lab.create_ledger()
    lab.install_scenario("pauses.py")
    lab.pause("tired")
    run = lab.start(dag)
    assert lab.finish(dag, run).state == "failed"
    log = lab.client.log(dag, run, "chunk.purge", 0)
    assert "has not moved for longer than pace.max_idle_seconds: paused (policy:tired)" in log
    assert "the worker is free" in log
    lab.clear(dag, run, "chunk.purge")
    eventually(lambda: lab.states(dag, run)["chunk.purge[0]"] == "deferred", "a purge that waits again")
    lab.go_on("tired")
    assert lab.finish(dag, run).state == "success"
    assert lab.client.xcom(dag, run, "report")["rows_purged"] == 900


def batches(lab: Lab) -> list[tuple[int, ...]]:
    """Give the batches that the ledger knows: their chunk, where they begin and end, and how many rows went."""
    return lab.sql(BATCHES)


def deferrals(lab: Lab, run: str) -> int:
    """Count how often the tasks gave their worker back."""
    return sum(lab.log_so_far(DAG, run, "chunk.purge", number).count("the worker is free") for number in range(3))
