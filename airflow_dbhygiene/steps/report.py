"""report: add a run up, discard what did not win, and leave a certificate beside the archive."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.ledger import Ledger, migrate
from airflow_dbhygiene.ledger.certificates import Certificate, Certificates
from airflow_dbhygiene.ledger.moves import PURGED
from airflow_dbhygiene.steps.attempt import folder_of
from airflow_dbhygiene.steps.certificate import certificate_of, chained, circumstances, says_the_same
from airflow_dbhygiene.steps.discard import discard_losers
from airflow_dbhygiene.steps.site import mebibytes

if TYPE_CHECKING:
    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.steps.site import Site
    from airflow_dbhygiene.stores.protocol import Store


def report(site: Site, run_id: str, approver: str | None = None) -> dict[str, Any]:
    """Close a run, complete or not, and give its certificate: plain values, as JSON has them.

    ``state`` is ``done`` when every chunk is purged, otherwise ``failed``. A report that has nothing new to say leaves
    the certificate that there is; any other adds one to the policy's chain.

    :param approver: who triggered the run, None when its schedule did
    """
    with site.database.session() as session:
        migrate(site.database, session)
        ledger = Ledger(session)
        run = ledger.existing_run(run_id)
        store = site.store_of(run.policy) if run.policy.archives else None
        if store is not None:
            discard_losers(session, store, run_id)
        around = circumstances(site, session, run, approver or _approver_before(ledger, run))
        with session.transaction(durable=True):
            Certificates(session).lock(run.policy.name)  # store and ledger get the same one, though a twin writes too
            text = _text(session, run, certificate_of(site, session, run, around))
            written: dict[str, Any] = json.loads(text)
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            address = _leave(session, store, run, written, text)
            ledger.report_run(run_id, written["state"], text, sha256)
    return written | {"certificate": address, "certificate_sha256": sha256}


def told_before(site: Site, run_id: str) -> dict[str, Any]:
    """Give the run's latest certificate, which an earlier report has left; empty before the first."""
    with site.database.session() as session:
        text = Ledger(session).report_text(run_id) if Ledger.exists(session) else None
    return json.loads(text) if text else {}


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
    if report["interruptions"]["longest"]:
        lines.append(_interrupted(report["interruptions"]))
    if report["reclaim"]:
        lines.append(f"reclaim: {report['reclaim']['line']}")
    if report["holds"]:
        rows = report["rows_under_hold"]
        told = "an unknown number of" if rows is None else f"{rows:,}"
        lines.append(f"held back: {told} stale rows, by holds {', '.join(hold['hold'] for hold in report['holds'])}")
    if report["rows_waiting"]:
        lines.append(f"behind: about {report['rows_waiting']:,} stale rows wait for {report['runs_behind']} more runs")
    return "\n".join(lines)


def _interrupted(found: dict[str, Any]) -> str:
    """Say how long a run stood still, how often it made way, and the reason of the longest time."""
    return (
        f"paused: {found['pauses']:,} times, {found['paused_seconds']:.1f} s in all; batches made smaller:"
        f" {found['batches_made_smaller']:,}. {found['longest'][0]['reason']}"
    )


def _approver_before(ledger: Ledger, run: Run) -> str | None:
    """Give who triggered the run, as an earlier report has told."""
    earlier = ledger.report_text(run.run_id)
    return json.loads(earlier).get("approver") if earlier else None


def _text(session: Any, run: Run, certificate: dict[str, Any]) -> str:
    """Give the run's latest certificate if it says the same, otherwise this one with its place in the chain."""
    certificates = Certificates(session)
    earlier = Ledger(session).report_text(run.run_id) if certificates.of_run(run.run_id) else None
    if earlier and says_the_same(certificate, json.loads(earlier)):
        return earlier
    complete = chained(certificate, certificates.last(run.policy.name))
    return json.dumps(complete, indent=2, ensure_ascii=False, sort_keys=True)


def _leave(session: Any, store: Store | None, run: Run, written: dict[str, Any], text: str) -> str | None:
    """Write the certificate beside the archive, and into the chain unless it is there.

    Without chunks, or without an archive, there is nothing to lay it beside: the ledger keeps it.
    """
    if store is None or not written["chunk_list"]:
        return None
    certificates, number = Certificates(session), written["certificate_number"]
    of_run = certificates.of_run(run.run_id)
    known = next((each for each in of_run if each.number == number), None)
    suffix = f"-{len(of_run) + 1}" if of_run else ""
    name = known.name if known else f"{folder_of(run)}/certificate{suffix}.json"
    address = store.write_text(name, text)
    store.protect(name)
    if known is None:
        sha256, previous = hashlib.sha256(text.encode()).hexdigest(), written["previous_certificate_sha256"]
        certificates.extend(Certificate(run.policy.name, number, run.run_id, name, sha256, previous))
    return address
