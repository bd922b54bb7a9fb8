"""purge, of a policy that discards: delete a chunk's stale rows, of which nobody wants a copy, as gently as any other.

There is no archive to compare with: what the full condition selects goes. A batch that meets locked rows skips them;
later passes come back to these.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.errors import IllegalMove, RowsLocked, StatementTimedOut
from airflow_dbhygiene.ledger import Chunk, Ledger
from airflow_dbhygiene.ledger.discards import Discards
from airflow_dbhygiene.ledger.moves import PLANNED, PURGED, PURGING
from airflow_dbhygiene.steps.archive import check_schema

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Bound
    from airflow_dbhygiene.steps.work import Work

_PASSES: Final = 5


def purge_unarchived(work: Work) -> Chunk:
    """Delete all stale rows of a chunk; a retry does the rest of them.

    :raises RowsLocked: when other transactions kept rows locked to the end
    """
    if work.chunk.state not in (PLANNED, PURGING) or work.chunk.archived_rows is not None:
        raise IllegalMove(f"{work.chunk.label} is {work.chunk.state}, and has an archive: it is purged by that alone.")
    for attempt in range(_PASSES):
        _pass(work)
        if work.chunk.state == PURGED or not _left(work):
            work.progress.at(work.chunk.purged_through, last=True)
            return _finish(work)
        time.sleep(0.1 * 2**attempt)
    raise RowsLocked(f"{work.chunk.label}: other transactions keep rows locked; a retry tries again.")


def _pass(work: Work) -> None:
    """Go through the chunk once."""
    place = work.chunk.span.lower
    while True:
        work.wait()
        started, rows, careful = time.monotonic(), work.batch_rows, False
        try:
            place = _in_batch(work, place, careful=False)
        except StatementTimedOut:
            careful = True
            place = _in_batch(work, place, careful=True)
        work.learn(rows, time.monotonic() - started, careful=careful)
        if place is None:
            return


def _left(work: Work) -> bool:
    """Tell whether rows were skipped since others had locked them."""
    with work.transaction(last=False) as held:
        return work.site.database.stale_left(work.session, work.run.selection, work.chunk.span, held)


def _in_batch(work: Work, place: Bound | None, *, careful: bool) -> Bound | None:
    """Delete the next rows, and give the place behind them; None at the end of the chunk."""
    started = time.monotonic()
    with work.transaction(last=False) as held:
        chunk = work.lock()
        if chunk.state == PURGED:  # by a twin
            work.chunk = chunk
            return None
        span = replace(chunk.span, lower=place)
        rows, after = work.site.database.delete_stale(
            work.session, work.run.selection, span, work.batch_rows, held, careful=careful
        )
        check_schema(work.site, work.session, work.run)
        Discards(work.session).record_batch(chunk, rows, time.monotonic() - started, careful=careful)
        moved = Ledger(work.session).chunk(chunk.run_id, chunk.chunk)
    work.chunk = moved
    return after


def _finish(work: Work) -> Chunk:
    with work.session.transaction(durable=True):
        ledger = Ledger(work.session)
        Discards(work.session).finish(ledger.chunk(work.chunk.run_id, work.chunk.chunk, lock=True))
        return ledger.chunk(work.chunk.run_id, work.chunk.chunk)
