"""purge: delete what has just been read back from the archive, in small paced transactions with a receipt each."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.databases.protocol import Outcomes
from airflow_dbhygiene.errors import IllegalMove, RowsLocked, RowsReferenced, StatementTimedOut, StatementTooLong
from airflow_dbhygiene.ledger import Chunk, Ledger, ObjectReceipt, Run
from airflow_dbhygiene.ledger.batches import Batches
from airflow_dbhygiene.ledger.moves import PURGED, PURGING, VERIFIED
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.pacing.pacer import Pacer
from airflow_dbhygiene.pacing.replicas import Replica, following
from airflow_dbhygiene.steps.doomed import Doomed, doomed
from airflow_dbhygiene.steps.going_on import refuse_abandoned, run_that_goes_on
from airflow_dbhygiene.steps.schema import check_schema, telling_changes
from airflow_dbhygiene.steps.site import Progress
from airflow_dbhygiene.steps.unarchived import purge_unarchived
from airflow_dbhygiene.steps.verify import marking_damage, opened
from airflow_dbhygiene.steps.work import Work, unreferenced

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from airflow_dbhygiene.steps.site import Site

_FUTILE_TRIES: Final = 5
_LOCKED_AT_A_TIME: Final = 5_000
_TOO_LONG_TRIES: Final = 2
_CAREFUL_ROWS: Final = 20_000
"""Looked up one by one, they are locked for longer than a range's."""


class _NotIdentical(Exception):
    """The range held other rows than the archive does."""


def purge(site: Site, run_id: str, number: int, began: float | None = None) -> Chunk:
    """Delete a chunk's archived rows; go on where an earlier try stopped.

    :param began: when the task began, if it has paused since: seconds since 1970, None for now
    :returns: the chunk with its outcomes
    :raises RowsLocked: when other transactions kept rows locked to the end; a retry goes on with these
    :raises Paused: when a pause outlasted the policy's max_pause_seconds: call again later
    :raises Idle: when the chunk has not moved for the policy's max_idle_seconds since the task began
    :raises IllegalMove: when the archive is not verified, or the run was given up, be it between two batches
    """
    with site.database.session() as session:
        run, chunk = run_that_goes_on(site, session, run_id), Ledger(session).chunk(run_id, number)
        if chunk.state == PURGED:
            site.tell(f"{chunk.label} is purged already.")
            return chunk
        with following(run.policy.pace, site.open_database) as replicas, telling_changes(site, run):
            work = _work(site, session, run, chunk, replicas)
            work.began = work.began if began is None else began
            return _purge_archived(work) if run.policy.archives else purge_unarchived(work)


def _work(site: Site, session: Any, run: Run, chunk: Chunk, replicas: tuple[Replica, ...]) -> Work:
    progress = Progress(site.tell, f"purge {chunk.label}", chunk.archived_rows or chunk.planned_rows)
    pacer = Pacer(run.policy.pace, chunk.label, Batches(session).recent(run.run_id))
    return Work(site, session, run, chunk, pacer, progress, replicas)


def _purge_archived(work: Work) -> Chunk:
    """Delete the rows of object after object."""
    if work.chunk.state not in (VERIFIED, PURGING):
        told = f"{work.chunk.label} is {work.chunk.state}: only a verified archive allows a purge."
        raise IllegalMove(f"{told} Clear its archive task with downstream.")
    for receipt in Objects(work.session).of(work.chunk):
        if receipt.first_ordinal + receipt.rows > work.chunk.purged_through:
            _purge_object(work, receipt)
    _settle_locked(work)
    work.progress.at(work.chunk.purged_through, last=True)
    return _finish(work)


def _purge_object(work: Work, receipt: ObjectReceipt) -> None:
    """Read an object's keys back and delete its rows, batch by batch."""
    store = work.site.store_of(work.run.policy)
    with marking_damage(work.site, work.chunk), opened(work.site, store, work.run, receipt, compared=True) as archived:
        rows = doomed(work.site, work.run, receipt, archived)
    span, too_long = range(receipt.first_ordinal, receipt.first_ordinal + receipt.rows), 0
    while work.chunk.purged_through < span.stop:
        work.wait()
        too_long = too_long + 1 if _purge_batch(work, rows, span, careful=too_long >= _TOO_LONG_TRIES) else 0


def _purge_batch(work: Work, rows: Doomed, span: range, *, careful: bool) -> bool:
    """Try the whole range; where it is not exactly what was archived, or locked, go row by row.

    One that takes too long may be a bad moment of the server. A second in a row, which is smaller, is not: few of the
    rows that lie in such ranges are stale, and no other is tried.

    :returns: whether the range took too long, or would have
    """
    started = time.monotonic()
    before, too_long = work.chunk.purged_through, careful
    if careful:
        _go_row_by_row(work, rows, span)
    else:
        try:
            _in_batch(work, rows, span, careful=False)
        except (_NotIdentical, StatementTimedOut, RowsReferenced) as why:
            careful, too_long = True, isinstance(why, StatementTooLong)
            _go_row_by_row(work, rows, span)
    work.learn(work.chunk.purged_through - before, time.monotonic() - started, careful=careful)
    return too_long


