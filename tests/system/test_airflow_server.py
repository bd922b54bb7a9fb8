"""The Airflow that the tests use is a real one: its answers are checked before other tests rely on them."""

import contextlib
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest

from tests.servers.airflow import COMPONENTS, AirflowServer
from tests.servers.airflow_client import AirflowClient

DAG_FILE = Path(__file__).parent / "dags" / "airflow_server.py"


@pytest.fixture(scope="module")
def client(airflow: AirflowServer, dags_folder: Path) -> AirflowClient:
    """Return the API of an Airflow that has read this module's DAGs and may run those that have no schedule."""
    shutil.copy(DAG_FILE, dags_folder)
    for dag_id in ("mapped", "failing"):
        airflow.client.unpause(dag_id)
    return airflow.client


@pytest.fixture(scope="module")
def mapped_run(client: AirflowClient) -> str:
    """Return the id of a finished run with two mapped tasks."""
    run = client.wait("mapped", client.trigger("mapped", conf={"why": "test"}))
    assert run.state == "success"
    assert run.conf == {"why": "test"}
    return run.run_id


def test_run_without_logical_date_has_no_interval(client: AirflowClient, mapped_run: str) -> None:
    """A run that is triggered without a date has neither date nor interval, but always `run_after`."""
    run = client.run("mapped", mapped_run)
    assert (run.logical_date, run.data_interval_start, run.data_interval_end) == (None, None, None)
    assert run.run_after.tzinfo is not None


def test_mapped_tasks_carry_labels_fields_and_results(client: AirflowClient, mapped_run: str) -> None:
    """Each mapped task shows its label, its rendered chunk, its result and its log."""
    counts = [task for task in client.task_instances("mapped", mapped_run) if task.task_id == "counted.count"]
    assert [(task.map_index, task.state, task.rendered_map_index) for task in counts] == [
        (0, "success", "chunk 1"),
        (1, "success", "chunk 2"),
    ]
    assert counts[1].rendered_fields == {"chunk": {"number": 2}}
    assert client.xcom("mapped", mapped_run, "counted.count", map_index=1) == 20
    assert "counting 2" in client.log("mapped", mapped_run, "counted.count", map_index=1)


def test_asset_event_carries_extra(client: AirflowClient, mapped_run: str) -> None:
    """What a task attaches to an asset is readable from the API."""
    (event,) = client.asset_events("mapped", mapped_run)
    assert (event.uri, event.task_id, event.extra) == ("hygiene-test://shop/flights", "report", {"rows": 30})


def test_failed_task_makes_the_run_red_and_can_be_cleared(client: AirflowClient) -> None:
    """A failed run stays failed until it is cleared; a second try has its own log."""
    run_id = client.trigger("failing")
    assert client.wait("failing", run_id).state == "failed"
    client.clear("failing", run_id)
    assert client.wait("failing", run_id).state == "failed"
    (task,) = client.task_instances("failing", run_id)
    assert (task.state, task.try_number) == ("failed", 2)
    assert "meant to fail" in client.log("failing", run_id, "fail", try_number=2)


def test_backfill_runs_each_interval_once_and_again_on_request(client: AirflowClient) -> None:
    """A backfill covers both its bounds with real windows; reprocessing runs the same runs anew."""
    client.unpause("daily")
    first, last = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 3, tzinfo=UTC)
    runs = client.wait_backfill(client.backfill("daily", first, last, max_active_runs=3))
    assert [run.state for run in runs] == ["success"] * 3
    assert [client.xcom("daily", run.run_id, "window") for run in runs] == [
        "2024-03-01..2024-03-02",
        "2024-03-02..2024-03-03",
        "2024-03-03..2024-03-04",
    ]
    again = client.backfill("daily", first, last, max_active_runs=3, reprocess_behavior="completed")
    assert [run.run_id for run in client.wait_backfill(again)] == [run.run_id for run in runs]
    assert {task.try_number for run in runs for task in client.task_instances("daily", run.run_id)} == {2}


def test_broken_dag_file_is_reported(client: AirflowClient, dags_folder: Path) -> None:
    """A DAG that never comes up is an error that shows why."""
    broken = dags_folder / "broken_airflow_dag.py"
    broken.write_text("from airflow.sdk import DAG\nraise ValueError('meant to break')\n")
    with pytest.raises(TimeoutError, match="meant to break"):
        client.wait_for_dag("broken", timeout_seconds=5)
    broken.unlink()


def test_viewer_may_look_but_not_run(airflow: AirflowServer, mapped_run: str) -> None:
    """The second user has the right to read and no other."""
    with contextlib.closing(airflow.login("viewer")) as viewer:
        assert viewer.run("mapped", mapped_run).state == "success"
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            viewer.trigger("mapped")


def test_stop_leaves_nothing_running(tmp_path: Path) -> None:
    """Even a task that waits for a child in a session of its own is gone once the server is, and so is the child."""
    with AirflowServer.start(tmp_path / "home", DAG_FILE.parent, connections={}, pools={"narrow": 1}) as server:
        server.client.unpause("sleeping")
        run_id = server.client.trigger("sleeping")
        child = psutil.Process(_pushed_pid(server.client, run_id))
        assert server.client.http.get("pools/narrow").json()["slots"] == 1
        family = server.family()
    assert len(family) > len(COMPONENTS)
    assert child in family
    assert not [member for member in family if _runs(member)]


def test_component_that_dies_at_start_is_an_error_with_its_log(tmp_path: Path) -> None:
    """A server that cannot start says which part failed and why, at once."""
    env = {"AIRFLOW__CORE__EXECUTOR": "NoSuchExecutor"}
    with pytest.raises(RuntimeError, match=r"(?s)airflow .* ended with .*NoSuchExecutor"):
        AirflowServer.start(tmp_path / "home", tmp_path, connections={}, env=env)


def _pushed_pid(client: AirflowClient, run_id: str) -> int:
    deadline = time.monotonic() + 30
    while True:
        try:
            return int(client.xcom("sleeping", run_id, "sleep", key="pid"))
        except httpx.HTTPStatusError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _runs(process: psutil.Process) -> bool:
    """Return whether a process does anything: one that nobody has reaped yet does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
