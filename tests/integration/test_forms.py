"""The operators of holds, pauses and verify-archive do what is filled into their fields, and say who wanted it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from airflow_dbhygiene import (
    HoldOperator,
    PauseOperator,
    PlanOperator,
    ReleaseHoldOperator,
    ResumeOperator,
    VerifyArchiveOperator,
    restore_task_group,
)
from airflow_dbhygiene.policy import Parquet
from airflow_dbhygiene.steps.hold import list_holds
from airflow_dbhygiene.steps.pause import list_pauses
from tests.job import AS_OF, STALE_EVENTS, Job

FIELDS: dict[str, Any] = {"task_id": "t", "conn_id": "shop_pg"}
CONTEXT: Any = {
    "dag_run": SimpleNamespace(dag_id="d", run_id="r", triggering_user_name="anna"),
    "ti": SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1),
}
SCHEDULED: Any = {"dag_run": SimpleNamespace(dag_id="d", run_id="r", triggering_user_name=None)}

pytestmark = pytest.mark.rights("all", "Airflow's connection is the administrator's here")


@pytest.fixture(autouse=True)
def _connection(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow know the database, as its environment tells it."""
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_PG", job.dsn)


def test_a_restore_as_a_group(job: Job) -> None:
    """The first task counts and changes nothing, the second puts the rows back; both run in the database's pool."""
    run = job.run(job.policy(archive=Parquet(f"file://{job.folder}")))["run"]
    with DAG("rollback", schedule=None):
        group = restore_task_group("shop_pg", run, where="id < 100")
    look, restore = group.children["restore.look"], group.children["restore.restore"]
    assert look.downstream_task_ids == {"restore.restore"}
    assert {task.pool for task in (look, restore)} == {"hygiene_shop_pg"}
    assert look.execute(CONTEXT) == {"restored": 100, "existing": 0, "earlier": 0}
    assert job.one("SELECT count(*) FROM events WHERE id < 100") == 0
    assert restore.execute(CONTEXT) == {"restored": 100, "existing": 0, "earlier": 0}
    assert job.one("SELECT count(*) FROM events WHERE id < 100") == 100


def test_a_plan_that_was_to_be_dry_is_refused(job: Job) -> None:
    """Whoever wrote the DAG forgot the switch, and whoever triggers it does not know."""
    dag_run = SimpleNamespace(dag_id="d", run_id="r", run_after=AS_OF, conf={"dry_run": True})
    task = PlanOperator(task_id="plan", policy=job.policy(conn_id="shop_pg", archive=Parquet(f"file://{job.folder}")))
    with pytest.raises(AirflowFailException, match="give PlanOperator dry_run="):
        task.execute({**CONTEXT, "dag_run": dag_run})
    assert job.one("SELECT to_regclass('dbhygiene.run') IS NULL")


def test_a_hold_by_a_task(job: Job) -> None:
    """Placed by whoever triggered the run, once however often it is tried, and released by whoever is named."""
    task = HoldOperator(**FIELDS, table="public.events", reason="case 7", keys="16\n17\n", until="2100-01-01")
    assert task.execute(CONTEXT) == task.execute(CONTEXT) == {"hold_id": "d r t", "rows": 2}
    (hold,) = list_holds(job.site)
    assert (hold.placed_by, hold.reason, str(hold.until_at)) == ("anna", "case 7", "2100-01-01 00:00:00+00:00")
    assert job.run(job.policy())["rows_purged"] == STALE_EVENTS - 2
    assert ReleaseHoldOperator(**FIELDS, hold_id="d r t", by="judge").execute(CONTEXT) == "d r t"
    assert list_holds(job.site, released=True)[0].released_by == "judge"
    with pytest.raises(AirflowFailException, match="'nothing' is not in this database's ledger"):
        ReleaseHoldOperator(**FIELDS, hold_id="nothing").execute(CONTEXT)


def test_a_pause_by_a_task(job: Job) -> None:
    """Nobody has triggered a scheduled run: the DAG itself stands for it."""
    assert PauseOperator(**FIELDS, scope="all", reason="month end").execute(SCHEDULED) == "all"
    assert [(each.scope, each.placed_by) for each in list_pauses(job.site)] == [("all", "DAG d")]
    assert ResumeOperator(**FIELDS, scope="all").execute(SCHEDULED) == "all"
    assert list_pauses(job.site) == ()


def test_an_archive_is_verified_by_a_task(job: Job) -> None:
    """Green and counted when all is there; red, with every fault, when not."""
    certificate = job.run(job.policy(archive=Parquet(f"file://{job.folder}")))
    task = VerifyArchiveOperator(**FIELDS, policy="events", run="None")
    assert task.execute(CONTEXT)["rows"] == STALE_EVENTS
    for chunk in certificate["chunk_list"][:2]:
        (job.folder / chunk["objects"][0]["name"]).unlink()
    with pytest.raises(AirflowFailException, match=r"2 faults(.|\n)*is missing(.|\n)*is missing"):
        task.execute(CONTEXT)
    with pytest.raises(AirflowFailException, match="a policy or a run"):
        VerifyArchiveOperator(**FIELDS).execute(CONTEXT)
