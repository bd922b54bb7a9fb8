"""The plan task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.operators.moments import moments_of, origin_of
from airflow_dbhygiene.operators.step import HygieneOperator, is_asked, refuse_unheard, shown
from airflow_dbhygiene.policy.moments import resolve_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_dbhygiene.policy import Policy
    from airflow_dbhygiene.steps.site import Site


class PlanOperator(HygieneOperator):
    """Fix the cutoff, check the table, cut the stale rows into chunks, and freeze all of it in the ledger.

    Returns one small descriptor per chunk, to map the chunk tasks over. XCom ``run`` holds the run's id, XCom
    ``plan`` the plan as text; the Rendered Template tab shows the plan too.

    :param policy: what is stale, where it goes, and how carefully
    :param as_of: the moment that keep counts back from, in ISO 8601; default is the end of the data interval, the
        partition's date, or the moment when the run was due (templated)
    :param dry_run: print the plan and stop: nothing is written, and no chunk is returned (templated)
    """

    template_fields: Sequence[str] = ("plan", "as_of", "is_dry_run", "policy_digest", "policy_json")
    template_fields_renderers = {"policy_json": "json", "plan": "text"}  # noqa: RUF012 - Airflow's own form
    overwrite_rtif_after_execution = True

    def __init__(self, *, policy: Policy, as_of: str | None = None, dry_run: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.policy_json = shown(policy)
        self.policy_digest = policy.digest
        self.as_of = as_of
        self.is_dry_run = dry_run
        self.plan = "not planned yet"
        self._policy = policy

    def connection_id(self) -> str:
        """Name the Airflow connection of the database."""
        return self._policy.conn_id

    def run_step(self, site: Site, context: Context) -> list[dict[str, Any]]:
        """Plan, or give the tickets of the plan that this DAG run has made before."""
        from airflow_dbhygiene.steps.plan import make_plan, planned_before, record_plan, run_id_of  # noqa: PLC0415

        window = resolve_window(self._policy, moments_of(context, self.as_of))
        origin = origin_of(context, self.task_id)
        dry = is_asked(self.is_dry_run, "dry_run")
        if not dry:
            refuse_unheard(context["dag_run"].conf)
        run_id = run_id_of(self._policy, window, origin)
        tickets = None if dry else planned_before(site, self._policy, window, origin)
        if tickets is None:
            plan = make_plan(site, self._policy, window, origin)
            self._show(context, plan.describe())
            tickets = () if dry else record_plan(site, plan)
        else:
            told = (
                f"run {run_id} was planned before, in {len(tickets)} chunks, and stays as it is: see the earlier log."
            )
            self._show(context, told)
        if not dry:
            context["ti"].xcom_push(key="run", value=run_id)
        return [ticket.as_dict() for ticket in tickets]

    def _show(self, context: Context, plan: str) -> None:
        self.plan = plan
        self.log.info("plan:\n%s", plan)
        context["ti"].xcom_push(key="plan", value=plan)
