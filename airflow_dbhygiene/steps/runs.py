"""runs: what the ledger says of a database's latest runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dbhygiene.ledger import Ledger

if TYPE_CHECKING:
    from airflow_dbhygiene.ledger.records import RunRow
    from airflow_dbhygiene.steps.site import Site


def list_runs(site: Site, policy: str | None = None, most: int = 20) -> tuple[RunRow, ...]:
    """Give the latest runs, of a policy or of all, the newest first."""
    with site.database.session() as session:
        return Ledger(session).latest_runs(policy, most) if Ledger.exists(session) else ()
