"""purge: delete what has just been read back from the archive, in small paced transactions with a receipt each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.databases.protocol import Outcomes
from airflow_dbhygiene.errors import Idle, IllegalMove, Paused, RowsLocked, StatementTimedOut
from airflow_dbhygiene.ledger import Chunk, Ledger, ObjectReceipt, Run
from airflow_dbhygiene.ledger.moves import PURGED, PURGING, VERIFIED
from airflow_dbhygiene.pacing.controller import Tempo, first_tempo
from airflow_dbhygiene.pacing.reasons import pause_reason
from airflow_dbhygiene.steps.archive import check_schema
from airflow_dbhygiene.steps.doomed import Doomed, doomed
from airflow_dbhygiene.steps.plan import check_server
from airflow_dbhygiene.steps.site import Progress
from airflow_dbhygiene.steps.verify import marking_damage, opened

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_dbhygiene.steps.site import Site

_PAUSE_SECONDS: Final = 1.0
_LOCKED_TRIES: Final = 5
_LOCKED_AT_A_TIME: Final = 5_000


class _NotIdentical(Exception):
    """The range held other rows than the archive does."""


@dataclass
class _Work:
    """One chunk's purge: where it stands, and how large the next batch is."""

    site: Site
    session: Any
    run: Run
    chunk: Chunk
    tempo: Tempo
    progress: Progress
    started: float = field(default_factory=time.monotonic)


def purge(site: Site, run_id: str, number: int) -> Chunk:
    """Delete a chunk's archived rows; go on where an earlier try stopped.

    :returns: the chunk with its outcomes
    :raises RowsLocked: when other transactions kept rows locked to the end; a retry goes on with these
    :raises Paused: when a pause outlasted the policy's max_pause_seconds: call again later
    :raises Idle: when the chunk has not moved for the policy's max_idle_seconds
    """
    with site.database.session() as session:
        ledger = Ledger(session)
        run, chunk = ledger.existing_run(run_id), ledger.chunk(run_id, number)
        if chunk.state == PURGED:
            site.tell(f"{chunk.label} is purged already.")
            return chunk
        if chunk.state not in (VERIFIED, PURGING):
            raise IllegalMove(f"{chunk.label} is {chunk.state}: only a verified archive allows a purge.")
        pace = run.policy.pace
        progress = Progress(site.tell, f"purge {chunk.label}", chunk.archived_rows or 0)
        work = _Work(site, session, run, chunk, first_tempo(pace.target_batch_seconds, pace.max_batch_rows), progress)
        for receipt in ledger.objects(chunk):
            if receipt.first_ordinal + receipt.rows > work.chunk.purged_through:
                _purge_object(work, receipt)
        _settle_locked(work)
        progress.at(work.chunk.purged_through, last=True)
        return _finish(work)


def _purge_object(work: _Work, receipt: ObjectReceipt) -> None:
    """Read an object's keys back and delete its rows, batch by batch."""
    store = work.site.open_store(work.run.policy.archive)
    with marking_damage(work.site, work.chunk), opened(work.site, store, work.run, receipt, compared=True) as archived:
        rows = doomed(work.site, work.run, receipt, archived)
    span = range(receipt.first_ordinal, receipt.first_ordinal + receipt.rows)
    while work.chunk.purged_through < span.stop:
        _wait(work)
        _purge_batch(work, rows, span)


def _purge_batch(work: _Work, rows: Doomed, span: range) -> None:
    """Try the whole range; where it is not exactly what was archived, or locked, go row by row."""
    started = time.monotonic()
    before = work.chunk.purged_through
    try:
        _in_batch(work, rows, span, careful=False)
    except (_NotIdentical, StatementTimedOut):
        with marking_damage(work.site, work.chunk):
            _in_batch(work, rows, span, careful=True)
    seconds = time.monotonic() - started
    work.tempo = work.tempo.after(work.chunk.purged_through - before, seconds)
    work.progress.at(work.chunk.purged_through)
    time.sleep(seconds * work.run.policy.pace.rest_fraction)


def _in_batch(work: _Work, rows: Doomed, span: range, *, careful: bool) -> None:
    started = time.monotonic()
    with _transaction(
        work, last=work.chunk.purged_through + work.tempo.rows >= (work.chunk.archived_rows or 0)
    ) as held:
        chunk = _locked_chunk(work)
        if chunk.purged_through not in span:  # a twin has come further than this object
            work.chunk = chunk
            return
        end = min(chunk.purged_through + work.tempo.rows, span.stop)
        outcomes, keys = _delete(work, rows, range(chunk.purged_through, end), held, careful=careful)
        check_schema(work.site, work.session, work.run)
        ledger = Ledger(work.session)
        ledger.record_outcomes(chunk, outcomes, keys)
        ledger.record_batch(chunk, end, outcomes, time.monotonic() - started, careful=careful)
        after = ledger.chunk(chunk.run_id, chunk.chunk)
    work.chunk = after


