"""erase: take a person's rows out of a policy's archives, and leave a record of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_dbhygiene.errors import (
    ArchiveDamaged,
    IllegalMove,
    NotFound,
    NotLossless,
    PolicyInvalid,
    SchemaChanged,
    StatementFailed,
    StatementTimedOut,
    WrongServer,
)
from airflow_dbhygiene.ledger import Ledger, ObjectReceipt, Run, migrate
from airflow_dbhygiene.ledger.abandonments import Abandonments
from airflow_dbhygiene.ledger.certificates import Certificates
from airflow_dbhygiene.ledger.erasures import Erasure, Erasures
from airflow_dbhygiene.ledger.moves import PURGED
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.policy import Parquet
from airflow_dbhygiene.steps.discard import discard_losers
from airflow_dbhygiene.steps.mask import unmasked
from airflow_dbhygiene.steps.plan import check_server
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.schema import check_schema
from airflow_dbhygiene.stores.protocol import UPLOAD_SECONDS

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Column
    from airflow_dbhygiene.steps.site import Site
    from airflow_dbhygiene.stores.protocol import Archived, Store

Key = tuple[str, ...]

_ROWS_AT_A_TIME: Final = 50_000


@dataclass(frozen=True)
class ErasureWish:
    """Whose rows are to go from the archives, and why.

    :param policy: name of the policy that archived them
    :param keys: values of the primary key as text, in any form that the server reads
    :param reason: stays in ledger and certificate: a case number, not a name
    :param erased_by: who does it
    """

    policy: str
    keys: tuple[Key, ...]
    reason: str
    erased_by: str


@dataclass(frozen=True)
class Erased:
    """How many rows went, which keys no object had, never archived or erased before, and which a legal hold keeps."""

    rows: int
    unknown: tuple[Key, ...] = ()
    held: tuple[Key, ...] = ()


@dataclass
class _Search:
    """The keys that are looked for, as they were written, and those that were met in any archive, or are held there.

    ``unread`` are objects that could not be looked into.
    """

    site: Site
    session: Any
    wish: ErasureWish
    met: set[Key] = field(default_factory=set)
    held: set[Key] = field(default_factory=set)
    unread: list[ArchiveDamaged] = field(default_factory=list)
    _known: dict[tuple[Column, ...], dict[Key, Key]] = field(default_factory=dict)

    def keys(self, run: Run) -> dict[Key, Key]:
        """Give each key's form in a run's archive."""
        columns = tuple(column for column in run.selection.columns if column.name in run.selection.key)
        if columns not in self._known:
            self._known[columns] = self._read(run)
        return self._known[columns]

    def held_of(self, run: Run, rows: pa.Table, places: list[int]) -> list[int]:
        """Give those of the places at which a hold protects the row that was archived."""
        if not (places and self._count_held(run, rows.take(pa.array(places)))):
            return []
        return [place for place in places if self._count_held(run, rows.slice(place, 1))]

    def _count_held(self, run: Run, rows: pa.Table) -> int:
        # What a restore holds is to stay in the table: nobody asked to keep it in the archive, too.
        policy = run.policy.model_copy(update={"restored": "purge"})
        held = Ledger(self.session).held_condition(self.site.database, policy)
        if held is None:
            return 0
        try:
            return self.site.database.count_fulfilling(self.session, run.selection, unmasked(run, rows), held)
        except (NotFound, StatementFailed) as error:
            message = (
                f"whether a hold protects what run {run.run_id} has archived cannot be told: {error}. See airflow "
                f"dbhygiene hold list, and ask whoever placed it."
            )
            raise IllegalMove(message) from error

    def _read(self, run: Run) -> dict[Key, Key]:
        if not self.wish.keys:
            return {}
        try:
            found = self.site.database.as_archived(run.selection, self.wish.keys)
        except (NotLossless, StatementFailed) as error:
            names = ", ".join(run.selection.key)
            raise PolicyInvalid(f"a key does not fit ({names}) of {run.selection.table}: {error}") from error
        return dict(zip(self.wish.keys, found, strict=True))


def erase(site: Site, wish: ErasureWish) -> Erased:
    """Write each object that holds such rows anew without them, remove the old one, and certify it.

    Rows that a legal hold protects stay, in the archive as they would in the table.
    Killed anywhere it may be called again. Runs with erased rows can no longer be restored by this package.

    :returns: how many rows were erased, which keys were in no object, and which are held
    :raises NotFound: when the ledger has no run of such a policy that has begun to archive
    :raises PolicyInvalid: when a key does not fit the primary key
    :raises IllegalMove: when one of these may still go on, or its archive is no Parquet; or when a hold's condition
        cannot be asked of what was archived
    :raises StatementTimedOut: when another erasure was faster with an object: call again
    :raises ArchiveDamaged: when objects are missing or altered, after all others are done
    """
    with site.database.session() as session:
        migrate(site.database, session)
        runs = [Ledger(session).existing_run(name) for name in Ledger(session).run_ids(wish.policy)]
        # Another may begin meanwhile: it takes what is in the table by then, and is none of those that are looked at.
        runs = [run for run in runs if run.policy.archives and Objects(session).any_of(run.run_id)]
        if not runs:
            raise NotFound(f"policy {wish.policy!r} has no run with an archive in this database's ledger.")
        for run in runs:
            _check(site, session, run, wish)
        search = _Search(site, session, wish)
        rows = sum(_erase_in_run(search, session, run) for run in runs)
    if unread := search.unread:
        message = f"{len(unread)} objects could not be looked into; in all others the rows are erased: {unread[0]}"
        raise ArchiveDamaged(message)
    unknown = tuple(key for key in wish.keys if key not in search.met)
    return Erased(rows, unknown, held=tuple(key for key in wish.keys if key in search.held))


def _check(site: Site, session: Any, run: Run, wish: ErasureWish) -> None:
    if not isinstance(run.policy.archive, Parquet):
        raise IllegalMove(f"run {run.run_id} is archived in a table: delete its rows there.")
    if not Abandonments(session).of_run(run.run_id):
        _refuse_unfinished(site, session, run)
    if odd := [key for key in wish.keys if len(key) != len(run.selection.key)]:
        raise PolicyInvalid(f"key {odd[0]!r} does not fit ({', '.join(run.selection.key)}).")


def _refuse_unfinished(site: Site, session: Any, run: Run) -> None:
    unfinished = [chunk.label for chunk in Ledger(session).chunks(run.run_id) if chunk.state != PURGED]
    if unfinished and _may_go_on(site, session, run):
        message = (
            f"run {run.run_id}: {unfinished[0]} is not purged. Finish the run first: clear the failed tasks of its DAG "
            f"run ({', '.join(map(str, run.origin.values()))}). Or give it up: airflow dbhygiene abandon {run.run_id}."
        )
        raise IllegalMove(message)


def _may_go_on(site: Site, session: Any, run: Run) -> bool:
    """Tell whether a run's next step could do anything: on another server, or of another table, it never will."""
    try:
        check_server(site, session, run)
        check_schema(site, session, run)
    except (WrongServer, SchemaChanged, NotFound):
        return False
    return True


