"""runs: what the ledger says of a database's latest runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_dbhygiene.ledger import Ledger
from airflow_dbhygiene.ledger.abandonments import ABANDONED, Abandonments

if TYPE_CHECKING:
    from airflow_dbhygiene.ledger.records import RunRow
    from airflow_dbhygiene.steps.site import Site


def list_runs(site: Site, policy: str | None = None, most: int = 20) -> tuple[RunRow, ...]:
    """Give the latest runs, of a policy or of all, the newest first."""
    with site.database.session() as session:
        if not Ledger.exists(session):
            return ()
        given_up = Abandonments(session).run_ids()
        runs = Ledger(session).latest_runs(policy, most)
        return tuple(replace(run, state=ABANDONED) if run.run_id in given_up else run for run in runs)
