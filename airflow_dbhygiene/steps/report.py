"""report: add a run up, discard what did not win, and leave a certificate beside the archive."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.ledger import Ledger
from airflow_dbhygiene.ledger.moves import PURGED
from airflow_dbhygiene.steps.archive import folder_of
from airflow_dbhygiene.steps.discard import discard_losers
from airflow_dbhygiene.steps.site import mebibytes
from airflow_dbhygiene.version import VERSION

if TYPE_CHECKING:
    from airflow_dbhygiene.ledger import Chunk, Run
    from airflow_dbhygiene.steps.site import Site


def report(site: Site, run_id: str) -> dict[str, Any]:
    """Close a run, complete or not, and give its certificate: plain values, as JSON has them.

    ``state`` is ``done`` when every chunk is purged, otherwise ``failed``.
    """
    with site.database.session() as session:
        ledger = Ledger(session)
        run = ledger.existing_run(run_id)
        store = site.open_store(run.policy.archive)
        discard_losers(session, store, run_id)
        with session.transaction():
            ledger.lock_run(run_id)  # store and ledger get the same certificate, though a twin writes one too
            chunks = ledger.chunks(run_id)
            certificate = _certificate(session, run, chunks) | {"objects_discarded": ledger.count_discarded(run_id)}
            text = json.dumps(certificate, indent=2, ensure_ascii=False, sort_keys=True)
            address = store.write_text(f"{folder_of(run)}/certificate.json", text) if chunks else None
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            ledger.report_run(run_id, certificate["state"], text, sha256)
    return certificate | {"certificate": address, "certificate_sha256": sha256}


def describe(report: dict[str, Any]) -> str:
    """Write a report for a person."""
    names = "planned archived verified purged drifted held vanished locked".split()
    figures = ", ".join(f"{name} {report['rows_' + name]:,}" for name in names)
    seconds = ", ".join(f"{step} {report[step + '_seconds']:.1f}" for step in ("archive", "verify", "purge"))
    lines = [
        f"run {report['run']} of policy {report['policy']} is {report['state']}",
        f"rows: {figures}",
        f"archive: {report['objects']} objects, {mebibytes(report['bytes'])} in {report['store']}",
        f"seconds of all workers: {seconds}",
        *(f"{chunk['label']} is {chunk['state']}" for chunk in report["chunk_list"] if chunk["state"] != PURGED),
    ]
    if report["rows_waiting"]:
        lines.append(f"behind: about {report['rows_waiting']:,} stale rows wait for {report['runs_behind']} more runs")
    return "\n".join(lines)


def _certificate(session: Any, run: Run, chunks: tuple[Chunk, ...]) -> dict[str, Any]:
    ledger = Ledger(session)
    figures = ledger.figures(run.run_id)
    waiting = run.plan["waiting_rows"]
    return {
        "version": VERSION,
        "run": run.run_id,
        "state": "done" if all(chunk.state == PURGED for chunk in chunks) else "failed",
        "policy": run.policy.name,
        "policy_digest": run.policy.digest,
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
        **figures,
        "chunk_list": [_chunk_entry(ledger, chunk) for chunk in chunks],
        "previous_certificate_sha256": ledger.previous_certificate(run),
    }


def _chunk_entry(ledger: Ledger, chunk: Chunk) -> dict[str, Any]:
    return {
        "chunk": chunk.chunk,
        "label": chunk.label,
        "state": chunk.state,
        "archived": chunk.archived_rows,
        "purged": chunk.purged,
        "drifted": chunk.drifted,
        "held": chunk.held,
        "vanished": chunk.vanished,
        "objects": [
            {"name": receipt.name, "rows": receipt.rows, "bytes": receipt.bytes, "sha256": receipt.sha256}
            for receipt in ledger.objects(chunk)
        ],
    }
