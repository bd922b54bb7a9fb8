"""Read the archives back: once a month all that a policy has written, or, by hand, what the form says."""

from datetime import UTC, datetime

from airflow.sdk import DAG, Param

from airflow_dbhygiene import VerifyArchiveOperator

with DAG(
    dag_id="hygiene_verify_archive",
    schedule="@monthly",
    start_date=datetime(2014, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["hygiene"],
    params={
        "policy": Param("flights", type=["null", "string"], description="all runs of a policy, and their chain"),
        "run": Param(None, type=["null", "string"], description="one run alone; leave policy empty then"),
    },
):
    VerifyArchiveOperator(
        task_id="verify_archive",
        conn_id="shop_pg",
        policy="{{ params.policy }}",
        run="{{ params.run }}",
        retries=4,
    )
