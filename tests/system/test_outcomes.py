"""The colour of a run, and what its report says: nothing to do, one failed chunk, all of them, a refused plan."""

import pytest

from tests.system.lab import Lab, eventually

ROWS = 3_000
NO_CHUNK = {"chunk.archive": "skipped", "chunk.verify": "skipped", "chunk.purge": "skipped"}
STALE_ROWS = {
    "nothing_stale": 0,
    "zero_chunks": 0,
    "discarded": ROWS,
    "hurried": ROWS,
    "refused": ROWS,
    "referenced": ROWS,
    "begun": ROWS,
    "store_gone": 900,
}


@pytest.fixture(scope="module")
def runs(lab: Lab) -> dict[str, str]:
    """Return the run ids of the scenarios that need no attention, by policy; they start together to save time."""
    for name, rows in STALE_ROWS.items():
        lab.create_events(name, rows)
    lab.sql("CREATE FUNCTION refused.stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    lab.sql("CREATE TRIGGER stops BEFORE DELETE ON refused.events FOR EACH ROW EXECUTE FUNCTION refused.stop()")
    lab.create_ledger()
    for name in ("hurried", "referenced", "store_gone"):
        lab.pause(name)
    lab.install_scenario("outcomes.py")
    return {name: lab.start(_dag(name)) for name in ("nothing_stale", "zero_chunks", "discarded", "hurried", "refused")}


def test_nothing_stale_is_green_and_the_report_says_so(lab: Lab, runs: dict[str, str]) -> None:
    """The sensor skips all that follows, but the report runs and the run ends well."""
    dag, run = _dag("nothing_stale"), runs["nothing_stale"]
    assert lab.finish(dag, run).state == "success"
    skipped = {"sense": "skipped", "plan": "skipped", **NO_CHUNK, "reclaim": "skipped"}
    assert lab.states(dag, run) == {**skipped, "report": "success", "finished": "success"}
    assert lab.client.xcom(dag, run, "report") == {"policy": "nothing_stale", "state": "not planned"}
    assert lab.client.asset_events(dag, run) == []
    assert "too little clutter: stale_rows 0" in lab.client.log(dag, run, "sense")


def test_zero_chunks_are_a_run_with_a_certificate(lab: Lab, runs: dict[str, str]) -> None:
    """Where the limit is reached and no row is stale, the chunks are skipped and the report still runs."""
    dag, run = _dag("zero_chunks"), runs["zero_chunks"]
    assert lab.finish(dag, run).state == "success"
    done = {"sense": "success", "plan": "success", "reclaim": "skipped", "report": "success", "finished": "success"}
    assert lab.states(dag, run) == {**done, **NO_CHUNK}
    certificate = lab.client.xcom(dag, run, "report")
    assert (certificate["state"], certificate["chunks"], certificate["rows_stale"]) == ("done", 0, 0)


def test_a_policy_that_discards_has_no_archive_task(lab: Lab, runs: dict[str, str]) -> None:
    """Its chunks are purged, and the report says that nothing was kept."""
    dag, run = _dag("discarded"), runs["discarded"]
    assert lab.finish(dag, run).state == "success"
    assert not {"chunk.archive", "chunk.verify"} & lab.states(dag, run).keys()
    certificate = lab.client.xcom(dag, run, "report")
    assert (certificate["rows_purged"], certificate["rows_archived"], certificate["restorable"]) == (ROWS, 0, False)
    assert "made anew every hour" in lab.client.log(dag, run, "plan")


def test_plan_that_is_refused_fails_at_once_and_names_the_fix(lab: Lab, runs: dict[str, str]) -> None:
    """Nothing is tried again; the log says what is in the way, by name; the policy's notifier is told."""
    dag, run = _dag("refused"), runs["refused"]
    assert lab.finish(dag, run).state == "failed"
    states = lab.states(dag, run)
    assert (states["sense"], states["plan"], states["finished"]) == ("success", "failed", "upstream_failed")
    assert lab.tries(dag, run)["plan"] == 1
    log = lab.client.log(dag, run, "plan")
    assert "cannot be purged safely, nothing was changed" in log
    assert "trigger" in log
    assert "stops" in log
    assert lab.keys("refused") == []
    assert lab.client.xcom(dag, run, "report")["state"] == "not planned"
    note = eventually(lambda: _note(lab, dag), "the notifier's note")
    assert note == f"{run} plan try 1\n"


def test_all_chunks_failed_then_one_then_none(lab: Lab, runs: dict[str, str]) -> None:
    """Each time the report runs and tells the truth, and the run is green only when all is done.

    First a pause lasts longer than the policy allows, then one chunk's object is damaged, then all is in order.
    """
    dag, run = _dag("hurried"), runs["hurried"]
    _expect(lab, dag, run, failed={0, 1, 2}, rows=0)
    assert "paused (policy:hurried) by lab: a test" in lab.client.log(dag, run, "chunk.purge", 2)
    damaged = next(key for key in lab.keys("hurried") if "chunk-0002" in key)
    lab.bucket.put_object(Bucket="cold", Key=damaged, Body=lab.body(damaged)[:-1])
    lab.go_on("hurried")
    lab.clear(dag, run, "chunk.purge")
    _expect(lab, dag, run, failed={1}, rows=2_000)
    assert f"{damaged.removeprefix('hurried/')} has " in lab.client.log(dag, run, "chunk.purge", 1, 2)
    lab.clear(dag, run, ("chunk.archive", 1))
    _expect(lab, dag, run, failed=set(), rows=ROWS)
    assert damaged not in lab.keys("hurried")
    assert lab.archived("hurried").num_rows == ROWS


@pytest.mark.usefixtures("runs")
def test_chunk_whose_rows_are_referenced_fails_alone(lab: Lab) -> None:
    """A child of its first row, which came after the plan, stops the chunk; without it, clearing finishes the job."""
    dag, run = _dag("referenced"), lab.start(_dag("referenced"))
    eventually(lambda: lab.chunk_states("referenced") == ["verified"] * 3, "three verified chunks", 120)
    lab.sql("INSERT INTO referenced.child VALUES (1, 1001)")
    lab.go_on("referenced")
    _expect(lab, dag, run, failed={1}, rows=2_000)
    assert "child" in lab.client.log(dag, run, "chunk.purge", 1)
    lab.sql("DELETE FROM referenced.child")
    lab.clear(dag, run, ("chunk.purge", 1))
    _expect(lab, dag, run, failed=set(), rows=ROWS)


@pytest.mark.usefixtures("runs")
def test_run_that_has_begun_is_never_skipped(lab: Lab) -> None:
    """A failed run is cleared as a whole, and less is left than its sensor asks for: it still goes on to its end."""
    dag = _dag("begun")
    lab.pause("begun")
    run = lab.start(dag)
    eventually(lambda: lab.chunk_states("begun") == ["verified"] * 3, "three verified chunks", 120)
    lab.sql("INSERT INTO begun.child VALUES (1, 1001)")
    lab.go_on("begun")
    _expect(lab, dag, run, failed={1}, rows=2_000)
    lab.clear(dag, run)
    _expect(lab, dag, run, failed={1}, rows=2_000)
    lab.sql("DELETE FROM begun.child")
    lab.clear(dag, run)
    _expect(lab, dag, run, failed=set(), rows=ROWS)
    lab.clear(dag, run)
    _expect(lab, dag, run, failed=set(), rows=ROWS)
    assert set(lab.states(dag, run).values()) == {"success"}


@pytest.mark.usefixtures("runs")
def test_report_that_fails_makes_the_run_red(lab: Lab) -> None:
    """The store is gone when the certificate is due: Airflow leaves teardowns out, and still the run fails."""
    dag, run = _dag("store_gone"), lab.start(_dag("store_gone"))
    eventually(lambda: lab.chunk_states("store_gone") == ["verified"], "a verified chunk", 120)
    # A purge that says so has read its object back already.
    eventually(lambda: "pausing" in lab.log_so_far(dag, run, "chunk.purge", 0), "a purge that pauses")
    lab.s3.stop()
    try:
        lab.go_on("store_gone")
        assert lab.finish(dag, run).state == "failed"
    finally:
        lab.s3.restart()
    states = lab.states(dag, run)
    assert {name: state for name, state in states.items() if state != "success"} == {
        "report": "failed",
        "finished": "upstream_failed",
    }
    assert "the store did not answer" in lab.client.log(dag, run, "report")
    lab.clear(dag, run, "report")
    assert lab.finish(dag, run).state == "success"
    assert lab.client.xcom(dag, run, "report")["rows_purged"] == 900


def _expect(lab: Lab, dag: str, run: str, *, failed: set[int], rows: int) -> None:
    """Check the end of a run: which purges failed, the run's colour, and what the report says."""
    assert lab.finish(dag, run).state == ("failed" if failed else "success"), lab.states(dag, run)
    states = lab.states(dag, run)
    assert {index for index in range(3) if states[f"chunk.purge[{index}]"] == "failed"} == failed
    assert states["report"] == "success"
    assert states["reclaim"] == ("upstream_failed" if failed else "success")
    certificate = lab.client.xcom(dag, run, "report")
    assert certificate["state"] == ("failed" if failed else "done")
    assert certificate["rows_purged"] == rows
    policy = dag.removeprefix("hygiene_")
    assert lab.sql(f"SELECT count(*) FROM {policy}.events") == [(ROWS + 100 - rows,)]
    assert lab.client.asset_events(dag, run)[-1].extra["state"] == certificate["state"]


def _note(lab: Lab, dag: str) -> str:
    path = lab.notes_folder / dag
    return path.read_text() if path.exists() else ""


def _dag(name: str) -> str:
    return f"hygiene_{name}"
