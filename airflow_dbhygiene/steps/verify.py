"""verify: read back what the store holds, and compare it with the receipt and with the server's own rows."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_dbhygiene.databases.cold import Copied
from airflow_dbhygiene.errors import ArchiveDamaged, IllegalMove
from airflow_dbhygiene.ledger import Chunk, Ledger, ObjectReceipt, Run
from airflow_dbhygiene.ledger.moves import ARCHIVED, DAMAGED, PLANNED, VERIFIED
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.steps.going_on import refuse_abandoned, run_that_goes_on
from airflow_dbhygiene.steps.mask import unmasked
from airflow_dbhygiene.steps.plan import check_server
from airflow_dbhygiene.steps.schema import check_schema, telling_changes
from airflow_dbhygiene.steps.site import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_dbhygiene.steps.site import Site
    from airflow_dbhygiene.stores.protocol import Archived, Store

_ROWS_AT_A_TIME: Final = 50_000
_GATHERED_BYTES: Final = 8 * 2**20


def verify(site: Site, run_id: str, number: int) -> int:
    """Re-read a chunk's objects; a chunk that is verified already is left alone.

    :returns: how many rows were compared with the server's own, value by value
    :raises ArchiveDamaged: when the store does not hold what was written; the chunk is then to be archived anew
    """
    started = time.monotonic()
    with site.database.session() as session:
        run = run_that_goes_on(site, session, run_id)
        chunk = Ledger(session).chunk(run_id, number)
        if not run.policy.archives:
            site.tell(f"{chunk.label}: policy {run.policy.name} discards its rows; there is nothing to verify.")
            return 0
        if chunk.state in (PLANNED, DAMAGED):
            raise IllegalMove(f"{chunk.label} is {chunk.state}: clear its archive task, which writes it.")
        if chunk.state != ARCHIVED:
            site.tell(f"{chunk.label} is {chunk.state} already.")
            return 0
        check_server(site, session, run)
        check_schema(site, session, run)
        with marking_damage(site, chunk), telling_changes(site, run):
            compared = _verify_objects(site, session, run, chunk)
            check_schema(site, session, run)
            _protect_objects(site, session, run, chunk)
        seconds = time.monotonic() - started
        with session.transaction(durable=True):
            moved = Ledger(session).move(chunk, VERIFIED, compared_rows=compared, verify_seconds=seconds)
        if not moved:
            refuse_abandoned(session, run_id)  # else a twin was first
    return compared


@contextmanager
def marking_damage(site: Site, chunk: Chunk) -> Iterator[None]:
    """Note a damaged archive in the ledger, so that archive writes the chunk anew.

    Once rows are purged the damaged objects are the only copy: then the state stays, and nothing replaces them.
    """
    try:
        yield
    except ArchiveDamaged:
        if chunk.purged_through == 0 and chunk.state in (ARCHIVED, VERIFIED):
            with site.database.session() as session:
                refuse_abandoned(session, chunk.run_id)  # it is no damage: the objects were removed for that
                Ledger(session).move(chunk, DAMAGED)
        raise


@contextmanager
def opened(site: Site, store: Store, run: Run, receipt: ObjectReceipt, *, compared: bool = False) -> Iterator[Archived]:
    """Bring an object back and check all that its receipt says: bytes, SHA-256, notes, rows, (key, version) pairs.

    :param compared: rows in the database that is cleaned need no digest: the server will compare each of them
    :raises ArchiveDamaged: naming the object and what differs
    """
    with store.fetch(receipt.name, receipt.sha256, receipt.bytes, compared=compared) as archived:
        found = tuple(archived.notes.get(name) for name in ("run", "chunk", "nonce", "part"))
        wanted = (receipt.run_id, str(receipt.chunk), receipt.nonce, str(receipt.part))
        if found != wanted or archived.rows != receipt.rows:
            raise ArchiveDamaged(f"object {receipt.name} holds {found}, {archived.rows} rows, not {wanted}.")
        if archived.fingerprint(site.database, run.selection) != receipt.fingerprint:
            raise ArchiveDamaged(f"object {receipt.name} does not hold the keys and versions that were archived.")
        yield archived


def _verify_objects(site: Site, session: Any, run: Run, chunk: Chunk) -> int:
    store = site.store_of(run.policy)
    receipts = Objects(session).of(chunk)
    progress = Progress(site.tell, f"verify {chunk.label}", chunk.archived_rows or 0)
    if sum(receipt.rows for receipt in receipts) != chunk.archived_rows:
        raise ArchiveDamaged(f"{chunk.label}: the ledger's receipts do not add up to its archived rows.")
    compared = 0
    for receipt in receipts:
        with opened(site, store, run, receipt, compared=True) as archived:
            compared += sum(_compared(site, session, run, receipt, archived))
        progress.at(receipt.first_ordinal + receipt.rows, last=receipt is receipts[-1])
    return compared


def _protect_objects(site: Site, session: Any, run: Run, chunk: Chunk) -> None:
    """Lock what has won and is sound, before any row goes: a loser could not be removed any more."""
    store = site.store_of(run.policy)
    for receipt in Objects(session).of(chunk):
        store.protect(receipt.name)


def _compared(site: Site, session: Any, run: Run, receipt: ObjectReceipt, archived: Archived) -> Iterator[int]:
    """Compare with the server's own rows: all where they lie beside each other, else all or a sample."""
    for rows in _to_compare(run, archived):
        compared, differing = differences(site, session, run, rows)
        if differing:
            message = f"object {receipt.name}: {differing} of {compared} rows differ from the server's own rows."
            raise ArchiveDamaged(message)
        yield compared


def differences(site: Site, session: Any, run: Run, rows: pa.Table | Copied) -> tuple[int, int]:
    """Give how many archived rows the server could compare with its own, and how many of these differ."""
    if isinstance(rows, Copied):
        with session.transaction():
            return site.database.cold_tables.differing(session, run.selection, rows)
    return site.database.differing(session, run.selection, unmasked(run, rows))


def _to_compare(run: Run, archived: Archived) -> Iterator[pa.Table | Copied]:
    """Give all rows, or a sample spread evenly over the object."""
    if archived.copied is not None:
        yield archived.copied
    elif run.policy.verify == "sample":
        yield from _gathered(archived.sample(run.policy.sample_rows))
    else:
        yield from (pa.Table.from_batches([batch]) for batch in archived.batches(_ROWS_AT_A_TIME))


def _gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Put small tables together: each comparison takes its statements."""
    some: list[pa.Table] = []
    for table in tables:
        some.append(table)
        if sum(each.nbytes for each in some) >= _GATHERED_BYTES:
            yield pa.concat_tables(some)
            some = []
    if some:
        yield pa.concat_tables(some)
