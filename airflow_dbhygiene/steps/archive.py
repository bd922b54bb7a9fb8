"""archive: stream one chunk to the store, in objects of bounded size, and record a receipt for each."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_dbhygiene.errors import SchemaChanged, StatementTimedOut
from airflow_dbhygiene.ledger import Chunk, Ledger, ObjectReceipt, Run
from airflow_dbhygiene.ledger.moves import ARCHIVED, DAMAGED, PLANNED
from airflow_dbhygiene.steps.ahead import ahead
from airflow_dbhygiene.steps.plan import check_server
from airflow_dbhygiene.steps.site import Progress
from airflow_dbhygiene.version import VERSION

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Bound
    from airflow_dbhygiene.steps.site import Site
    from airflow_dbhygiene.stores.protocol import Store

_FEWEST_ROWS: Final = 1_000
_MOST_ROWS: Final = 4_000_000


@dataclass
class _Piece:
    """What is learned of a piece while it streams by."""

    rows: int = 0
    last: Bound | None = None


def archive(site: Site, run_id: str, number: int) -> int:
    """Write a chunk's rows to the store; a chunk that is archived already is left alone.

    :returns: how many rows the chunk's archive holds
    :raises SchemaChanged: when the table is no longer the one that was planned
    """
    started = time.monotonic()
    with site.database.session() as session:
        run = Ledger(session).existing_run(run_id)
        chunk = Ledger(session).chunk(run_id, number)
        if chunk.state not in (PLANNED, DAMAGED):
            site.tell(f"{chunk.label} is {chunk.state} already.")
            return chunk.archived_rows or 0
        check_server(site, session, run)
        check_schema(site, session, run)
    nonce = os.urandom(6).hex()
    receipts = _write(site, run, chunk, nonce)
    rows = sum(receipt.rows for receipt in receipts)
    return _claim(site, run, chunk, nonce, rows, len(receipts), time.monotonic() - started)


def check_schema(site: Site, session: Any, run: Run) -> None:
    """Refuse to go on when anything about the table's schema has changed since the plan.

    :raises SchemaChanged: naming the table
    """
    if site.database.fingerprint(session, run.selection.table) != run.fingerprint:
        message = (
            f"table {run.selection.table} has changed since run {run.run_id} was planned (columns, types, triggers, "
            f"rules, policies or foreign keys): its archive might not be what is deleted. Start a new run."
        )
        raise SchemaChanged(message)


def _write(site: Site, run: Run, chunk: Chunk, nonce: str) -> list[ObjectReceipt]:
    store = site.open_store(run.policy.archive)
    progress = Progress(site.tell, f"archive {chunk.label}", chunk.planned_rows)
    receipts: list[ObjectReceipt] = []
    after: Bound | None = None
    most = _rows_per_object(run)
    while True:
        receipt, after = _write_piece(site, store, run, chunk, nonce, receipts, after, most, progress)
        if receipt.rows or not receipts:
            receipts.append(receipt)
        if receipt.rows < most:
            progress.at(sum(each.rows for each in receipts), last=True)
            return receipts


def _write_piece(  # noqa: PLR0913 - one object's whole surroundings
    site: Site,
    store: Store,
    run: Run,
    chunk: Chunk,
    nonce: str,
    before: list[ObjectReceipt],
    after: Bound | None,
    most: int,
    progress: Progress,
) -> tuple[ObjectReceipt, Bound | None]:
    part, first = len(before), sum(receipt.rows for receipt in before)
    name = object_name(run, chunk, nonce, part)
    piece, pairs = _Piece(last=after), hashlib.sha256()
    with site.database.session() as session:
        held = Ledger(session).held_condition(str(run.selection.table))
    source = _rows(site, run, chunk, after, most, held)
    with ahead(source) as batches:
        observed = _observe(site, run, batches, piece, pairs, first, progress)
        with store.spool(observed, site.database.arrow_schema(run.selection), _notes(run, chunk, nonce, part)) as file:
            if not file.rows and before:
                return ObjectReceipt(run.run_id, chunk.chunk, nonce, part, name, first, 0, 0, "", ""), after
            with site.database.session() as session:
                Ledger(session).intend_object(chunk, nonce, part, name)
            store.upload(file, name)
    receipt = ObjectReceipt(
        run.run_id, chunk.chunk, nonce, part, name, first, file.rows, file.bytes, file.sha256, pairs.hexdigest()
    )
    with site.database.session() as session:
        Ledger(session).receive_object(receipt)
    return receipt, piece.last


def _rows(site: Site, run: Run, chunk: Chunk, after: Bound | None, most: int, held: str | None) -> Iterator[Any]:
    with site.database.read(run.selection, chunk.span, after, most, held) as batches:
        yield from batches


def _observe(  # noqa: PLR0913 - what is learned of a piece
    site: Site,
    run: Run,
    batches: Iterator[pa.RecordBatch],
    piece: _Piece,
    pairs: Any,
    first: int,
    progress: Progress,
) -> Iterator[pa.RecordBatch]:
    """Let batches pass, and note their number, their last place and their (key, version) pairs."""
    for batch in batches:
        if batch.num_rows:
            table = pa.Table.from_batches([batch])
            piece.rows += batch.num_rows
            piece.last = site.database.place_of(run.selection, table, batch.num_rows - 1)
            pairs.update(site.database.encode_keys(run.selection, table))
            progress.at(first + piece.rows)
            yield batch


def _claim(  # noqa: PLR0913 - the claim's own fields
    site: Site, run: Run, chunk: Chunk, nonce: str, rows: int, parts: int, seconds: float
) -> int:
    """Win the chunk for this attempt, unless a twin was first or a report has discarded the attempt."""
    with site.database.session() as session, session.transaction():
        ledger = Ledger(session)
        current = ledger.chunk(run.run_id, chunk.chunk, lock=True)
        if current.state not in (PLANNED, DAMAGED):
            site.tell(f"{chunk.label} was archived by another worker: this copy will be discarded.")
            return current.archived_rows or 0
        if ledger.count_written(chunk, nonce) != parts:
            message = f"{chunk.label}: the run was reported, and this attempt's objects discarded, while it worked."
            raise StatementTimedOut(message)
        ledger.move(current, ARCHIVED, nonce=nonce, archived_rows=rows, archive_seconds=seconds)
    return rows


def object_name(run: Run, chunk: Chunk, nonce: str, part: int) -> str:
    """Name an object: ``public.flights/run=…/chunk-0007-<nonce>.parquet``, with the part where there are several."""
    return f"{folder_of(run)}/chunk-{chunk.chunk:04}-{nonce}-{part:03}.parquet"


def folder_of(run: Run) -> str:
    """Name a run's folder below the store's URL."""
    table = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in str(run.selection.table))
    return f"{table}/run={run.run_id}"


def _rows_per_object(run: Run) -> int:
    row_bytes = run.plan["table_bytes"] / max(run.plan["row_estimate"] or 1, 1)
    return int(min(max(run.policy.archive.object_bytes / max(row_bytes, 1), _FEWEST_ROWS), _MOST_ROWS))


def _notes(run: Run, chunk: Chunk, nonce: str, part: int) -> dict[str, str]:
    """What the object tells of itself, to whoever finds it without the ledger."""
    return {
        "version": VERSION,
        "run": run.run_id,
        "chunk": str(chunk.chunk),
        "nonce": nonce,
        "part": str(part),
        "policy": run.policy.json_text,
        "predicate": run.selection.predicate,
        "since": run.since or "",
        "cutoff": run.cutoff or "",
        "ddl": run.ddl,
        "columns": json.dumps({column.name: [column.type, column.form] for column in run.selection.columns}),
        "key": json.dumps(run.selection.key),
        "walk": json.dumps(run.selection.walk),
    }
