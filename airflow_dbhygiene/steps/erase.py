"""erase: take a person's rows out of a policy's archives, and leave a record of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_dbhygiene.errors import IllegalMove, NotFound, PolicyInvalid
from airflow_dbhygiene.ledger import Ledger, ObjectReceipt, Run, migrate
from airflow_dbhygiene.ledger.erasures import Erasure, Erasures
from airflow_dbhygiene.ledger.moves import PURGED
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.policy import Parquet
from airflow_dbhygiene.steps.report import report

if TYPE_CHECKING:
    from airflow_dbhygiene.steps.site import Site
    from airflow_dbhygiene.stores.protocol import Archived, Store

Key = tuple[str, ...]

_ROWS_AT_A_TIME: Final = 50_000


@dataclass(frozen=True)
class ErasureWish:
    """Whose rows are to go from the archives, and why.

    :param policy: name of the policy that archived them
    :param keys: values of the primary key as text, as the server writes them
    :param reason: stays in ledger and certificate: a case number, not a name
    :param erased_by: who does it
    """

    policy: str
    keys: tuple[Key, ...]
    reason: str
    erased_by: str


def erase(site: Site, wish: ErasureWish) -> int:
    """Write each object that holds such rows anew without them, remove the old one, and certify it.

    Killed anywhere it may be called again. Runs with erased rows can no longer be restored by this package.

    :returns: how many rows were erased
    :raises NotFound: when the ledger has no such policy
    :raises IllegalMove: when a run of it is not finished, or its archive is no Parquet
    """
    with site.database.session() as session:
        migrate(site.database, session)
        runs = [Ledger(session).existing_run(name) for name in Ledger(session).run_ids(wish.policy)]
        if not runs:
            raise NotFound(f"policy {wish.policy!r} has no run in this database's ledger.")
        for run in runs:
            _check(session, run, wish)
        return sum(_erase_in_run(site, session, run, wish) for run in runs)


def _check(session: Any, run: Run, wish: ErasureWish) -> None:
    if not isinstance(run.policy.archive, Parquet):
        raise IllegalMove(f"run {run.run_id} is archived in a table: delete its rows there.")
    if unfinished := [chunk.label for chunk in Ledger(session).chunks(run.run_id) if chunk.state != PURGED]:
        raise IllegalMove(f"run {run.run_id}: {unfinished[0]} is not purged. Finish the run first.")
    if odd := [key for key in wish.keys if len(key) != len(run.selection.key)]:
        raise PolicyInvalid(f"key {odd[0]!r} does not fit ({', '.join(run.selection.key)}).")


def _erase_in_run(site: Site, session: Any, run: Run, wish: ErasureWish) -> int:
    ledger, store = Ledger(session), site.store_of(run.policy)
    known = {each.name: each for each in Erasures(session).of_run(run.run_id)}
    erased = 0
    for chunk in ledger.chunks(run.run_id):
        for receipt in Objects(session).of(chunk):
            erasure = _replaced(site, store, run, receipt, known.get(receipt.name), wish)
            if erasure is not None:
                Erasures(session).record(erasure)
                erased += erasure.rows_erased - (known[receipt.name].rows_erased if receipt.name in known else 0)
    for each in Erasures(session).of_run(run.run_id):
        store.discard(each.name)
        if each.replaced_by != _last(session, run, each.name):
            store.discard(each.replaced_by)
    if erased or known:
        report(site, run.run_id)
    return erased


def _replaced(  # noqa: PLR0913, PLR0917 - which object, and what is known of it
    site: Site, store: Store, run: Run, receipt: ObjectReceipt, known: Erasure | None, wish: ErasureWish
) -> Erasure | None:
    """Write an object anew without the rows; None when it holds none of them."""
    name = known.replaced_by if known else receipt.name
    sha256, size = (known.sha256, known.bytes) if known else (receipt.sha256, receipt.bytes)
    with store.fetch(name, sha256, size) as archived:
        kept = list(_kept(site, run, archived, set(wish.keys)))
        gone = archived.rows - sum(batch.num_rows for batch in kept)
        if not gone:
            return None
        number = known.number + 1 if known else 1
        other = f"{receipt.name.removesuffix('.parquet')}-erased-{number}.parquet"
        with store.spool(iter(kept), kept[0].schema, archived.notes) as file:
            store.upload(file, other)
            store.protect(other)
    before = known.rows_erased if known else 0
    return Erasure(
        run.run_id, receipt.name, number, other, file.bytes, file.sha256, before + gone, wish.reason, wish.erased_by
    )


def _kept(site: Site, run: Run, archived: Archived, keys: set[Key]) -> Iterator[pa.RecordBatch]:
    by_key = replace(run.selection, walk=run.selection.key)
    for batch in archived.batches(_ROWS_AT_A_TIME):
        rows = pa.Table.from_batches([batch])
        kept = [i for i in range(rows.num_rows) if site.database.place_of(by_key, rows, i) not in keys]
        yield batch.take(pa.array(kept, pa.int64()))


def _last(session: Any, run: Run, name: str) -> str:
    return [each.replaced_by for each in Erasures(session).of_run(run.run_id) if each.name == name][-1]