def _go_row_by_row(work: Work, rows: Doomed, span: range) -> None:
    with marking_damage(work.site, work.chunk):
        _in_batch(work, rows, span, careful=True)


def _in_batch(work: Work, rows: Doomed, span: range, *, careful: bool) -> None:
    started = time.monotonic()
    size = min(work.batch_rows, _CAREFUL_ROWS) if careful else work.batch_rows
    last = work.chunk.purged_through + size >= (work.chunk.archived_rows or 0)
    with work.transaction(last=last) as held:
        chunk = _locked_chunk(work)
        if chunk.purged_through not in span:  # a twin has come further than this object
            work.chunk = chunk
            return
        end = min(chunk.purged_through + size, span.stop)
        outcomes, keys = _delete(work, rows, range(chunk.purged_through, end), held, careful=careful)
        check_schema(work.site, work.session, work.run)
        batches = Batches(work.session)
        batches.record_outcomes(chunk, outcomes, keys)
        batches.record(chunk, end, outcomes, time.monotonic() - started, careful=careful)
        after = Ledger(work.session).chunk(chunk.run_id, chunk.chunk)
    work.chunk = after


def _locked_chunk(work: Work) -> Chunk:
    """Lock the chunk's row, and see that its archive still is the one that was read back."""
    chunk = work.lock()
    if chunk.state not in (VERIFIED, PURGING, PURGED) or chunk.nonce != work.chunk.nonce:
        raise IllegalMove(f"{chunk.label} became {chunk.state} while it was purged: it is archived anew.")
    return chunk


def _delete(
    work: Work, rows: Doomed, ordinals: range, held: str | None, *, careful: bool
) -> tuple[Outcomes, dict[int, tuple[str, ...]]]:
    """Give what became of a batch's rows, and the keys of those that were not purged."""
    if not careful:
        if not rows.delete(work.session, ordinals, held):
            raise _NotIdentical
        return Outcomes(len(ordinals)), {}
    keys = rows.keys(work.session, ordinals)
    outcomes = _delete_carefully(work, keys, ordinals, held)
    return outcomes, _keys_of(work, keys, ordinals.start, outcomes)


def _delete_carefully(work: Work, keys: pa.Table, ordinals: Sequence[int], held: str | None) -> Outcomes:
    with unreferenced(work.run.policy):
        return work.site.database.delete_carefully(work.session, work.run.selection, keys, ordinals, held)


def _keys_of(work: Work, rows: pa.Table, first: int, outcomes: Outcomes) -> dict[int, tuple[str, ...]]:
    selection = replace(work.run.selection, walk=work.run.selection.key)
    noted = (*outcomes.drifted, *outcomes.held, *outcomes.vanished, *outcomes.locked)
    return {ordinal: work.site.database.place_of(selection, rows, ordinal - first) for ordinal in noted}


def _settle_locked(work: Work) -> None:
    """Come back to rows that were locked when their batch came by, for as long as that helps.

    :raises RowsLocked: when some still are after several tries that settled none
    """
    futile = 0
    while before := _locked_rows(work):
        if futile == _FUTILE_TRIES:
            message = f"{work.chunk.label}: other transactions keep {before} rows locked; a retry tries again."
            raise RowsLocked(message)
        time.sleep(0.1 * 2**futile)
        for receipt in Objects(work.session).of(work.chunk):
            _settle_in_object(work, receipt)
        futile += _locked_rows(work) >= before


def _locked_rows(work: Work) -> int:
    work.chunk = Ledger(work.session).chunk(work.chunk.run_id, work.chunk.chunk)
    return work.chunk.locked


def _settle_in_object(work: Work, receipt: ObjectReceipt) -> None:
    """Try an object's locked rows once, so many at a time."""
    span = range(receipt.first_ordinal, receipt.first_ordinal + receipt.rows)
    locked = Batches(work.session).locked(work.chunk, span)
    if not locked:
        return
    store = work.site.store_of(work.run.policy)
    with opened(work.site, store, work.run, receipt, compared=True) as archived:
        rows = doomed(work.site, work.run, receipt, archived)
    for first in range(0, len(locked), _LOCKED_AT_A_TIME):
        work.wait()
        piece = locked[first : first + _LOCKED_AT_A_TIME]
        _settle(work, rows, range(piece[0], piece[-1] + 1))


def _settle(work: Work, rows: Doomed, span: range) -> None:
    with work.transaction(last=True) as held:
        chunk = _locked_chunk(work)
        batches = Batches(work.session)
        if still := batches.locked(chunk, span):  # a twin may have settled some
            outcomes = _delete_carefully(work, rows.keys(work.session, still), still, held)
            check_schema(work.site, work.session, work.run)
            batches.settle_locked(chunk, still, outcomes)


def _finish(work: Work) -> Chunk:
    # Whatever the database's default: once the task says so, no crash may take it back.
    with work.session.transaction(durable=True):
        ledger = Ledger(work.session)
        chunk = ledger.chunk(work.chunk.run_id, work.chunk.chunk, lock=True)
        refuse_abandoned(work.session, chunk.run_id)
        if chunk.state != PURGED:
            ledger.move(chunk, PURGED)
        return ledger.chunk(chunk.run_id, chunk.chunk)
