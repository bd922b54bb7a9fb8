"""restore: put a run, some of its chunks, or chosen rows back. It is the rollback."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_dbhygiene.databases.protocol import Restored
from airflow_dbhygiene.errors import IllegalMove, NotFound, PrivilegeMissing, RowsReferenced, StatementFailed
from airflow_dbhygiene.ledger import Chunk, Ledger, ObjectReceipt, Run, migrate
from airflow_dbhygiene.ledger.batches import Batches
from airflow_dbhygiene.ledger.erasures import Erasures
from airflow_dbhygiene.ledger.holds import Holds
from airflow_dbhygiene.ledger.ledger import RESTORE
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.ledger.restores import Restores
from airflow_dbhygiene.policy.names import TableName, parse_table_name
from airflow_dbhygiene.steps.hold import standing
from airflow_dbhygiene.steps.mask import refuse_to_restore
from airflow_dbhygiene.steps.site import Progress
from airflow_dbhygiene.steps.verify import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_dbhygiene.steps.site import Site

_BATCH_ROWS: Final = 10_000
_ID_LENGTH: Final = 200
_DIGITS: Final = 16


@dataclass(frozen=True)
class Wish:
    """What to put back.

    :param run_id: the run whose rows come back
    :param restore_id: names this restore: the same id goes on where it stopped, if all else is the same too
    :param chunks: only these chunks; None means all
    :param where: SQL condition over the table's columns that narrows the rows down
    :param into: schema.table to put them into; None means the table that they came from
    :param dry_run: do everything, and roll it back
    """

    run_id: str
    restore_id: str
    chunks: tuple[int, ...] | None = None
    where: str | None = None
    into: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class _Job:
    """A wish, with all that it takes to fulfil it."""

    site: Site
    session: Any
    wish: Wish
    run: Run
    target: TableName

    @cached_property
    def receipts(self) -> Restores:
        """The restore's receipts, which know it by its id and a digest of all that it was asked for."""
        wish = self.wish
        asked = json.dumps((wish.restore_id, wish.run_id, str(self.target), wish.where, wish.chunks))
        digest = hashlib.sha256(asked.encode()).hexdigest()[:_DIGITS]
        return Restores(self.session, f"{wish.restore_id[: _ID_LENGTH - _DIGITS - 1]} {digest}")


def restore(site: Site, wish: Wish) -> Restored:
    """Put rows back in batches, each with its row in the ledger; restoring twice changes nothing.

    Rows that had drifted, were held or had vanished when their run came by are not put back: the application has
    decided about them since. Restored rows stay under a hold unless the policy's ``restored`` is "purge".

    :returns: how many rows this try put back, how many it left alone since their key exists again, and how many
        earlier tries had put back
    :raises NotFound: when the ledger has no such run or chunk
    :raises IllegalMove: when the run was archived under a mask, or rows were erased from its archive, or when the hold
        of this restore was released: whoever did so gave its rows away
    :raises SchemaChanged: when the target lacks an archived column, or changes rows on their way in
    :raises StatementTimedOut: when another worker does the same restore at the same time
    :raises RowsReferenced: when rows point at others that are not there; parents come back before their children
    """
    with site.database.session() as session:
        site.database.server(session)
        migrate(site.database, session)
        ledger = Ledger(session)
        run = ledger.existing_run(wish.run_id)
        refuse_to_restore(run)
        _refuse_erased(session, run)
        target = run.selection.table if wish.into is None else parse_table_name(wish.into)
        if wish.where is not None:
            site.database.check_condition(session, wish.where, "where")
            site.database.try_condition(session, target, wish.where, "where")
        job = _Job(site, session, wish, run, target)
        _rehearse(job)
        chunks = _chosen(ledger.chunks(run.run_id), wish)
        named = site.database.relatives(session, run.selection.table, {target})
        if not wish.dry_run and target in named.whole | named.parts:
            _protect(job)
        earlier = 0 if wish.dry_run else job.receipts.restored()
        done = _sum([batch for chunk in chunks for batch in _restore_chunk(job, chunk)])
        site.tell(_told(job, done))
        if earlier:
            site.tell(
                f"{earlier:,} rows came back in earlier tries of this restore. Those that have gone again since stay "
                f"away: a new restore would bring them back."
            )
        return replace(done, earlier=earlier)


def _told(job: _Job, done: Restored) -> str:
    """Say what came of it: the lines before count the rows that were read, whatever the condition took of them."""
    came = "would come back" if job.wish.dry_run else "came back"
    return f"{done.restored:,} rows {came} into {job.target}; {done.existing:,} are left alone, since they exist there."


