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
from airflow_dbhygiene.steps.schema import check_schema

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Bound, Span
    from airflow_dbhygiene.steps.work import Work

_PASSES: Final = 5


def purge_unarchived(work: Work) -> Chunk:
    """Delete all stale rows of a chunk; a retry does the rest of them.

    :raises RowsLocked: when other transactions kept rows locked to the end
    """
    if work.chunk.state not in (PLANNED, PURGING) or work.chunk.archived_rows is not None:
        raise IllegalMove(f"{work.chunk.label} is {work.chunk.state}, and has an archive: it is purged by that alone.")
    span = work.chunk.span
    for attempt in range(_PASSES):
        doubtful = _pass(work, span)
        if doubtful is None or work.chunk.state == PURGED or not _left(work, doubtful):
            work.progress.at(work.chunk.purged_through, last=True)
            return _finish(work)
        span = doubtful
        time.sleep(0.1 * 2**attempt)
    raise RowsLocked(f"{work.chunk.label}: other transactions keep rows locked; a retry tries again.")


def _pass(work: Work, span: Span) -> Span | None:
    """Go through a span once; give the part of it in which locked rows may have been skipped, None if none were."""
    doubtful: Span | None = None
    here: Span | None = span
    while here is not None:
        work.wait()
        started, asked, careful = time.monotonic(), work.batch_rows, False
        try:
            rows, after = _in_batch(work, here, careful=False)
        except StatementTimedOut:
            careful = True
            rows, after = _in_batch(work, here, careful=True)
        work.learn(asked, time.monotonic() - started, careful=careful)
        if rows < asked:
            doubtful = doubtful or here
        here = None if after is None else replace(span, lower=after)
    return doubtful


def _left(work: Work, span: Span) -> bool:
    """Tell whether rows were skipped since others had locked them."""
    with work.transaction(last=False) as held:
        return work.site.database.stale_left(work.session, work.run.selection, span, held)


def _in_batch(work: Work, span: Span, *, careful: bool) -> tuple[int, Bound | None]:
    """Delete a span's first rows; give their number, and the place behind them, None at the end."""
    started = time.monotonic()
    with work.transaction(last=False) as held:
        chunk = work.lock()
        if chunk.state == PURGED:  # by a twin
            work.chunk = chunk
            return 0, None
        rows, after = work.site.database.delete_stale(
            work.session, work.run.selection, span, work.batch_rows, held, careful=careful
        )
        check_schema(work.site, work.session, work.run)
        Discards(work.session).record_batch(chunk, rows, time.monotonic() - started, careful=careful)
        moved = Ledger(work.session).chunk(chunk.run_id, chunk.chunk)
    work.chunk = moved
    return rows, after


def _finish(work: Work) -> Chunk:
    with work.session.transaction(durable=True):
        ledger = Ledger(work.session)
        Discards(work.session).finish(ledger.chunk(work.chunk.run_id, work.chunk.chunk, lock=True))
        return ledger.chunk(work.chunk.run_id, work.chunk.chunk)
