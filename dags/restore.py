"""Put archived rows back: trigger it, and fill in the form."""

from airflow.sdk import DAG, Param

from airflow_dbhygiene import RestoreOperator


def optional(description: str) -> Param:
    """Make a field of a form that may be left empty: Airflow asks for a text wherever null is not allowed."""
    return Param(None, type=["null", "string"], description=description)


with DAG(
    dag_id="hygiene_restore",
    schedule=None,
    tags=["hygiene"],
    params={
        "run": Param(type="string", description="the run's id, from its certificate", default=""),
        "chunks": optional("'3' or '2-5'; empty for all"),
        "where": optional("SQL condition that narrows the rows down; empty for all"),
        "into": optional("schema.table; empty for the table that they came from"),
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
