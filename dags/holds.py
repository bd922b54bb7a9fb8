"""Place and release legal holds, pause and resume: trigger one of these, and fill in the form."""

from typing import Any

from airflow.sdk import DAG, Param

from airflow_dbhygiene import HoldOperator, PauseOperator, ReleaseHoldOperator, ResumeOperator

SHOP = {"conn_id": "shop_pg"}


def text(description: str, default: str = "", **schema: Any) -> Param:
    """Make a field of a form."""
    return Param(default, type="string", description=description, **schema)


def optional(description: str, **schema: Any) -> Param:
    """Make a field that may be left empty: Airflow asks for a text wherever null is not allowed."""
    return Param(None, type=["null", "string"], description=description, **schema)


with DAG(
    dag_id="hygiene_hold",
    schedule=None,
    tags=["hygiene"],
    params={
        "table": text("schema.table, as the catalogue spells it"),
        "reason": text("the case, for whoever asks later"),
        "where": optional("SQL condition that the held rows fulfil; or give keys"),
        "keys": optional("values of the primary key, one a line", format="multiline"),
        "until": optional("when the hold ends by itself; empty for when it is released", format="date-time"),
        "hold_id": optional("what to release it by; empty to have one made up"),
    },
):
    HoldOperator(
        task_id="hold",
        **SHOP,
        table="{{ params.table }}",
        reason="{{ params.reason }}",
        where="{{ params.where }}",
        keys="{{ params['keys'] }}",
        until="{{ params.until }}",
        hold_id="{{ params.hold_id }}",
        retries=4,
    )

with DAG("hygiene_release_hold", schedule=None, tags=["hygiene"], params={"hold_id": text("the hold's id")}):
    ReleaseHoldOperator(task_id="release", **SHOP, hold_id="{{ params.hold_id }}", retries=4)

SCOPE = text("all, table:<schema.table> or policy:<name>", "all")

with DAG("hygiene_pause", schedule=None, tags=["hygiene"], params={"scope": SCOPE, "reason": text("why")}):
    PauseOperator(task_id="pause", **SHOP, scope="{{ params.scope }}", reason="{{ params.reason }}", retries=4)

with DAG("hygiene_resume", schedule=None, tags=["hygiene"], params={"scope": SCOPE}):
    ResumeOperator(task_id="resume", **SHOP, scope="{{ params.scope }}", retries=4)
