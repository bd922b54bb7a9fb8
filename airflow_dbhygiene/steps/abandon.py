"""abandon: give a run up that will never be finished, so that nothing waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.errors import IllegalMove
from airflow_dbhygiene.ledger import Ledger, migrate
from airflow_dbhygiene.ledger.abandonments import Abandonments
from airflow_dbhygiene.ledger.moves import ARCHIVED, DAMAGED, PLANNED, PURGED, VERIFIED
from airflow_dbhygiene.steps.plan import check_server
from airflow_dbhygiene.steps.report import report

if TYPE_CHECKING:
    from airflow_dbhygiene.ledger import Chunk
    from airflow_dbhygiene.steps.site import Site

_LOCK_SECONDS: Final = 30.0


def abandon(site: Site, run_id: str, reason: str, abandoned_by: str) -> dict[str, Any]:
    """Give a run up for good: its purges stop between two batches, and no step takes it further.

    What it has purged stays in its archive. Where it has purged nothing of a chunk, the chunk's objects are removed.
    Killed anywhere it may be called again; of several reasons the first one stays.

    :returns: the run's certificate
    :raises NotFound: when the ledger has no such run
    :raises IllegalMove: when all its chunks are purged
    :raises WrongServer: when it was planned on another server, or before a failover: here it never goes on anyway, and
        its objects may be all that is left of rows there
    """
    with site.database.session() as session:
        migrate(site.database, session)
        check_server(site, session, Ledger(session).existing_run(run_id))
        _give_up(session, run_id, reason, abandoned_by)
    site.tell(f"run {run_id} is given up: nothing of it is copied or deleted any more.")
    return report(site, run_id)


def _give_up(session: Any, run_id: str, reason: str, abandoned_by: str) -> None:
    """Wait for the batches under way. Others begin by the lock of their chunk, and look then whether they may."""
    ledger, abandonments = Ledger(session), Abandonments(session)
    with session.transaction(durable=True, lock_seconds=_LOCK_SECONDS):
        chunks = ledger.chunks(run_id, lock=True)
        if abandonments.of_run(run_id):
            return
        if all(chunk.state == PURGED for chunk in chunks):
            raise IllegalMove(f"run {run_id} is purged to its end: there is nothing to give up.")
        abandonments.record(run_id, reason, abandoned_by)
        for chunk in filter(_is_only_archived, chunks):
            # Its objects win no more: the report rules them out and removes them, like those of attempts that lost.
            ledger.move(chunk, PLANNED, nonce=None, archived_rows=None, compared_rows=None)


def _is_only_archived(chunk: Chunk) -> bool:
    """Tell whether all rows of a chunk's archive are left in the table, as far as this run goes."""
    return chunk.state in (ARCHIVED, VERIFIED, DAMAGED) and chunk.purged_through == chunk.purged == 0