@contextmanager
def _transaction(work: _Work, *, last: bool) -> Iterator[str | None]:
    """Open a batch's transaction; give the condition of the rows that holds protect, as of now.

    Delete and receipt commit together, so that all but a chunk's last batch may commit without waiting for the disk.
    """
    with work.session.transaction(walking=True, durable=last):
        work.site.database.share_gate(work.session)
        check_server(work.site, work.session, work.run)
        yield Ledger(work.session).held_condition(work.run.policy)


def _locked_chunk(work: _Work) -> Chunk:
    """Lock the chunk's row: a twin waits, and a lost acknowledgement shows in where the fence stands.

    From here on the transaction meets the application's rows, and gives way to it.
    """
    chunk = Ledger(work.session).chunk(work.chunk.run_id, work.chunk.chunk, lock=True)
    work.site.database.give_way(work.session, work.run.policy.pace.lock_timeout_seconds)
    if chunk.state not in (VERIFIED, PURGING, PURGED) or chunk.nonce != work.chunk.nonce:
        raise IllegalMove(f"{chunk.label} became {chunk.state} while it was purged: it is archived anew.")
    return chunk


def _delete(
    work: _Work, rows: Doomed, ordinals: range, held: str | None, *, careful: bool
) -> tuple[Outcomes, dict[int, tuple[str, ...]]]:
    """Give what became of a batch's rows, and the keys of those that were not purged."""
    if not careful:
        if not rows.delete(work.session, ordinals, held):
            raise _NotIdentical
        return Outcomes(len(ordinals)), {}
    keys = rows.keys(work.session, ordinals)
    outcomes = work.site.database.delete_carefully(work.session, work.run.selection, keys, ordinals, held)
    return outcomes, _keys_of(work, keys, ordinals.start, outcomes)


def _keys_of(work: _Work, rows: pa.Table, first: int, outcomes: Outcomes) -> dict[int, tuple[str, ...]]:
    selection = replace(work.run.selection, walk=work.run.selection.key)
    noted = (*outcomes.drifted, *outcomes.held, *outcomes.vanished, *outcomes.locked)
    return {ordinal: work.site.database.place_of(selection, rows, ordinal - first) for ordinal in noted}


def _settle_locked(work: _Work) -> None:
    """Come back to rows that were locked when their batch came by.

    :raises RowsLocked: when some still are after the last try
    """
    for attempt in range(_LOCKED_TRIES):
        left = Ledger(work.session).locked(work.chunk, _LOCKED_AT_A_TIME)
        if not left:
            return
        _wait(work)
        time.sleep(0.1 * 2**attempt)
        for receipt in Ledger(work.session).objects(work.chunk):
            mine = [each for each in left if 0 <= each - receipt.first_ordinal < receipt.rows]
            if mine:
                _settle_in_object(work, receipt, mine)
    left = Ledger(work.session).locked(work.chunk, 1)
    if left:
        message = f"{work.chunk.label}: other transactions keep {work.chunk.locked} rows locked; a retry tries again."
        raise RowsLocked(message)


def _settle_in_object(work: _Work, receipt: ObjectReceipt, ordinals: list[int]) -> None:
    store = work.site.open_store(work.run.policy.archive)
    with opened(work.site, store, work.run, receipt, compared=True) as archived:
        rows = doomed(work.site, work.run, receipt, archived)
    with _transaction(work, last=True) as held:
        chunk = _locked_chunk(work)
        ledger = Ledger(work.session)
        still = set(ledger.locked(chunk, _LOCKED_AT_A_TIME))
        if set(ordinals) <= still:
            keys = rows.keys(work.session, ordinals)
            outcomes = work.site.database.delete_carefully(work.session, work.run.selection, keys, ordinals, held)
            check_schema(work.site, work.session, work.run)
            ledger.settle_locked(chunk, ordinals, outcomes)
        after = ledger.chunk(chunk.run_id, chunk.chunk)
    work.chunk = after


def _finish(work: _Work) -> Chunk:
    # Whatever the database's default: once the task says so, no crash may take it back.
    with work.session.transaction(durable=True):
        ledger = Ledger(work.session)
        chunk = ledger.chunk(work.chunk.run_id, work.chunk.chunk, lock=True)
        if chunk.state != PURGED:
            ledger.move(chunk, PURGED)
        return ledger.chunk(chunk.run_id, chunk.chunk)


def _wait(work: _Work) -> None:
    """Wait, outside any transaction, while there is a reason to.

    :raises Paused: when the reason outlasts the policy's max_pause_seconds
    :raises Idle: when the chunk has not moved for max_idle_seconds, over all its tries
    """
    started = time.monotonic()
    while reason := pause_reason(work.site.database, work.session, work.run):
        if work.chunk.idle_seconds + time.monotonic() - work.started > work.run.policy.pace.max_idle_seconds:
            raise Idle(f"{work.chunk.label} has not moved for longer than pace.max_idle_seconds: {reason}.")
        if time.monotonic() - started > work.run.policy.pace.max_pause_seconds:
            raise Paused(f"{work.chunk.label}: {reason}.")
        work.progress.pausing(reason)
        time.sleep(_PAUSE_SECONDS)
