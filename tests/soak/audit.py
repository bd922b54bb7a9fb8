"""The end of a soak: what became of every row that was ever inserted, and whether ledger and certificates say so."""

from __future__ import annotations

import datetime as dt
import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify_archive import verify_archive
from tests.soak.shop import COLUMNS, KINDS

if TYPE_CHECKING:
    import pyarrow as pa

    from tests.soak.faults import Hold
    from tests.soak.lives import Life
    from tests.soak.owner import Owner
    from tests.soak.shop import Shop
    from tests.soak.traffic import Writer

Row = tuple[object, ...]


@dataclass
class Account:
    """What became of one table's rows, and everything that is wrong with that."""

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def accounts(shop: Shop, writers: dict[str, list[Writer]], owners: list[Owner], holds: list[Hold]) -> Iterator[Account]:
    """Account for each table in turn."""
    for kind, owner in zip(KINDS, owners, strict=True):
        lives = {number: life for writer in writers[kind] for number, life in writer.lives.items()}
        truncated = {number for (number,) in shop.query("SELECT life FROM truncated WHERE kind = %s", (kind,))}
        lives.update({number: replace(lives[number], deleted=True) for number in truncated & lives.keys()})
        account = Account(kind)
        hot = {row[2]: row for row in _rows(shop, kind)}
        account.faults += _asked(_wrong_in_table, lives, hot)
        account.faults += _asked(_wrong_triggers, shop, owner, lives)
        gone = {number: life for number, life in lives.items() if not life.deleted and number not in hot}
        account.counts.update(
            inserted=len(lives),
            updated=sum(writer.rows_updated for writer in writers[kind]),
            deleted=sum(life.deleted for life in lives.values()),
            truncated=len(truncated),
            purged=len(gone),
            left=len(hot),
        )
        account.faults += _asked(_wrong_count, shop, kind, len(gone))
        account.faults += [fault for hold in holds if hold.kind == kind for fault in _wrong_hold(hold, lives)]
        if kind == "discard":
            account.faults += _asked(_wrong_discards, shop, gone)
        else:
            account.faults += _asked(_wrong_archive, shop, kind, gone)
            account.faults += _asked(_wrong_chain, shop, account)
            account.faults += _asked(_wrong_restore, shop, kind)
        yield account


def _asked(question: Callable[..., Iterator[str]], *about: object) -> Iterator[str]:
    """Whatever keeps a question from its answer is a fault, and keeps no other from it."""
    try:
        yield from question(*about)
    except Exception:  # noqa: BLE001 - told with all others
        yield f"{question.__name__} has no answer: {traceback.format_exc()}"


def _wrong_chain(shop: Shop, account: Account) -> Iterator[str]:
    verified = verify_archive(shop.site(), policy=account.kind)
    account.counts["objects"], account.counts["certificates"] = verified.objects, verified.certificates
    yield from (f"{finding}" for finding in verified.findings)


def _rows(shop: Shop, kind: str) -> list[Row]:
    return [tuple(map(_plain, row)) for row in shop.query(f"SELECT {', '.join(COLUMNS)} FROM {kind}")]


def _wrong_in_table(lives: dict[int, Life], hot: dict[Any, Row]) -> Iterator[str]:
    for number, row in hot.items():
        life = lives.get(number)
        if life is None:
            yield f"row {row} was never inserted"
        elif life.deleted:
            yield f"row {row} was deleted by the application, and is there again"
        elif life.row != row:
            yield f"row {row} is not as the application left it: {life.row}"


def _wrong_triggers(shop: Shop, owner: Owner, lives: dict[int, Life]) -> Iterator[str]:
    """What a trigger saw go, and what a cascade took along, went with a row that the application deleted."""
    seen = {number for (number,) in shop.query("SELECT life FROM seen_gone")} & lives.keys()
    for what, numbers in (("a trigger has seen it go", seen), ("a child went with it", owner.cascaded)):
        for number in numbers:
            if not lives[number].deleted:
                yield f"row {lives[number].row} was not deleted by the application, and {what}"


def _wrong_archive(shop: Shop, kind: str, gone: dict[int, Life]) -> Iterator[str]:
    """Compare what only the archive has with what is gone: each exactly once, as it last was."""
    seen: Counter[Any] = Counter()
    for row in _archived(shop, kind):
        seen[row[2]] += 1
        life = gone.get(row[2])  # type: ignore[call-overload]
        if life is None:
            yield f"row {row} counts as purged, and is not gone by a purge"
        elif life.row != row:
            yield f"row {row} was purged, and was last {life.row}: an update is lost"
    yield from (f"life {number} was purged {count} times" for number, count in seen.items() if count > 1)
    yield from (f"row {life.row} is LOST" for number, life in gone.items() if number not in seen)


