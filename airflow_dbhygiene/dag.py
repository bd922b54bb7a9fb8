"""From a policy to a DAG."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TaskGroup, get_parsing_context, task_group

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.operators import (
    ArchiveOperator,
    PlanOperator,
    PurgeOperator,
    ReclaimOperator,
    ReportOperator,
    RestoreOperator,
    VerifyOperator,
)
from airflow_dbhygiene.policy import Policy, load_folder
from airflow_dbhygiene.sensors import ClutterSensor

_PREFIX: Final = "hygiene_"
RUN_PARAMS = {
    "dry_run": Param(default=False, type="boolean", description="print the plan, and change nothing"),
    "as_of": Param(
        None, type=["null", "string"], format="date-time", description="count keep back from this moment instead"
    ),
}


def hygiene_dag(  # noqa: PLR0913 - a DAG has that many settings, and all have defaults
    policy: Policy,
    *,
    schedule: Any = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    dag_id: str | None = None,
    catchup: bool = False,
    at_least: Mapping[str, float] | None = None,
    on_below: Literal["skip", "wait"] = "skip",
    pool: str | None = None,
    retries: int = 4,
    **dag_settings: Any,
) -> DAG:
    """Make a DAG that keeps one table clean: sense, plan, archive, verify, purge, reclaim, report.

    :param policy: what is stale, where it goes, and how carefully
    :param schedule: as DAG takes it; for a policy with window "interval" a cron string becomes a
        CronDataIntervalTimetable in UTC, whose runs have real data intervals
    :param start_date: as DAG takes it
    :param end_date: as DAG takes it
    :param dag_id: default ``hygiene_<policy name>``
    :param catchup: as DAG takes it
    :param at_least: limits of the sensor; default is one stale row
    :param on_below: what the sensor does below its limits: "skip", or "wait" in the triggerer
    :param pool: Airflow pool of all tasks; default ``hygiene_<conn_id>``, which must exist
    :param retries: tries after a transient failure, with growing delays; terminal failures are not retried
    :param dag_settings: anything else that DAG takes; ``default_args`` and ``params`` are laid over those here
    """
    ours = default_args(policy, pool=pool, retries=retries)
    settings = {
        "dag_id": dag_id or f"{_PREFIX}{policy.name}",
        "schedule": _schedule(policy, schedule),
        "start_date": start_date,
        "end_date": end_date,
        "catchup": catchup,
        "max_active_runs": 1,
        "tags": ["hygiene", policy.conn_id, *policy.tags],
        "doc_md": doc_md(policy, pool or pool_of(policy)),
        **dag_settings,
        "params": {**RUN_PARAMS, **(dag_settings.get("params") or {})},
        "default_args": {**ours, **(dag_settings.get("default_args") or {})},
    }
    with DAG(**settings) as dag:  # noqa: AIR002 - the schedule is among the settings
        _flow(policy, at_least=at_least, on_below=on_below)
    return dag


def hygiene_task_group(  # noqa: PLR0913 - as above
    policy: Policy,
    *,
    group_id: str | None = None,
    at_least: Mapping[str, float] | None = None,
    on_below: Literal["skip", "wait"] = "skip",
    pool: str | None = None,
    retries: int = 4,
) -> TaskGroup:
    """Make the same tasks as ``hygiene_dag``, as a group in a DAG of your own.

    :param policy: what is stale, where it goes, and how carefully
    :param group_id: default is the policy's name
    :param at_least: limits of the sensor; default is one stale row
    :param on_below: what the sensor does below its limits: "skip", or "wait" in the triggerer
    :param pool: Airflow pool of all tasks; default ``hygiene_<conn_id>``, which must exist
    :param retries: tries after a transient failure
    """
    arguments: Any = default_args(policy, pool=pool, retries=retries)
    with TaskGroup(group_id or policy.name, tooltip=policy.table, default_args=arguments) as group:
        _flow(policy, at_least=at_least, on_below=on_below)
    return group


def restore_task_group(  # noqa: PLR0913 - what to put back, and how its tasks run
    conn_id: str,
    run: str,
    *,
    chunks: str = "",
    where: str = "",
    into: str = "",
    group_id: str = "restore",
    pool: str | None = None,
    retries: int = 4,
) -> TaskGroup:
    """Make a group that counts what would come back, and then puts it back: the rollback in a DAG of your own.

    :param conn_id: Airflow connection of the database (templated, as all that follow up to ``into``)
    :param run: the run's id, as its certificate and the ledger have it
    :param chunks: chunk numbers such as "3" or "2-5"; empty means all
    :param where: SQL condition that narrows the rows down; empty means all
    :param into: schema.table to put the rows into; empty means where they came from
    :param pool: Airflow pool of both tasks; default ``hygiene_<conn_id>``, which must exist
    :param retries: tries after a transient failure
    :raises PolicyInvalid: when ``conn_id`` is a template, and there is no pool: Airflow renders none in a pool's name
    """
    if pool is None and "{" in conn_id:
        raise PolicyInvalid(f"{group_id}: conn_id {conn_id!r} is a template, of which no pool has the name: give pool.")
    wish: dict[str, Any] = {"conn_id": conn_id, "run": run, "chunks": chunks, "where": where, "into": into}
    arguments: Any = {"pool": pool or f"hygiene_{conn_id}", **_tries(retries)}
    with TaskGroup(group_id, default_args=arguments) as group:
        look = RestoreOperator(task_id="look", dry_run=True, **wish)
        look >> RestoreOperator(task_id="restore", **wish)
    return group


def dags_from_folder(folder: str | Path, **settings: Any) -> dict[str, DAG]:
    """Make a DAG for each policy in a folder of YAML files: ``globals().update(dags_from_folder("policies"))``.

    When a task runs, only its own DAG is built, and nothing that is wrong with another policy fails it.

    :param folder: see ``airflow_dbhygiene.policy.load_folder``
    :param settings: for ``hygiene_dag``; a policy's own ``dag`` settings come before them
    :raises PolicyInvalid: naming file, field, value and fix
    """
    wanted = get_parsing_context().dag_id
    if wanted is not None and not wanted.startswith(_PREFIX):
        return {}
    dags: dict[str, DAG] = {}
    for entry in load_folder(folder, wanted and wanted.removeprefix(_PREFIX)):
        dag = hygiene_dag(entry.policy, **{**settings, **_moments(entry.dag, entry.file)})
        dags[dag.dag_id] = dag
    return dags


def default_args(policy: Policy, *, pool: str | None = None, retries: int = 4) -> dict[str, Any]:
    """Give what every task of a policy has: owner, pool, growing delays between tries, and whom to tell."""
    return {
        "owner": policy.owner,
        "pool": pool or pool_of(policy),
        **_tries(retries),
        "on_failure_callback": [_notifier(notify.path, notify.arguments) for notify in policy.notify] or None,
    }


def _tries(retries: int) -> dict[str, Any]:
    return {
        "retries": retries,
        "retry_delay": timedelta(seconds=15),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
    }


def pool_of(policy: Policy) -> str:
    """Name the pool that all policies of one connection share."""
    return f"hygiene_{policy.conn_id}"


def doc_md(policy: Policy, pool: str) -> str:
    """Write what the DAG does, for its page."""
    stale = ", ".join(f"{name} {value}" for name, value in policy.stale.model_dump(exclude_none=True).items())
    return f"""
