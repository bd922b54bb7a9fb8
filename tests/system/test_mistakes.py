"""What a person gets wrong: a clear error at once, and nothing touched."""

import pytest

from tests.system.lab import Lab, eventually

ROWS = 500
# Policy → the task that fails, and what its log says.
MISTAKES = {
    "unknown_connection": ("sense", "'nowhere_pg': Airflow knows no such connection. Create it, or correct"),
    "unknown_table": ("sense", "unknown_table.events"),
    "unknown_store": ("plan", "'nowhere_store': Airflow knows no such connection. Create it, or correct"),
    "denied_store": ("plan", "s3://denied_store@cold/x"),
}


@pytest.fixture(scope="module")
def runs(lab: Lab) -> dict[str, str]:
    """Return the ids of all runs, by policy; they start together to save time."""
    for name in MISTAKES:
        if name != "unknown_table":
            lab.create_events(name, stale=ROWS)
    lab.create_ledger()
    lab.install_scenario("mistakes.py")
    return {name: lab.start(f"hygiene_{name}") for name in (*MISTAKES, "denied_connection", "unknown_pool")}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_fails_at_once_with_its_fix(lab: Lab, runs: dict[str, str], name: str) -> None:
    """The first task that can know fails on its first try, and says what is wrong; the table is whole."""
    dag, run = f"hygiene_{name}", runs[name]
    task_id, message = MISTAKES[name]
    assert lab.finish(dag, run).state == "failed"
    assert (lab.states(dag, run)[task_id], lab.tries(dag, run)[task_id]) == ("failed", 1)
    assert message in lab.client.log(dag, run, task_id)
    if name != "unknown_table":
        assert lab.sql(f"SELECT count(*) FROM {name}.events") == [(ROWS + 100,)]
    assert lab.chunk_states(name) == []


def test_wrong_password_is_told_though_it_is_tried_again(lab: Lab, runs: dict[str, str]) -> None:
    """The driver gives no code for a refused login, so it counts as an outage; the log has the server's own words."""
    dag, run = "hygiene_denied_connection", runs["denied_connection"]
    eventually(lambda: lab.states(dag, run)["sense"] == "up_for_retry", "a task that waits for its retry")
    assert "password authentication failed" in lab.client.log(dag, run, "sense")
    lab.end(dag, run)


def test_missing_pool_is_named_by_the_task_that_waits_for_it(lab: Lab, runs: dict[str, str]) -> None:
    """Airflow never starts a task without a pool, and says why on the task; the DAG's page has the command."""
    dag, run = "hygiene_unknown_pool", runs["unknown_pool"]
    eventually(lambda: lab.states(dag, run)["sense"] == "scheduled", "a task that Airflow does not start")
    found = lab.client.http.get(f"dags/{dag}/dagRuns/{run}/taskInstances/sense/dependencies").json()["dependencies"]
    assert "Tasks using non-existent pool 'nowhere_pool' will not be scheduled" in {each["reason"] for each in found}
    assert 'airflow pools set nowhere_pool 4 "' in lab.client.http.get(f"dags/{dag}/details").json()["doc_md"]
    lab.end(dag, run)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("keep: -3 days", "stale.older_than.keep: keep '-3 days' is not a duration"),
        ("keep: 3 days\n  zone: Mars/Olympus", "stale.older_than.zone: time zone 'Mars/Olympus' is unknown"),
        ("keep: 3 days\nguards: {}", "guards: is not a field here"),
        ("keep: [3", "is not YAML"),
    ],
)
def test_wrong_policy_file_is_an_import_error(
    lab: Lab, request: pytest.FixtureRequest, fault: str, message: str
) -> None:
    """The DAG list shows the file of the policy, the field, the value and the fix."""
    number = request.node.callspec.indices["fault"]
    folder = lab.dags_folder / f"wrong_{number}"
    folder.mkdir()
    (folder / "policy.yaml").write_text(
        "name: wrong\nconn_id: lab_pg\ntable: a.b\narchive: {kind: parquet, url: file:///x}\n"
        f"stale:\n  kind: older_than\n  column: at\n  {fault}\n"
    )
    dag_file = lab.dags_folder / f"wrong_{number}.py"
    dag_file.write_text(f"from airflow_dbhygiene import dags_from_folder\n\ndags_from_folder({str(folder)!r})\n")
    try:
        error = eventually(lambda: _import_error(lab, dag_file.name), "an import error", 30)
        assert f"{folder.name}/policy.yaml" in error
        assert message in error
    finally:
        dag_file.unlink()


def _import_error(lab: Lab, file: str) -> str:
    return next((error.stack_trace for error in lab.client.import_errors() if error.filename.endswith(file)), "")