def _archived(shop: Shop, kind: str) -> Iterator[Row]:
    """Read all objects that won, and leave out what was not purged."""
    site = shop.site()
    store = site.store_of(shop.policy(kind))
    left_out = set(
        shop.query(
            "SELECT run_id, chunk, ordinal FROM dbhygiene.outcome JOIN dbhygiene.run USING (run_id) WHERE policy = %s",
            (kind,),
        )
    )
    for run_id, chunk, name, first, through, sha256, size in shop.query(_OBJECTS, (kind,)):
        with store.fetch(name, sha256, size) as archived:
            rows = (row for batch in archived.batches(10_000, COLUMNS) for row in _tuples(batch))
            for ordinal, row in enumerate(rows, start=first):
                if ordinal < through and (run_id, chunk, ordinal) not in left_out:
                    yield row


def _tuples(batch: pa.RecordBatch) -> Iterator[Row]:
    columns = {name: batch.column(name).to_pylist() for name in COLUMNS}
    # A cold table on PostgreSQL gives moments as text; the table's owner changes types.
    columns["at"] = [dt.datetime.fromisoformat(each) if isinstance(each, str) else each for each in columns["at"]]
    columns["places"] = [int(each) for each in columns["places"]]
    columns["amount"] = [Decimal(each) for each in columns["amount"]]
    return zip(*(map(_plain, values) for values in columns.values()), strict=True)


_OBJECTS = """
SELECT run_id, c.chunk, o.name, o.first_ordinal, c.purged_through, o.sha256, o.bytes
FROM dbhygiene.object o JOIN dbhygiene.chunk c USING (run_id, chunk, nonce) JOIN dbhygiene.run r USING (run_id)
WHERE r.policy = %s AND o.state = 'written' AND o.first_ordinal < c.purged_through
"""


def _wrong_discards(shop: Shop, gone: dict[int, Life]) -> Iterator[str]:
    """Rows without a copy must have been stale by the latest cutoff at least."""
    ((latest,),) = shop.query("SELECT max(cutoff) FROM dbhygiene.run WHERE policy = 'discard'")
    cutoff = _plain(latest if isinstance(latest, dt.datetime) else dt.datetime.fromisoformat(latest))
    for life in gone.values():
        if life.at >= cutoff:  # type: ignore[operator]
            yield f"row {life.row} was discarded, and was not stale at {cutoff}"


def _wrong_count(shop: Shop, kind: str, gone: int) -> Iterator[str]:
    """Compare the ledger's counts, and those of the certificates, with what is gone."""
    purged, batches, locked = (
        int(shop.query(f"SELECT coalesce(sum({column}), 0) FROM {table} WHERE policy = %s", (kind,))[0][0])
        for column, table in (
            ("purged", "dbhygiene.chunk JOIN dbhygiene.run USING (run_id)"),
            ("b.purged", "dbhygiene.batch b JOIN dbhygiene.run USING (run_id)"),
            ("b.locked", "dbhygiene.batch b JOIN dbhygiene.run USING (run_id)"),
        )
    )
    reports = shop.query("SELECT report FROM dbhygiene.run WHERE policy = %s", (kind,))
    certified = sum(json.loads(report)["rows_purged"] for (report,) in reports if report)  # none for an empty plan
    # Rows that were locked when their batch came by are settled in the chunk's own counts.
    if not purged == certified == gone or not batches <= purged <= batches + locked:
        yield f"{gone} rows are gone; chunks count {purged}, batches {batches} + {locked}, certificates {certified}"


def _wrong_restore(shop: Shop, kind: str) -> Iterator[str]:
    """Try whether the policy's last run could be put back whole."""
    ((run_id, purged),) = shop.query(
        "SELECT run_id, sum(purged) FROM dbhygiene.chunk JOIN dbhygiene.run USING (run_id) WHERE policy = %s"
        " AND purged > 0 GROUP BY run_id, planned_at ORDER BY planned_at DESC LIMIT 1",
        (kind,),
    )
    back = restore(shop.site(), Wish(run_id, "a trial", dry_run=True))
    if back.restored + back.existing != purged:
        yield f"of {purged} rows of {run_id} {back.restored} would come back, and {back.existing} exist again"


def _wrong_hold(hold: Hold, lives: dict[int, Life]) -> Iterator[str]:
    for number in hold.missing:
        if not lives[number].deleted and not lives[number].rekeyed:
            yield f"row {lives[number].row} was under {hold.name!r}, and is gone"


def _plain(value: object) -> object:
    return value.astimezone(dt.UTC).replace(tzinfo=None) if isinstance(value, dt.datetime) and value.tzinfo else value