### Hygiene of `{policy.table}` on `{policy.conn_id}`

| | |
|---|---|
| stale rows | {stale} |
| window | {policy.window} |
| archive | `{policy.archive.address}` |
| verified by | {policy.verify} |
| at most | {policy.guard.max_rows:,} rows a run, {policy.guard.max_fraction:.0%} of the table |
| afterwards | {policy.reclaim} |
| pool | `{pool}` (`airflow pools set {pool} 4 "hygiene of {policy.conn_id}"`) |

{_PROMISE if policy.archives else _NO_PROMISE} Run it with `dry_run` to see the plan and change
nothing. A failed task may be cleared at any time: it goes on where it stopped.
"""


_PROMISE = "Rows are deleted only after their archived copy has been read back."
_NO_PROMISE = "Rows are deleted without a copy, as the policy says."


def _flow(policy: Policy, *, at_least: Mapping[str, float] | None, on_below: Literal["skip", "wait"]) -> None:
    as_of = "{{ params.get('as_of') or '' }}"
    sense = ClutterSensor(task_id="sense", policy=policy, at_least=at_least, on_below=on_below, as_of=as_of)
    dry_run = "{{ params.get('dry_run', false) }}"
    plan = PlanOperator(task_id="plan", policy=policy, as_of=as_of, dry_run=dry_run)
    run = f"{{{{ ti.xcom_pull(task_ids='{plan.task_id}', key='run') or '' }}}}"
    chunks = (_chunk if policy.archives else _discarded_chunk).expand(ticket=plan.output)
    reclaim = ReclaimOperator(task_id="reclaim", conn_id=policy.conn_id, run=run, trigger_rule="none_failed")
    report = ReportOperator(task_id="report", policy=policy, run=run).as_teardown()
    # Airflow leaves a teardown out when it colours the run: this leaf turns red when the report, or all else, failed.
    finished = EmptyOperator(task_id="finished", trigger_rule="none_failed")
    sense >> plan >> chunks >> reclaim >> [report, finished]
    report >> finished


@task_group(group_id="chunk")
def _chunk(ticket: Mapping[str, Any]) -> None:
    archive = ArchiveOperator(task_id="archive", chunk=ticket)
    verify = VerifyOperator(task_id="verify", chunk=ticket)
    purge = PurgeOperator(task_id="purge", chunk=ticket)
    archive >> verify >> purge


@task_group(group_id="chunk")
def _discarded_chunk(ticket: Mapping[str, Any]) -> None:
    PurgeOperator(task_id="purge", chunk=ticket)


def _schedule(policy: Policy, schedule: Any) -> Any:
    if policy.window == "interval" and isinstance(schedule, str):
        return CronDataIntervalTimetable(schedule, timezone="UTC")
    return schedule


def _notifier(path: str, arguments: Mapping[str, Any]) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)(**arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise PolicyInvalid(f"notify.path {path!r} cannot be used: {error}.") from error


def _moments(settings: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Read the dates that YAML left as text."""
    read = dict(settings)
    for name in ("start_date", "end_date"):
        value = read.get(name)
        if value is None:
            continue
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            raise PolicyInvalid(f"{file}: dag.{name}: {value!r} is not a date such as 2026-01-31.") from None
        read[name] = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return read
