"""What Airflow knows of a run's time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pendulum

from airflow_dbhygiene.errors import CutoffRefused
from airflow_dbhygiene.policy.moments import Moments

if TYPE_CHECKING:
    from airflow.sdk import Context
    from pendulum import DateTime


_DATED: Final = re.compile(r"\d{4}")
"""How a moment begins that means the same in each try: "now" and "12:00" do not."""


def moments_of(context: Context, explicit: str | None) -> Moments:
    """Collect the moments from which a policy may count back.

    :param explicit: a moment in ISO 8601, with its zone or in UTC; empty when there is none
    """
    return Moments(
        explicit=parse_moment(explicit, "as_of"),
        interval_start=_aware(context.get("data_interval_start")),
        interval_end=_aware(context.get("data_interval_end")),
        partition=_aware(context.get("partition_date")),
        run_after=_aware(context["dag_run"].run_after),
    )


def origin_of(context: Context, plan_task_id: str) -> dict[str, str]:
    """Say who asks for a run: the same DAG run and plan task always mean the same run."""
    dag_run = context["dag_run"]
    return {"dag": dag_run.dag_id, "dag_run": dag_run.run_id, "task": plan_task_id}


def parse_moment(text: str | None, name: str) -> DateTime | None:
    """Read a moment in ISO 8601, with its zone or in UTC; nothing gives None.

    :param name: what an error calls it
    :raises CutoffRefused: when it is no moment
    """
    if text in (None, "", "None"):
        return None
    try:
        parsed = pendulum.parse(str(text)) if _DATED.match(str(text)) else None
    except ValueError:
        parsed = None
    if not isinstance(parsed, pendulum.DateTime):
        raise CutoffRefused(f"{name} {text!r} is not a moment: write it like 2026-01-31T00:00:00Z.")
    return parsed


def _aware(moment: Any) -> DateTime | None:
    return None if moment is None else pendulum.instance(moment)
