"""Sensors that wait for clutter."""

from datetime import UTC, datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from staging import impatient, stage

from airflow_dbhygiene import ClutterSensor, OlderThan, Parquet, Policy

START = datetime(2024, 1, 1, tzinfo=UTC)
LIMIT = {"stale_rows": 10}

ways = stage("ways")
with DAG("sensors_wait", schedule=None, start_date=START, **impatient(ways)):
    common = {"policy": ways, "at_least": LIMIT, "on_below": "wait", "poke_interval": 1}
    ClutterSensor(task_id="poking", deferrable=False, mode="poke", **common)
    ClutterSensor(task_id="rescheduled", deferrable=False, mode="reschedule", **common)
    ClutterSensor(task_id="deferred", **common)
    ClutterSensor(task_id="timed_out", **{**common, "at_least": {"stale_rows": 10**6}, "timeout": 6})
    ClutterSensor(task_id="skipping", policy=ways, at_least=LIMIT) >> EmptyOperator(task_id="behind")
    ClutterSensor(task_id="any_limit", policy=ways, at_least={"stale_rows": 10**6, "table_bytes": 1})
    ClutterSensor(task_id="unknown_measure", policy=ways, at_least={"stale_rwos": 1})

with DAG("sensor_outage", schedule=None, start_date=START, default_args={"pool": "hygiene_fragile_pg"}):
    outage = stage("outage", conn_id="fragile_pg")
    ClutterSensor(task_id="deferred", policy=outage, at_least=LIMIT, on_below="wait", poke_interval=1)
    ClutterSensor(
        task_id="impatient", policy=outage, at_least=LIMIT, on_below="wait", poke_interval=1, patience_seconds=1
    )

with DAG("sensor_terminal", schedule=None, start_date=START, default_args={"pool": "hygiene_lab_pg", "retries": 4}):
    terminal = Policy(
        name="dropped",
        conn_id="lab_pg",
        table="dropped.events",
        stale=OlderThan("at", keep="90 days"),
        archive=Parquet("s3://cold_store@cold/dropped"),
    )
    ClutterSensor(task_id="deferred", policy=terminal, at_least=LIMIT, on_below="wait", poke_interval=1)
