"""Buttons on a task's page that lead to what an auditor wants to see."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs
from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


def _page(ti_key: TaskInstanceKey, task_id: str, tab: str) -> str:
    parts = ("dags", ti_key.dag_id, "runs", ti_key.run_id, "tasks", task_id)
    return "/" + "/".join(quote(part, safe="") for part in parts) + f"/{tab}"


@attrs.define()
class CertificateLink(BaseOperatorLink):
    """Leads to the report and its certificate, as they were rendered."""

    @property
    def name(self) -> str:
        """Name the button."""
        return "Certificate"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Give the page's address."""
        return _page(ti_key, operator.task_id, "rendered_templates")


@attrs.define()
class PlanLink(BaseOperatorLink):
    """Leads to the plan, with the SQL condition that selected the rows."""

    @property
    def name(self) -> str:
        """Name the button."""
        return "Plan"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Give the page's address."""
        plan = operator.task_id.rpartition(".")
        return _page(ti_key, f"{plan[0]}{plan[1]}plan", "rendered_templates")
