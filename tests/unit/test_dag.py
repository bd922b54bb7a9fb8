"""A policy becomes a DAG whose tasks are as careful as the policy says, whatever else the DAG is given."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_dbhygiene import OlderThan, Parquet, Policy, dags_from_folder, hygiene_dag
from airflow_dbhygiene.dag import restore_task_group
from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.operators import PlanOperator
from airflow_dbhygiene.operators.step import is_asked, refuse_unheard, task_name
from airflow_dbhygiene.sensors import ClutterSensor


def policy(**changes: Any) -> Policy:
    """Give a policy with somebody to tell."""
    fields: dict[str, Any] = {
        "name": "orders",
        "conn_id": "shop_pg",
        "table": "public.orders",
        "owner": "data-platform",
        "stale": OlderThan("at", keep="90 days"),
        "archive": Parquet("file:///cold"),
        "notify": [{"path": "tests.unit.test_dag.Note", "arguments": {"text": "failed"}}],
    }
    return Policy(**fields | changes)


class Note:
    """Stand for a notifier."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, context: Any) -> None:
        """Tell nobody."""


def test_default_args_of_ones_own_take_nothing_away() -> None:
    """Who sets a time-out keeps the pool, the retries, the owner, and whoever is told of a failure."""
    dag = hygiene_dag(policy(), default_args={"execution_timeout": timedelta(hours=2), "retries": 1})
    for task in (dag.get_task("plan"), dag.get_task("chunk.purge"), dag.get_task("report")):
        assert (task.owner, task.pool, task.retries) == ("data-platform", "hygiene_shop_pg", 1)
        assert task.execution_timeout == timedelta(hours=2)
        assert [type(told) for told in task.on_failure_callback] == [Note]


def test_params_of_ones_own_leave_the_dry_run() -> None:
    """The form still has its switch."""
    dag = hygiene_dag(policy(), params={"ticket": "none"})
    assert dag.params.dump() == {"dry_run": False, "as_of": None, "ticket": "none"}


def test_a_restore_on_a_templated_connection_needs_a_pool() -> None:
    """Airflow renders no template in a pool's name: its tasks would be scheduled for ever."""
    with DAG("restores", schedule=None):
        with pytest.raises(PolicyInvalid, match=r"restore: conn_id '\{\{ params\.db \}\}' is a template.*give pool"):
            restore_task_group("{{ params.db }}", "{{ params.run }}")
        group = restore_task_group("{{ params.db }}", "{{ params.run }}", group_id="pooled", pool="restores")
        assert {task.pool for task in group.iter_tasks()} == {"restores"}


def test_a_task_builds_its_own_dag_past_policies_that_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of hundreds of policies somebody has just mistyped one: the tasks of the others go on."""
    for name in ("orders", "lines"):
        text = policy(name=name, notify=()).json_text
        (tmp_path / f"{name}.yaml").write_text(text.replace("90 days", "ninety days") if name == "lines" else text)
    with pytest.raises(PolicyInvalid, match=r"lines\.yaml"):
        dags_from_folder(tmp_path)
    for dag_id, built in (("hygiene_orders", {"hygiene_orders"}), ("another", set()), ("hygiene_other", set())):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)
        assert dags_from_folder(tmp_path).keys() == built


@pytest.mark.parametrize("where", ["note LIKE '{%'", "note = '{{ ds }}'", "note LIKE '{#%'", "l = '{{1,2},{3,4}}'"])
def test_braces_in_a_condition_are_no_template(where: str) -> None:
    """JSON texts and arrays begin with them: the task shows them as they are, and does not fail."""
    braced = policy(stale=OlderThan("at", keep="90 days", where=where))
    with DAG("braces", schedule=None):
        tasks = (PlanOperator(task_id="plan", policy=braced), ClutterSensor(task_id="sense", policy=braced))
    for task in tasks:
        task.render_template_fields({"params": {}})  # type: ignore[typeddict-item]
        assert json.loads(task.policy_json) == json.loads(braced.json_text)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (True, True),
        ("True", True),
        ("on", True),
        (" yes", True),
        ("1", True),
        (False, False),
        ("", False),
        (None, False),
    ],
)
def test_a_switch_is_read_as_people_write_it(said: Any, meant: bool) -> None:  # noqa: FBT001 - a case
    """From Python, from a form, or from a template."""
    assert is_asked(said, "dry_run") is meant


def test_a_switch_that_says_neither_is_refused() -> None:
    """A misspelled dry run is no real one."""
    with pytest.raises(PolicyInvalid, match=r"dry_run is 'ture': write true or false"):
        is_asked("ture", "dry_run")


@pytest.mark.parametrize(
    "key", ["dry_run", "dryrun", "dry-run", "dryRun", "DRY_RUN", "dry run", "is_dry_run", "dry_rum"]
)
def test_a_dry_run_that_no_task_heard_of_is_refused(key: str) -> None:
    """Airflow takes whatever a run is triggered with: a misspelled switch, or one that a DAG has not, made a real run."""
    with pytest.raises(PolicyInvalid, match=rf"triggered with '{key}', and this would be a real one: write 'dry_run'"):
        refuse_unheard({key: True})
    refuse_unheard({key: False})


@pytest.mark.parametrize(
    "conf", [None, {}, {"run": "x"}, {"dry": "goods"}, {"as_of": "2026-01-31"}, {"test_run": True}]
)
def test_whatever_else_a_run_is_triggered_with_is_its_own_affair(conf: Any) -> None:
    """A group in somebody's DAG shares its settings with other tasks."""
    refuse_unheard(conf)


def test_each_of_a_mapped_task_has_a_name_of_its_own() -> None:
    """Holds and restores go by it: of several mapped ones each is one."""
    task = {"dag_id": "d", "run_id": "r", "task_id": "t"}
    names = [task_name({"ti": SimpleNamespace(**task, map_index=index)}) for index in (-1, 0, 1)]  # type: ignore[arg-type]
    assert names == ["d r t", "d r t 0", "d r t 1"]
