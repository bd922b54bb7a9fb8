"""reclaim: let the table use the space of deleted rows again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_dbhygiene.ledger import Ledger

if TYPE_CHECKING:
    from airflow_dbhygiene.steps.site import Site


@dataclass(frozen=True)
class Reclaimed:
    """What was done, and the table's sizes in bytes before and after."""

    action: str
    table_bytes_before: int
    table_bytes_after: int
    dead_tuples_before: int
    dead_tuples_after: int


def reclaim(site: Site, run_id: str) -> Reclaimed:
    """Do what the run's policy says: vacuum, analyze or none.

    :raises PrivilegeMissing: when the server only warned that it skipped the table
    """
    with site.database.session() as session:
        run = Ledger(session).existing_run(run_id)
        action, table = run.policy.reclaim, run.selection.table
        before = site.database.table_sizes(session, table)
        if action == "vacuum":
            site.database.vacuum(session, table)
        elif action == "analyze":
            site.database.analyze(session, table)
        after = site.database.table_sizes(session, table)
    return Reclaimed(action, before["table_bytes"], after["table_bytes"], before["dead_tuples"], after["dead_tuples"])


def rows_purged(site: Site, run_id: str) -> int:
    """Count the rows that a run has deleted so far."""
    with site.database.session() as session:
        return int(Ledger(session).figures(run_id)["rows_purged"])
