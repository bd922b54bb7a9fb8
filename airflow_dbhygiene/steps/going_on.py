"""Whether a run may go on: whatever copies or deletes rows of its table asks here first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import IllegalMove, LedgerIncompatible
from airflow_dbhygiene.ledger import Ledger, migrate
from airflow_dbhygiene.ledger.abandonments import Abandonments

if TYPE_CHECKING:
    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.steps.site import Site


def run_that_goes_on(site: Site, session: Any, run_id: str) -> Run:
    """Read a run whose rows are about to be copied or deleted.

    :raises NotFound: when the ledger has no such run
    :raises IllegalMove: when it was given up
    :raises LedgerIncompatible: when its policy has a field that this version does not know
    """
    migrate(site.database, session)  # the run may have been planned by an older version
    run = Ledger(session).existing_run(run_id)
    refuse_abandoned(session, run_id)
    if run.unknown_fields:
        message = (
            f"run {run_id}: this version of airflow-dbhygiene does not know what its policy says of "
            f"{', '.join(run.unknown_fields)}, which may be a guard. Start a new run, or use a version that does."
        )
        raise LedgerIncompatible(message)
    return run


def refuse_abandoned(session: Any, run_id: str) -> None:
    """Refuse to go on with a run that was given up. Where rows go, ask behind the lock of their chunk.

    :raises IllegalMove: with the reason
    """
    if found := Abandonments(session).of_run(run_id):
        message = (
            f"run {run_id} was given up by {found.abandoned_by} ({found.reason}), and never goes on. Start a new run: "
            f"it takes what is still in the table."
        )
        raise IllegalMove(message)