def _erase_in_run(search: _Search, session: Any, run: Run) -> int:
    site = search.site
    ledger, store = Ledger(session), site.store_of(run.policy)
    discard_losers(session, store, run.run_id)  # a killed try may have read rows that were gone when another one won
    known = _latest(session, run)
    erased = 0
    for chunk in ledger.chunks(run.run_id):
        for receipt in Objects(session).of(chunk):
            try:
                erasure = _replaced(search, session, store, run, receipt, known.get(receipt.name))
            except ArchiveDamaged as damage:
                search.unread.append(damage)
                continue
            if erasure is not None:
                erased += erasure.rows_erased - (known[receipt.name].rows_erased if receipt.name in known else 0)
    for each in Erasures(session).of_run(run.run_id):
        store.discard(each.name)
        if each.replaced_by != _latest(session, run)[each.name].replaced_by:
            store.discard(each.replaced_by)
    if erased or known:
        report(site, run.run_id)
    return erased


def _replaced(  # noqa: PLR0913, PLR0917 - what is replaced, where, and where that is written down
    search: _Search, session: Any, store: Store, run: Run, receipt: ObjectReceipt, known: Erasure | None
) -> Erasure | None:
    """Write an object anew without the rows; None when it holds none of them."""
    name = known.replaced_by if known else receipt.name
    sha256, size = (known.sha256, known.bytes) if known else (receipt.sha256, receipt.bytes)
    with store.fetch(name, sha256, size) as archived:
        kept = list(_kept(search, run, archived))
        gone = archived.rows - sum(batch.num_rows for batch in kept)
        if not gone:
            return None
        number, before = (known.number + 1, known.rows_erased) if known else (1, 0)
        other = f"{receipt.name.removesuffix('.parquet')}-erased-{number}.parquet"
        with (
            store.spool(iter(kept), kept[0].schema, archived.notes) as file,
            session.transaction(durable=True, idle_seconds=UPLOAD_SECONDS),
        ):
            Certificates(session).lock(run.policy.name)
            if _latest(session, run).get(receipt.name) != known:
                raise StatementTimedOut(f"another erasure has replaced {receipt.name} meanwhile: erase once more.")
            store.upload(file, other)
            store.protect(other)
            erasure = Erasure(
                run.run_id, receipt.name, number, other, file.bytes, file.sha256, before + gone,
                search.wish.reason, search.wish.erased_by,
            )  # fmt: skip
            Erasures(session).record(erasure)
            return erasure


def _kept(search: _Search, run: Run, archived: Archived) -> Iterator[pa.RecordBatch]:
    by_key, keys = replace(run.selection, walk=run.selection.key), search.keys(run)
    forms = frozenset(keys.values())
    for batch in archived.batches(_ROWS_AT_A_TIME):
        rows = pa.Table.from_batches([batch])
        places = [search.site.database.place_of(by_key, rows, i) for i in range(rows.num_rows)]
        found = [i for i, place in enumerate(places) if place in forms]
        held = search.held_of(run, rows, found)
        search.met.update(key for key, form in keys.items() if form in {places[i] for i in found})
        search.held.update(key for key, form in keys.items() if form in {places[i] for i in held})
        gone = {*found} - {*held}
        kept = [i for i in range(rows.num_rows) if i not in gone]
        yield batch.take(pa.array(kept, pa.int64()))


def _latest(session: Any, run: Run) -> dict[str, Erasure]:
    """Give the erasure of each object that counts."""
    return {each.name: each for each in Erasures(session).of_run(run.run_id)}
