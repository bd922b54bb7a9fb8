"""The operators one by one, the same as a group in a DAG of your own, and a DAG that follows when a run is finished."""

from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task, task_group

from airflow_dbhygiene import (
    ArchiveOperator,
    ClutterSensor,
    OlderThan,
    Parquet,
    PlanOperator,
    Policy,
    PurgeOperator,
    ReclaimOperator,
    ReportOperator,
    VerifyOperator,
    hygiene_task_group,
    policy_asset,
)

START = datetime(2013, 1, 1, tzinfo=UTC)

early_flights = Policy(
    name="early_flights",
    conn_id="shop_pg",
    table="public.flights",
    stale=OlderThan("time_hour", keep="180 days", where="hour < 6"),
    archive=Parquet("s3://cold_store@cold/early_flights"),
)
late_flights = Policy(
    name="late_flights",
    conn_id="shop_pg",
    table="public.flights",
    stale=OlderThan("time_hour", keep="180 days", where="hour > 20"),
    archive=Parquet("s3://cold_store@cold/late_flights"),
)

with DAG(
    "flights_explicit", schedule=None, start_date=START, tags=["hygiene"], default_args={"pool": "hygiene_shop_pg"}
):
    sense = ClutterSensor(task_id="sense", policy=early_flights, at_least={"stale_rows": 1_000})
    plan = PlanOperator(task_id="plan", policy=early_flights)

    @task_group
    def chunk(ticket: dict[str, Any]) -> None:
        """Archive, verify and purge one chunk."""
        archive = ArchiveOperator(task_id="archive", chunk=ticket)
        archive >> VerifyOperator(task_id="verify", chunk=ticket) >> PurgeOperator(task_id="purge", chunk=ticket)

    run = "{{ ti.xcom_pull(task_ids='plan', key='run') or '' }}"
    reclaim = ReclaimOperator(task_id="reclaim", conn_id="shop_pg", run=run, trigger_rule="none_failed")
    report = ReportOperator(task_id="report", policy=early_flights, run=run).as_teardown()
    # A teardown does not count for the run's colour: this task does.
    finished = EmptyOperator(task_id="finished", trigger_rule="none_failed")
    sense >> plan >> chunk.expand(ticket=plan.output) >> reclaim >> [report, finished]
    report >> finished

with DAG("flights_with_hygiene", schedule=None, start_date=START, tags=["hygiene"]):

    @task
    def load() -> None:
        """Stand for whatever fills the table."""

    @task
    def refresh() -> None:
        """Stand for whatever wants the table clean."""

    load() >> hygiene_task_group(late_flights) >> refresh()

with DAG("flights_archived", schedule=[policy_asset(late_flights)], start_date=START, tags=["hygiene"]):

    @task
    def tell(triggering_asset_events: Any = None) -> list[int]:
        """Read the figures that each finished run leaves on its asset."""
        events = triggering_asset_events[policy_asset(late_flights)]
        return [event.extra.get("rows_purged", 0) for event in events]

    tell()
