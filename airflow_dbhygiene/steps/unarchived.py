"""purge, of a policy that discards: delete a chunk's stale rows, of which nobody wants a copy, as gently as any other.

There is no archive to compare with: what the full condition selects goes. A batch that meets locked rows skips them;
later passes come back to these.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.databases.protocol import Discarded
from airflow_dbhygiene.errors import IllegalMove, RowsLocked, RowsReferenced, StatementTimedOut
from airflow_dbhygiene.ledger import Chunk, Ledger
from airflow_dbhygiene.ledger.discards import Discards
from airflow_dbhygiene.ledger.moves import PLANNED, PURGED, PURGING
from airflow_dbhygiene.steps.going_on import refuse_abandoned
from airflow_dbhygiene.steps.schema import check_schema
from airflow_dbhygiene.steps.scout import Scout, scouting
from airflow_dbhygiene.steps.work import unreferenced

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Span
    from airflow_dbhygiene.steps.work import Work

_FUTILE_PASSES: Final = 5
_MOST_PASSES: Final = 100
_MOST_TIMES: Final = 10
"""Where the application adds stale rows faster than they are deleted, neither passes nor a pass would ever end."""


def purge_unarchived(work: Work) -> Chunk:
    """Delete all stale rows of a chunk; a retry does the rest of them.

    :raises RowsLocked: when other transactions kept rows locked to the end
    """
    if work.chunk.state not in (PLANNED, PURGING) or work.chunk.archived_rows is not None:
        raise IllegalMove(f"{work.chunk.label} is {work.chunk.state}, and has an archive: it is purged by that alone.")
    with scouting(work.site, work.run.selection) as scout:
        if _purged_in_passes(work, scout):
            work.progress.at(work.chunk.purged_through, last=True)
            return _finish(work)
    raise RowsLocked(f"{work.chunk.label}: other transactions keep rows locked; a retry tries again.")


def _purged_in_passes(work: Work, scout: Scout) -> bool:
    """Go through the chunk until no locked row was skipped, or enough is deleted; tell whether that came about."""
    span, futile = work.chunk.span, 0
    for _ in range(_MOST_PASSES):
        before = work.chunk.purged
        doubtful = _pass(work, scout, span)
        if doubtful is None or work.chunk.state == PURGED:
            return True
        futile += work.chunk.purged == before
        if futile == _FUTILE_PASSES:
            break
        span = doubtful
        time.sleep(0.1 * 2**futile)
    return False


def _pass(work: Work, scout: Scout, span: Span) -> Span | None:
    """Go through a span once; give the part of it in which locked rows were skipped, None if none were."""
    doubtful: Span | None = None
    here: Span | None = span
    while here is not None and work.chunk.state != PURGED:  # by a twin
        if _is_enough(work):
            return None
        work.wait()
        started = time.monotonic()
        after, rows = scout.place(here, work.batch_rows)
        rest = None if after is None else replace(span, lower=after)
        if rest is not None:
            scout.begin(rest, work.batch_rows)
        piece = replace(here, upper=after or here.upper)
        done, careful = _deleted(work, piece, rows)
        work.learn(rows, time.monotonic() - started, careful=careful)
        if done.skipped:
            doubtful = replace(doubtful or piece, upper=piece.upper)
        here = rest
    return doubtful


def _is_enough(work: Work) -> bool:
    """Leave to the next run what has become stale since the plan, beyond a multiple of what was planned."""
    enough = work.chunk.purged >= _MOST_TIMES * work.chunk.planned_rows + work.batch_rows
    if enough:
        work.site.tell(f"{work.chunk.label}: rows become stale faster than planned. The next run takes the rest.")
    return enough


def _deleted(work: Work, piece: Span, rows: int) -> tuple[Discarded, bool]:
    """Delete a piece at once, or else row by row; tell which it was."""
    try:
        return _in_batch(work, piece, rows, careful=False), False
    except (StatementTimedOut, RowsReferenced):
        return _in_batch(work, piece, rows, careful=True), True


def _in_batch(work: Work, piece: Span, rows: int, *, careful: bool) -> Discarded:
    """Delete the stale rows of a piece, of which there were so many."""
    started = time.monotonic()
    with work.transaction(last=False) as held, unreferenced(work.run.policy):
        chunk = work.lock()
        if chunk.state == PURGED:
            work.chunk = chunk
            return Discarded(0)
        done = work.site.database.delete_stale(work.session, work.run.selection, piece, rows, held, careful=careful)
        check_schema(work.site, work.session, work.run)
        Discards(work.session).record_batch(chunk, done.rows, time.monotonic() - started, careful=careful)
        moved = Ledger(work.session).chunk(chunk.run_id, chunk.chunk)
    work.chunk = moved
    return done


def _finish(work: Work) -> Chunk:
    with work.session.transaction(durable=True):
        ledger = Ledger(work.session)
        chunk = ledger.chunk(work.chunk.run_id, work.chunk.chunk, lock=True)
        refuse_abandoned(work.session, chunk.run_id)
        Discards(work.session).finish(chunk)
        return ledger.chunk(work.chunk.run_id, work.chunk.chunk)
