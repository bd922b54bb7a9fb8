"""archive: stream one chunk to the store, in objects of bounded size, and record a receipt for each."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_dbhygiene.ledger import Ledger, ObjectReceipt, Run
from airflow_dbhygiene.ledger.moves import ARCHIVED, DAMAGED, PLANNED
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.policy import ColdTable, Parquet
from airflow_dbhygiene.steps.ahead import ahead
from airflow_dbhygiene.steps.attempt import Attempt, ruled_out
from airflow_dbhygiene.steps.copy import copy
from airflow_dbhygiene.steps.discard import discard_losers
from airflow_dbhygiene.steps.mask import masked, masked_schema
from airflow_dbhygiene.steps.plan import check_server
from airflow_dbhygiene.steps.schema import check_schema, telling_changes
from airflow_dbhygiene.steps.site import Progress
from airflow_dbhygiene.stores.protocol import Written

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Bound
    from airflow_dbhygiene.steps.site import Site

_FEWEST_ROWS: Final = 1_000
_MOST_ROWS: Final = 2_000_000


@dataclass
class _Piece:
    """One object in the making: where it begins, and what is learned of it while its rows stream by."""

    part: int
    first_ordinal: int
    after: Bound | None
    rows: int = 0
    last: Bound | None = None
    pairs: Any = field(default_factory=hashlib.sha256)


def archive(site: Site, run_id: str, number: int) -> int:
    """Write a chunk's rows to the store; a chunk that is archived already is left alone.

    :returns: how many rows the chunk's archive holds
    :raises SchemaChanged: when the table is no longer the one that was planned
    """
    with site.database.session() as session:
        run = Ledger(session).existing_run(run_id)
        chunk = Ledger(session).chunk(run_id, number)
        if not run.policy.archives:
            site.tell(f"{chunk.label}: policy {run.policy.name} discards its rows; there is nothing to archive.")
            return 0
        if chunk.state not in (PLANNED, DAMAGED):
            site.tell(f"{chunk.label} is {chunk.state} already.")
            return chunk.archived_rows or 0
        check_server(site, session, run)
        check_schema(site, session, run)
    progress = Progress(site.tell, f"archive {chunk.label}", chunk.planned_rows)
    attempt = Attempt(site, site.store_of(run.policy), run, chunk, progress)
    with telling_changes(site, run):
        receipts = _write(attempt)
    rows = _claim(attempt, receipts)
    return _give_up(attempt) if rows is None else rows


def _write(attempt: Attempt) -> list[ObjectReceipt]:
    """Write object after object until a piece comes out smaller than it might be; a chunk has one at least."""
    if attempt.store.beside is not None:
        return copy(attempt, attempt.store.beside)
    receipts: list[ObjectReceipt] = []
    piece = _Piece(part=0, first_ordinal=0, after=None)
    most = _rows_per_object(attempt.run)
    while True:
        receipt = _write_piece(attempt, piece, most)
        if receipt is not None:
            receipts.append(receipt)
        end = piece.first_ordinal + piece.rows
        if piece.rows < most:
            attempt.progress.at(end, last=True)
            return receipts
        piece = _Piece(part=piece.part + 1, first_ordinal=end, after=piece.last)


def _write_piece(attempt: Attempt, piece: _Piece, most: int) -> ObjectReceipt | None:
    """Record the intent, spool a piece, end its read transaction, upload the rest, record the receipt.

    Nothing else is asked of the database meanwhile: a pool may have no more than one connection.
    """
    site, run = attempt.site, attempt.run
    name = _intend(attempt, piece)
    schema = masked_schema(run, site.database.arrow_schema(run.selection))
    with ahead(_rows(attempt, piece, most)) as batches:
        observed = masked(site, run, _observe(attempt, piece, batches), schema)
        notes = attempt.notes(piece.part, piece.first_ordinal)
        with attempt.store.spool(observed, schema, notes, name) as file:
            if file.rows or not piece.part:
                sha256 = attempt.store.upload(file, name)
    with site.database.session() as session:
        if piece.part and not file.rows:
            Objects(session).withdraw(attempt.chunk, attempt.nonce, piece.part)
            return None
        written = Written(file.rows, file.bytes, sha256, piece.pairs.hexdigest())
        return attempt.receive(session, piece.part, piece.first_ordinal, name, written)


def _intend(attempt: Attempt, piece: _Piece) -> str:
    """Record an object's name before anything is written under it."""
    name = attempt.name(piece.part)
    with attempt.site.database.session() as session, session.transaction(durable=True):
        Objects(session).intend(attempt.chunk, attempt.nonce, piece.part, name)
    return name


def _rows(attempt: Attempt, piece: _Piece, most: int) -> Generator[pa.RecordBatch, None, None]:
    """Read a piece, without the rows that a hold protects as of now; a later hold binds at the purge."""
    database, run = attempt.site.database, attempt.run
    with database.session() as session:
        held = Ledger(session).held_condition(database, run.policy)
    with database.read(run.selection, attempt.chunk.span, piece.after, most, held) as batches:
        yield from batches


def _observe(attempt: Attempt, piece: _Piece, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Let batches pass, and note their number, their last place and their (key, version) pairs."""
    database, selection = attempt.site.database, attempt.run.selection
    for batch in batches:
        if batch.num_rows:
            table = pa.Table.from_batches([batch])
            piece.rows += batch.num_rows
            piece.last = database.place_of(selection, table, batch.num_rows - 1)
            piece.pairs.update(database.encode_keys(selection, table))
            attempt.progress.at(piece.first_ordinal + piece.rows)
            yield batch


def _claim(attempt: Attempt, receipts: list[ObjectReceipt]) -> int | None:
    """Win the chunk for this attempt; None when a twin was first.

    :raises StatementTimedOut: when a report has discarded the attempt
    """
    rows = sum(receipt.rows for receipt in receipts)
    with attempt.site.database.session() as session, session.transaction(durable=True):
        ledger = Ledger(session)
        current = ledger.chunk(attempt.run.run_id, attempt.chunk.chunk, lock=True)
        if current.state not in (PLANNED, DAMAGED):
            return None
        if Objects(session).count_written(current, attempt.nonce) != len(receipts):
            raise ruled_out(current)
        seconds = time.monotonic() - attempt.started
        ledger.move(current, ARCHIVED, nonce=attempt.nonce, archived_rows=rows, archive_seconds=seconds)
    return rows


def _give_up(attempt: Attempt) -> int:
    """Remove this attempt's objects: the report may be done already. Give how many rows the winner's archive holds."""
    with attempt.site.database.session() as session:
        discard_losers(session, attempt.store, attempt.run.run_id, attempt.nonce)
        chunk = Ledger(session).chunk(attempt.run.run_id, attempt.chunk.chunk)
    attempt.site.tell(f"{chunk.label} was archived by another worker: this copy is discarded.")
    return chunk.archived_rows or 0


def _rows_per_object(run: Run) -> int:
    archive = run.policy.archive
    if isinstance(archive, Parquet):
        row_bytes = run.plan["table_bytes"] / max(run.plan["row_estimate"] or 1, 1)
        return int(min(max(archive.object_bytes / max(row_bytes, 1), _FEWEST_ROWS), _MOST_ROWS))
    return archive.object_rows if isinstance(archive, ColdTable) else _MOST_ROWS