def _rehearse(job: _Job) -> None:
    """Restore no row at all: what stands against the wish is found before its hold is placed."""
    database, selection = job.site.database, job.run.selection
    with job.session.transaction():
        try:
            nothing = database.arrow_schema(selection).empty_table()
            database.restore_rows(job.session, selection, nothing, job.target, job.wish.where)
        except (StatementFailed, NotFound) as error:
            if job.wish.where is None:
                raise
            fix = "it is asked of archived rows, so name columns alone, without their table"
            raise type(error)(f"where: {fix}: {error}") from error
        except PrivilegeMissing as error:
            fix = f"to put rows back the role needs SELECT and INSERT on {job.target}: GRANT SELECT, INSERT ON"
            raise PrivilegeMissing(f"{error}: {fix} {job.target} TO …;") from error
        job.session.rollback()


def _refuse_erased(session: Any, run: Run) -> None:
    if erased := Erasures(session).of_run(run.run_id):
        message = (
            f"rows of run {run.run_id} were erased from its archive on request ({erased[-1].reason}): it cannot be put "
            f"back as it was. What is left is in {erased[-1].replaced_by} and its like: load it by hand."
        )
        raise IllegalMove(message)


def _chosen(chunks: tuple[Chunk, ...], wish: Wish) -> list[Chunk]:
    known = {chunk.chunk: chunk for chunk in chunks}
    numbers = sorted(known) if wish.chunks is None else wish.chunks
    if unknown := [number for number in numbers if number not in known]:
        raise NotFound(f"run {wish.run_id} has no chunk {unknown[0]}: it has {len(known)}.")
    chosen = [known[number] for number in numbers if known[number].purged_through]
    if not chosen:
        raise IllegalMove(f"run {wish.run_id} has purged no row of the chosen chunks: there is nothing to restore.")
    return chosen


def _protect(job: _Job) -> None:
    """Hold the rows before they come back, so that the next run of their policy does not take them again.

    :raises IllegalMove: when the hold of an earlier try was released since
    """
    where = f" AND (\n{job.wish.where}\n)" if job.wish.where else ""
    hold_id, predicate = f"restored {job.wish.restore_id}", f"{job.run.selection.predicate}{where}"
    table, reason = job.run.policy.table, f"rows of run {job.run.run_id} were restored"
    holds = Holds(job.session)
    with job.session.transaction(durable=True):
        job.site.database.close_gate(job.session)
        fields = {"hold_id": hold_id, "table_name": table, "predicate": predicate, "reason": reason}
        holds.place({**fields, "placed_by": RESTORE}, None)
    standing(holds, hold_id, table, predicate, "start a new restore, which places a hold of its own")


def _restore_chunk(job: _Job, chunk: Chunk) -> Iterator[Restored]:
    left_out = Batches(job.session).left_out(chunk)
    start = 0 if job.wish.dry_run else job.receipts.through(chunk)
    progress = Progress(job.site.tell, f"restore {chunk.label}, read", chunk.purged_through)
    for receipt in Objects(job.session).of(chunk):
        for first, rows in _batches(job, receipt, start, chunk.purged_through):
            span = range(first, first + rows.num_rows)
            kept = pa.array([ordinal - first for ordinal in span if ordinal not in left_out], pa.int64())
            yield _restore_batch(job, chunk, span, rows.take(kept))
            progress.at(span.stop)
    progress.at(chunk.purged_through, last=True)


def _restore_batch(job: _Job, chunk: Chunk, span: range, rows: pa.Table) -> Restored:
    with job.session.transaction(durable=True):
        _refuse_erased(job.session, job.run)  # an object that was read before the erasure still holds such rows
        try:
            restored = job.site.database.restore_rows(job.session, job.run.selection, rows, job.target, job.wish.where)
        except RowsReferenced as error:
            raise RowsReferenced(f"{error} Restore the rows that {job.target} points at first.") from error
        if job.wish.dry_run:
            job.session.rollback()
        job.receipts.record(chunk, str(job.target), span, restored)
    return restored


def _batches(job: _Job, receipt: ObjectReceipt, start: int, end: int) -> Iterator[tuple[int, pa.Table]]:
    """Give an object's rows between two ordinals of the chunk, and the ordinal of the first."""
    if receipt.first_ordinal + receipt.rows <= start or receipt.first_ordinal >= end:
        return
    with opened(job.site, job.site.store_of(job.run.policy), job.run, receipt) as archived:
        first = receipt.first_ordinal
        for batch in archived.batches(_BATCH_ROWS):
            skip, stop = max(start - first, 0), min(end - first, batch.num_rows)
            if skip < stop:
                yield first + skip, pa.Table.from_batches([batch]).slice(skip, stop - skip)
            first += batch.num_rows


def _sum(batches: list[Restored]) -> Restored:
    return Restored(sum(each.restored for each in batches), sum(each.existing for each in batches))
