"""archive: stream one chunk to the store, in objects of bounded size, and record a receipt for each."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_dbhygiene.databases.protocol import Span
from airflow_dbhygiene.errors import StatementTimedOut
from airflow_dbhygiene.ledger import Chunk, Ledger, ObjectReceipt, Run
from airflow_dbhygiene.ledger.moves import ARCHIVED, DAMAGED, PLANNED
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.policy import ColdTable, Parquet
from airflow_dbhygiene.steps.ahead import ahead
from airflow_dbhygiene.steps.discard import discard_losers
from airflow_dbhygiene.steps.mask import masked, masked_schema
from airflow_dbhygiene.steps.plan import check_server
from airflow_dbhygiene.steps.schema import check_schema, telling_changes
from airflow_dbhygiene.steps.site import Progress
from airflow_dbhygiene.stores.protocol import Written
from airflow_dbhygiene.version import VERSION

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Bound
    from airflow_dbhygiene.steps.site import Site
    from airflow_dbhygiene.stores.protocol import Beside, Store

_FEWEST_ROWS: Final = 1_000
_MOST_ROWS: Final = 2_000_000


@dataclass(frozen=True)
class _Attempt:
    """One try at a chunk's archive, under a nonce of its own."""

    site: Site
    store: Store
    run: Run
    chunk: Chunk
    progress: Progress
    nonce: str = field(default_factory=lambda: os.urandom(6).hex())
    started: float = field(default_factory=time.monotonic)


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
    attempt = _Attempt(site, site.store_of(run.policy), run, chunk, progress)
    with telling_changes(site, run):
        receipts = _write(attempt)
    rows = _claim(attempt, receipts)
    return _give_up(attempt) if rows is None else rows


def folder_of(run: Run) -> str:
    """Name a run's folder below the store's URL."""
    table = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in str(run.selection.table))
    return f"{table}/run={run.run_id}"


def _write(attempt: _Attempt) -> list[ObjectReceipt]:
    """Write object after object until a piece comes out smaller than it might be; a chunk has one at least."""
    if attempt.store.beside is not None:
        return _copy(attempt, attempt.store.beside)
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


def _write_piece(attempt: _Attempt, piece: _Piece, most: int) -> ObjectReceipt | None:
    """Spool a piece, end its read transaction, record the intent, upload, record the receipt.

    The first parts of a large one go up while it is spooled: then the intent is recorded before these.
    """
    site, run = attempt.site, attempt.run
    schema = masked_schema(run, site.database.arrow_schema(run.selection))
    with ahead(_rows(attempt, piece, most)) as batches:
        observed = masked(site, run, _observe(attempt, piece, batches), schema)
        intended = cache(partial(_intend, attempt, piece))
        with attempt.store.spool(observed, schema, _notes(attempt, piece), intended) as file:
            if not file.rows and piece.part:
                return None
            name = intended()
            sha256 = attempt.store.upload(file, name)
    with site.database.session() as session:
        written = Written(file.rows, file.bytes, sha256, piece.pairs.hexdigest())
        return _receive(attempt, session, piece, name, written)


def _intend(attempt: _Attempt, piece: _Piece) -> str:
    """Record an object's name before anything is written under it."""
    name = attempt.store.named(_base_name(attempt, piece))
    with attempt.site.database.session() as session:
        Objects(session).intend(attempt.chunk, attempt.nonce, piece.part, name)
    return name


def _copy(attempt: _Attempt, beside: Beside) -> list[ObjectReceipt]:
    """Let the server copy object after object, each in a transaction of its own."""
    receipts: list[ObjectReceipt] = []
    span: Span | None = attempt.chunk.span
    first = 0
    with attempt.site.database.session() as session:
        while span is not None:
            here, span = _next(attempt, session, span, beside.object_rows)
            piece = _Piece(part=len(receipts), first_ordinal=first, after=None)
            receipts.append(_copy_piece(attempt, beside, session, piece, here))
            first += receipts[-1].rows
            attempt.progress.at(first, last=span is None)
    return receipts


def _next(attempt: _Attempt, session: Any, span: Span, rows: int) -> tuple[Span, Span | None]:
    """Split so many stale rows off a span; with them comes the rest, if there is one."""
    with session.transaction(walking=True):
        upper = attempt.site.database.hop(session, attempt.run.selection, span, rows)
    return (span, None) if upper is None else (Span(span.lower, upper), Span(upper, span.upper))


