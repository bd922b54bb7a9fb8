"""The tasks that close a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from airflow_dbhygiene.operators.links import CertificateLink, PlanLink
from airflow_dbhygiene.operators.step import RunOperator, given, readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_dbhygiene.policy import Policy
    from airflow_dbhygiene.steps.site import Site


class ReclaimOperator(RunOperator):
    """Let the table use the space of deleted rows again, or give it back to the disk, as the run's policy says.

    Returns what was done, and the table's figures before and after. Skipped when no row was purged, or when a copy of
    the table, which the policy asks for, would have hurt.

    :param conn_id: Airflow connection of the database
    :param run: the run's id
    """

    def run_step(self, site: Site, context: Context) -> dict[str, Any]:
        """Call the step, unless nothing was deleted."""
        from airflow_dbhygiene.steps.reclaim import reclaim, rows_purged  # noqa: PLC0415

        run = self.run_id()
        if not rows_purged(site, run):
            raise AirflowSkipException("no row was purged: there is no space to reclaim.")
        done = reclaim(site, run)
        self.log.info("reclaim: %s", done.describe())
        if done.skipped:
            context["ti"].xcom_push("reclaimed", done.as_dict())
            raise AirflowSkipException(done.describe())
        return done.as_dict()


class ReportOperator(RunOperator):
    """Write the certificate, tell the figures, and emit an asset event that carries them.

    Returns the certificate, or ``{"state": "not planned"}`` when no run was planned: then there is no event.
    The Rendered Templates tab shows the certificate without its list of chunks.

    :param conn_id: Airflow connection of the database
    :param run: the run's id; empty when nothing was planned
    :param policy: the policy, for the name of its asset
    """

    template_fields: Sequence[str] = ("report", "certificate", "conn_id", "run")
    template_fields_renderers = {"report": "text", "certificate": "json"}  # noqa: RUF012 - Airflow's own form
    operator_extra_links = (CertificateLink(), PlanLink())
    overwrite_rtif_after_execution = True

    def __init__(self, *, policy: Policy, **kwargs: Any) -> None:
        self._asset = policy_asset(policy)
        super().__init__(**{"conn_id": policy.conn_id, "outlets": [self._asset], **kwargs})
        self.report = "not reported yet"
        self.certificate = ""
        self._policy_name = policy.name

    def run_step(self, site: Site, context: Context) -> dict[str, Any]:
        """Call the step."""
        from airflow_dbhygiene.steps.report import describe, report, told_before  # noqa: PLC0415

        if not self.has_run:
            self.report = "nothing to report: no run was planned, or it was a dry run."
            self.log.info(self.report)
            self.outlets = []  # Airflow would emit an event for each, and start whatever follows a finished run
            return {"policy": self._policy_name, "state": "not planned"}
        before = told_before(site, self.run_id())
        certificate = report(site, self.run_id(), given(context["dag_run"].triggering_user_name))
        without_chunks = {name: value for name, value in certificate.items() if name != "chunk_list"}
        self.report, self.certificate = describe(certificate), readable(without_chunks)
        self.log.info("report:\n%s", self.report)
        figures = {name: value for name, value in without_chunks.items() if name != "predicate"}
        context["outlet_events"][self._asset].extra = figures
        _count(certificate, before)
        return certificate


def policy_asset(policy: Policy) -> Asset:
    """Give the asset whose events tell of a policy's finished runs."""
    return Asset(name=f"hygiene/{policy.name}", uri=f"x-dbhygiene://{policy.conn_id}/{policy.name}", group="hygiene")


def _count(certificate: dict[str, Any], before: dict[str, Any]) -> None:
    """Publish the figures as Airflow's own metrics: what an earlier report of the run has counted counts once."""
    from airflow.sdk.observability import stats  # noqa: PLC0415

    tags = {"policy": certificate["policy"]}
    for name in ("archived", "purged", "drifted", "held", "vanished"):
        more = int(certificate[f"rows_{name}"]) - int(before.get(f"rows_{name}", 0))
        stats.incr(f"dbhygiene.rows_{name}", max(more, 0), tags=tags)  # OpenTelemetry's counters refuse to go back
    stats.gauge("dbhygiene.rows_waiting", certificate["rows_waiting"], tags=tags)
