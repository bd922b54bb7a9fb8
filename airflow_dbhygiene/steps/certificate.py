"""What a certificate says: the whole of a run, for whoever asks without the ledger."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_dbhygiene.errors import HygieneError
from airflow_dbhygiene.ledger import Ledger
from airflow_dbhygiene.ledger.abandonments import ABANDONED, Abandonment, Abandonments
from airflow_dbhygiene.ledger.erasures import Erasures
from airflow_dbhygiene.ledger.holds import Hold, Holds
from airflow_dbhygiene.ledger.interruptions import Interruptions
from airflow_dbhygiene.ledger.moves import PURGED
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.policy.names import parse_table_name
from airflow_dbhygiene.version import VERSION

if TYPE_CHECKING:
    from airflow_dbhygiene.ledger import Chunk, Run
    from airflow_dbhygiene.ledger.certificates import Certificate
    from airflow_dbhygiene.steps.site import Site

_COUNT_SECONDS: Final = 10.0
_COUNT_ROWS: Final = 1_000_000


@dataclass(frozen=True)
class Circumstances:
    """What the ledger's figures do not tell.

    :param approver: who triggered the run, None when its schedule did
    :param holds: the holds that bind the run's table now
    :param rows_under_hold: how many of the run's stale rows they keep in it, None when that cannot be told: it takes
        too long, or the table is no longer what it was
    """

    approver: str | None
    holds: tuple[Hold, ...]
    rows_under_hold: int | None


def circumstances(site: Site, session: Any, run: Run, approver: str | None) -> Circumstances:
    """Look at the holds that bind the run's table."""
    held = Ledger(session).held_condition(site.database, run.policy)
    binding = [hold for hold in Holds(session).listed() if hold.binding]
    tables = {parse_table_name(hold.table) for hold in binding}
    named = site.database.relatives(session, run.selection.table, tables)
    holds = tuple(hold for hold in binding if parse_table_name(hold.table) in named.whole)
    return Circumstances(approver, holds, _count(site, session, run, held) if held else 0)


def certificate_of(site: Site, session: Any, run: Run, around: Circumstances) -> dict[str, Any]:
    """Put together all that a certificate says but its place in the chain."""
    chunks = Ledger(session).chunks(run.run_id)
    erasures = Erasures(session).of_run(run.run_id)
    abandonment = Abandonments(session).of_run(run.run_id)
    ledger = Ledger(session)
    waiting = run.plan["waiting_rows"]
    return {
        "version": VERSION,
        "versions": {"airflow_dbhygiene": VERSION, "python": platform.python_version(), "pyarrow": pa.__version__},
        "run": run.run_id,
        "state": _state(chunks, abandonment),
        "abandonment": _abandonment_entry(abandonment) if abandonment else None,
        "policy": run.policy.name,
        "policy_digest": run.policy_digest,
        "approver": around.approver,
        "restorable": run.policy.archives and not run.policy.mask and not erasures,
        "erasures": [asdict(each) for each in erasures],
        "mask": run.policy.mask,
        "table": str(run.selection.table),
        "store": run.policy.archive.address,
        "predicate": run.selection.predicate,
        "since": run.since,
        "cutoff": run.cutoff,
        "server": run.plan["server"],
        "origin": run.origin,
        "warnings": run.plan["warnings"],
        "rows_before": run.plan["row_estimate"],
        "rows_stale": run.plan["stale_rows"],
        "rows_waiting": waiting,
        "runs_behind": -(-waiting // run.policy.guard.max_rows),
        "written_at": datetime.fromtimestamp(site.database.clock(session), UTC).isoformat(timespec="seconds"),
        "holds": [_hold_entry(hold) for hold in around.holds],
        "rows_under_hold": around.rows_under_hold,
        **ledger.figures(run.run_id),
        "reclaim": ledger.reclaimed(run.run_id),
        "interruptions": Interruptions(session).summary(run.run_id),
        "chunk_list": [_chunk_entry(session, chunk) for chunk in chunks],
        "objects_discarded": Objects(session).count_discarded(run.run_id),
    }


def chained(certificate: dict[str, Any], last: Certificate | None) -> dict[str, Any]:
    """Give a certificate its place in the policy's chain."""
    return certificate | {
        "certificate_number": last.number + 1 if last else 1,
        "previous_certificate_sha256": last.sha256 if last else None,
    }


def says_the_same(certificate: dict[str, Any], earlier: dict[str, Any]) -> bool:
    """Tell whether a certificate repeats an earlier one but for its moment and its place in the chain."""
    own = {"written_at", "certificate_number", "previous_certificate_sha256"}
    return {name: value for name, value in certificate.items() if name not in own} == {
        name: value for name, value in earlier.items() if name not in own
    }


def _state(chunks: tuple[Chunk, ...], abandonment: Abandonment | None) -> str:
    if abandonment:
        return ABANDONED
    return "done" if all(chunk.state == PURGED for chunk in chunks) else "failed"


def _abandonment_entry(abandonment: Abandonment) -> dict[str, str]:
    return {
        "reason": abandonment.reason,
        "abandoned_by": abandonment.abandoned_by,
        "abandoned_at": abandonment.abandoned_at.isoformat(timespec="seconds"),
    }


def _hold_entry(hold: Hold) -> dict[str, str]:
    return {
        "hold": hold.hold_id,
        "reason": hold.reason,
        "placed_by": hold.placed_by,
        "placed_at": hold.placed_at.isoformat(timespec="seconds"),
    }


def _count(site: Site, session: Any, run: Run, held: str) -> int | None:
    condition = f"({run.selection.predicate}) AND ({held})"
    try:
        with session.transaction(walking=True, statement_seconds=_COUNT_SECONDS):
            return int(site.database.count_up_to(session, run.selection.table, condition, _COUNT_ROWS))
    except HygieneError:
        return None


def _chunk_entry(session: Any, chunk: Chunk) -> dict[str, Any]:
    return {
        "chunk": chunk.chunk,
        "label": chunk.label,
        "state": chunk.state,
        "archived": chunk.archived_rows,
        "purged": chunk.purged,
        "drifted": chunk.drifted,
        "held": chunk.held,
        "vanished": chunk.vanished,
        "left": chunk.left,
        "objects": [
            {"name": receipt.name, "rows": receipt.rows, "bytes": receipt.bytes, "sha256": receipt.sha256}
            for receipt in Objects(session).of(chunk)
        ],
    }