def _copy_piece(attempt: _Attempt, beside: Beside, session: Any, piece: _Piece, span: Span) -> ObjectReceipt:
    """Commit without waiting for the disk: what is lost in a crash is lost with all behind it, and done again.

    :raises SchemaChanged: when the table that was read is not the one that was planned, though it be so again soon
    """
    name = attempt.store.named(_base_name(attempt, piece))
    with session.transaction(durable=False):
        held = Ledger(session).held_condition(attempt.site.database, attempt.run.policy)
        Objects(session).intend(attempt.chunk, attempt.nonce, piece.part, name)
    with session.transaction(walking=True, durable=False):
        written = beside.copy(session, attempt.run, span, held, name, _notes(attempt, piece))
        check_schema(attempt.site, session, attempt.run)  # nobody changes it until the copy is committed
    with session.transaction(durable=False):
        return _receive(attempt, session, piece, name, written)


def _receive(attempt: _Attempt, session: Any, piece: _Piece, name: str, written: Written) -> ObjectReceipt:
    """Record what was written; give way to a report that has discarded the attempt meanwhile."""
    receipt = ObjectReceipt(
        attempt.run.run_id, attempt.chunk.chunk, attempt.nonce, piece.part, name, piece.first_ordinal, written.rows,
        written.bytes, written.sha256, written.fingerprint,
    )  # fmt: skip
    if not Objects(session).receive(receipt):
        attempt.store.discard(name)
        raise StatementTimedOut(_ruled_out(attempt.chunk))
    return receipt


def _rows(attempt: _Attempt, piece: _Piece, most: int) -> Generator[pa.RecordBatch, None, None]:
    """Read a piece, without the rows that a hold protects as of now; a later hold binds at the purge."""
    database, run = attempt.site.database, attempt.run
    with database.session() as session:
        held = Ledger(session).held_condition(database, run.policy)
    with database.read(run.selection, attempt.chunk.span, piece.after, most, held) as batches:
        yield from batches


def _observe(attempt: _Attempt, piece: _Piece, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
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


def _claim(attempt: _Attempt, receipts: list[ObjectReceipt]) -> int | None:
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
            raise StatementTimedOut(_ruled_out(current))
        seconds = time.monotonic() - attempt.started
        ledger.move(current, ARCHIVED, nonce=attempt.nonce, archived_rows=rows, archive_seconds=seconds)
    return rows


def _give_up(attempt: _Attempt) -> int:
    """Remove this attempt's objects: the report may be done already. Give how many rows the winner's archive holds."""
    with attempt.site.database.session() as session:
        discard_losers(session, attempt.store, attempt.run.run_id, attempt.nonce)
        chunk = Ledger(session).chunk(attempt.run.run_id, attempt.chunk.chunk)
    attempt.site.tell(f"{chunk.label} was archived by another worker: this copy is discarded.")
    return chunk.archived_rows or 0


def _ruled_out(chunk: Chunk) -> str:
    return f"{chunk.label}: the run was reported, and this attempt's objects discarded, while it worked."


def _base_name(attempt: _Attempt, piece: _Piece) -> str:
    """Say what an object's name begins with: ``public.flights/run=…/chunk-0007-<nonce>-000``."""
    return f"{folder_of(attempt.run)}/chunk-{attempt.chunk.chunk:04}-{attempt.nonce}-{piece.part:03}"


def _rows_per_object(run: Run) -> int:
    archive = run.policy.archive
    if isinstance(archive, Parquet):
        row_bytes = run.plan["table_bytes"] / max(run.plan["row_estimate"] or 1, 1)
        return int(min(max(archive.object_bytes / max(row_bytes, 1), _FEWEST_ROWS), _MOST_ROWS))
    return archive.object_rows if isinstance(archive, ColdTable) else _MOST_ROWS


def _notes(attempt: _Attempt, piece: _Piece) -> dict[str, str]:
    """What the object tells of itself, to whoever finds it without the ledger."""
    run = attempt.run
    return {
        "version": VERSION,
        "run": run.run_id,
        "chunk": str(attempt.chunk.chunk),
        "nonce": attempt.nonce,
        "part": str(piece.part),
        "first_ordinal": str(piece.first_ordinal),
        "table": str(run.selection.table),
        "policy": run.policy.json_text,
        "predicate": run.selection.predicate,
        "since": run.since or "",
        "cutoff": run.cutoff or "",
        "ddl": run.ddl,
        "columns": json.dumps({column.name: [column.type, column.form] for column in run.selection.columns}),
        "key": json.dumps(run.selection.key),
        "walk": json.dumps(run.selection.walk),
        "mask": json.dumps(run.policy.mask),
    }
