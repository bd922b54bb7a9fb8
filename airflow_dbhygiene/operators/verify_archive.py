"""The task that asks whether the evidence is still what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import ArchiveDamaged, PolicyInvalid
from airflow_dbhygiene.operators.step import HygieneOperator, given

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_dbhygiene.steps.site import Site


class VerifyArchiveOperator(HygieneOperator):
    """Read a run's archive, or those of all runs of a policy, back and compare them with the ledger.

    Fails at once, with every fault in its log, when anything is missing or altered. Returns how much was read.

    :param conn_id: Airflow connection of the database whose ledger knows the archive (templated)
    :param policy: name of a policy: all its runs, and the chain of their certificates (templated); or
    :param run: the id of one run (templated)
    """

    template_fields: Sequence[str] = ("conn_id", "policy", "run")

    def __init__(self, *, conn_id: str, policy: str = "", run: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.policy = policy
        self.run = run

    def connection_id(self) -> str:
        """Name the Airflow connection of the database."""
        return self.conn_id

    def run_step(self, site: Site, context: Context) -> dict[str, int]:  # noqa: ARG002 - an operator's signature
        """Call the step."""
        from airflow_dbhygiene.steps.verify_archive import verify_archive  # noqa: PLC0415

        policy, run = given(self.policy), given(self.run)
        if bool(policy) == bool(run):
            raise PolicyInvalid("say what to verify: a policy or a run.")
        found = verify_archive(site, policy=policy, run_id=run)
        self.log.info("verify-archive: %s", found.describe())
        if found.findings:
            raise ArchiveDamaged(found.describe())
        return {name: getattr(found, name) for name in ("runs", "certificates", "objects", "rows", "bytes")}
