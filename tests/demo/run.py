"""One run of an example through Airflow's scheduler, watched."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.demo.stage import Stage
from tests.demo.terminal import Terminal
from tests.servers.airflow_records import TaskInstance

AS_OF = "2014-01-01T00:00:00Z"
CUTOFF = "2013-10-03T00:00:00Z"
"""Ninety days before, which is what the policy keeps."""

_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 600
_OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class RunFailed(Exception):
    """Airflow's run is not green; the message holds the ends of the failed tasks' logs."""


@dataclass(frozen=True)
class Run:
    """A green run: its id in Airflow, the certificate that the report gave, and its tasks."""

    run_id: str
    certificate: Mapping[str, Any]
    tasks: Sequence[TaskInstance]

    def seconds_of(self, step: str) -> float:
        """Add up what Airflow took for a step's tasks, start of process included."""
        return sum(task.duration_seconds or 0 for task in self.tasks if task.task_id.rpartition(".")[2] == step)

    def count(self, step: str) -> int:
        """Count a step's tasks."""
        return sum(task.task_id.rpartition(".")[2] == step for task in self.tasks)


def run_dag(stage: Stage, terminal: Terminal, rows_stale: int) -> Run:
    """Trigger the DAG and watch it to its end.

    :raises RunFailed: when the run is red, or does not end
    """
    client, dag = stage.airflow.client, stage.dag
    with terminal.step(f"waiting for Airflow to read dags/{stage.shop.example}.py"):
        client.unpause(dag)
        run_id = client.trigger(dag, conf={"as_of": AS_OF})
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not client.run(dag, run_id).finished:
            tasks = client.task_instances(dag, run_id)
            terminal.now(_progress(tasks, stage.shop.rows_purged(), rows_stale))
            if time.monotonic() > deadline:
                raise RunFailed(_complaint(stage, run_id, f"is not finished after {_PATIENCE_SECONDS} s"))
            time.sleep(_LOOK_SECONDS)
    state = client.run(dag, run_id).state
    if state != "success":
        raise RunFailed(_complaint(stage, run_id, f"ended as {state}"))
    return Run(run_id, client.xcom(dag, run_id, "report"), client.task_instances(dag, run_id))


def _progress(tasks: Sequence[TaskInstance], purged: int, stale: int) -> str:
    over = sum(task.state in _OVER for task in tasks)
    running = dict.fromkeys(_short(task) for task in tasks if task.state == "running")
    now = ", ".join(running) or "scheduling"
    return f"tasks {over}/{len(tasks)} · purged {purged:,} of {stale:,} rows · now: {now}"


def _short(task: TaskInstance) -> str:
    step = task.task_id.rpartition(".")[2]
    return step if task.map_index < 0 else f"{step} {task.map_index + 1}"


def _complaint(stage: Stage, run_id: str, fault: str) -> str:
    client, dag = stage.airflow.client, stage.dag
    lines = [f"the run {run_id} of {dag} {fault}:"]
    for task in client.task_instances(dag, run_id):
        lines.append(f"  {task.task_id} {task.rendered_map_index or ''} {task.state}, try {task.try_number}")
        if task.state in ("failed", "up_for_retry"):
            lines.append(client.log(dag, run_id, task.task_id, task.map_index, task.try_number)[-2000:])
    return "\n".join(lines)
