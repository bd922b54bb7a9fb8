"""Put archived rows back: trigger it, and fill in the form."""

from airflow.sdk import DAG, Param

from airflow_dbhygiene import RestoreOperator

with DAG(
    dag_id="hygiene_restore",
    schedule=None,
    tags=["hygiene"],
    params={
        "run": Param(type="string", description="the run's id, from its certificate", default=""),
        "chunks": Param("", type="string", description="'3' or '2-5'; empty for all"),
        "where": Param("", type="string", description="SQL condition that narrows the rows down; empty for all"),
        "into": Param("", type="string", description="schema.table; empty for the table that they came from"),
        "dry_run": Param(default=True, type="boolean", description="count what would come back, and change nothing"),
    },
):
    RestoreOperator(
        task_id="restore",
        conn_id="shop_pg",
        pool="hygiene_shop_pg",
        run="{{ params.run }}",
        chunks="{{ params.chunks }}",
        where="{{ params.where }}",
        into="{{ params.into }}",
        dry_run="{{ params.dry_run }}",
        retries=4,
    )
