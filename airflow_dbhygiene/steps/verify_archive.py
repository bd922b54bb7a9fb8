"""verify-archive: is the evidence still what it was? A run's archive, or a policy's whole chain, read back in full."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import ArchiveDamaged, NotFound
from airflow_dbhygiene.ledger import Chunk, Ledger, ObjectReceipt, Run
from airflow_dbhygiene.ledger.abandonments import ABANDONED
from airflow_dbhygiene.ledger.certificates import Certificate, Certificates
from airflow_dbhygiene.ledger.erasures import Erasure, Erasures
from airflow_dbhygiene.ledger.moves import PURGED, PURGING, VERIFIED
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.steps.verify import opened

if TYPE_CHECKING:
    from airflow_dbhygiene.steps.site import Site
    from airflow_dbhygiene.stores.protocol import Store

_LOCKED = (VERIFIED, PURGING, PURGED)
_SAME = ("policy_digest", "predicate", "cutoff", "since", "table")


@dataclass(frozen=True)
class Finding:
    """Something that is missing or altered: in which run, which object or certificate, and what."""

    run: str
    name: str
    fault: str


@dataclass
class Verified:
    """What was read back, and everything that is wrong with it."""

    runs: int = 0
    certificates: int = 0
    objects: int = 0
    rows: int = 0
    bytes: int = 0
    rows_erased: int = 0
    findings: list[Finding] = field(default_factory=list)

    def describe(self) -> str:
        """Write it for a person."""
        read = f"{self.runs} runs, {self.certificates} certificates, {self.objects} objects, {self.rows:,} rows read"
        if self.rows_erased:
            read += f", {self.rows_erased:,} rows erased on request"
        if not self.findings:
            return f"{read}: all is as it was written."
        return "\n".join([f"{read}: {len(self.findings)} faults.", *map(_line, self.findings)])


def verify_archive(site: Site, *, policy: str | None = None, run_id: str | None = None) -> Verified:
    """Compare the store with the ledger: certificates, their chain, and every object's bytes, rows, keys and versions.

    :param policy: check all its runs and the whole chain of its certificates; or
    :param run_id: check this run alone
    :raises NotFound: when the ledger has no such policy or run
    """
    with site.database.session() as session:
        if not Ledger.exists(session):
            raise NotFound("this database has no ledger: verify its archive by the store alone.")
        ledger = Ledger(session)
        runs = (
            [ledger.existing_run(run_id)] if run_id else [ledger.existing_run(each) for each in ledger.run_ids(policy)]
        )
        if not runs:
            raise NotFound(f"policy {policy!r} has no run in this database's ledger.")
        found = Verified(runs=len(runs))
        chain = Certificates(session).chain(runs[0].policy.name)
        if run_id is None:
            found.findings.extend(_broken_links(chain))
        archived = [run for run in runs if run.policy.archives]
        for run in archived or runs:  # that a policy has no archive at all is told
            _verify_run(site, session, run, found)
    return found


def verify_store(store: Store, certificate_sha256: str | None = None) -> Verified:
    """Compare a store with its own certificates, when the ledger is gone.

    The certificates of each policy vouch for each other; a digest that was kept elsewhere vouches for the last.

    :param certificate_sha256: the digest of a certificate that must be among them
    """
    found = Verified()
    texts = {name: store.read_text(name) or b"" for name in store.texts()}
    digests = {hashlib.sha256(text).hexdigest() for text in texts.values()}
    if certificate_sha256 and certificate_sha256 not in digests:
        found.findings.append(Finding("", store.url, f"no certificate here has the SHA-256 {certificate_sha256}"))
    elif not texts:
        found.findings.append(Finding("", store.url, "no certificate is here: is this where the policy archives to?"))
    latest: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, text in texts.items():
        said = _json(text)
        if said is None or "certificate_number" not in said:
            found.findings.append(Finding("", name, "it is no certificate any more"))
            continue
        found.certificates += 1
        previous = said["previous_certificate_sha256"]
        if previous and previous not in digests:
            found.findings.append(
                Finding(said["run"], name, f"the certificate before it is missing or altered ({previous})")
            )
        if said["certificate_number"] >= latest.get(said["run"], ("", said))[1]["certificate_number"]:
            latest[said["run"]] = (_above(name), said)
    for above, said in latest.values():
        if not store.keeps(said["store"]):
            continue
        found.runs += 1
        _verify_told(store, above, said, found)
    return found


def _above(certificate: str) -> str:
    """Give what stands before table, run and file in a certificate's name: its policy archives below the address."""
    return "".join(f"{part}/" for part in certificate.split("/")[:-3])


def _verify_run(site: Site, session: Any, run: Run, found: Verified) -> None:
    if not run.policy.archives:
        return
    ledger, store = Ledger(session), site.store_of(run.policy)
    chunks = ledger.chunks(run.run_id)
    objects = {chunk.chunk: Objects(session).of(chunk) for chunk in chunks}
    receipts = [receipt for each in objects.values() for receipt in each]
    certificates = Certificates(session).of_run(run.run_id)
    for certificate in certificates:
        found.findings.extend(_certificate_faults(store, certificate, found))
    if certificates:
        text = ledger.report_text(run.run_id) or ""
        found.findings.extend(_contradictions(run, certificates[-1], text, chunks, receipts))
    erasures = Erasures(session).of_run(run.run_id)
    for chunk in chunks:
        found.findings.extend(_chunk_faults(site, store, run, chunk, objects[chunk.chunk], erasures, found))


def _chunk_faults(  # noqa: PLR0913, PLR0917 - what is compared, and where it is counted
    site: Site,
    store: Store,
    run: Run,
    chunk: Chunk,
    receipts: tuple[ObjectReceipt, ...],
    erasures: tuple[Erasure, ...],
    found: Verified,
) -> Iterator[Finding]:
    archived = sum(each.rows for each in receipts)
    erased = {each.name: each for each in erasures}
    if archived != (chunk.archived_rows or 0):
        yield Finding(run.run_id, chunk.label, f"its objects hold {archived} rows, {chunk.archived_rows} were archived")
    for receipt in receipts:
        site.tell(f"verify-archive: {receipt.name}")
        try:
            if erasure := erased.get(receipt.name):
                _verify_replacement(store, asdict(erasure), receipt.rows, found)
                continue
            with opened(site, store, run, receipt) as read:
                _count(found, read.rows, receipt.bytes)
            if chunk.state in _LOCKED and (fault := store.unprotected(receipt.name)):
                yield Finding(run.run_id, receipt.name, fault)
        except ArchiveDamaged as damage:
            yield Finding(run.run_id, receipt.name, str(damage))


def _broken_links(chain: tuple[Certificate, ...]) -> Iterator[Finding]:
    """Find certificates that the ledger has lost, or that do not name the one before them."""
    before: Certificate | None = None
    for number, certificate in enumerate(chain, start=1):
        if certificate.number != number or certificate.previous_sha256 != (before.sha256 if before else None):
            yield Finding(
                certificate.run_id, certificate.name, f"the ledger's chain is broken before number {certificate.number}"
            )
            return
        before = certificate


def _certificate_faults(store: Store, certificate: Certificate, found: Verified) -> Iterator[Finding]:
    text = store.read_text(certificate.name)
    if text is None:
        yield Finding(certificate.run_id, certificate.name, "the certificate is missing")
        return
    found.certificates += 1
    sha256 = hashlib.sha256(text).hexdigest()
    if sha256 != certificate.sha256:
        fault = f"the certificate is altered: its SHA-256 is {sha256}, and {certificate.sha256} was written"
        yield Finding(certificate.run_id, certificate.name, fault)


def _contradictions(
    run: Run, certificate: Certificate, text: str, chunks: tuple[Chunk, ...], receipts: list[ObjectReceipt]
) -> Iterator[Finding]:
    """Find where the ledger no longer says what it said when the certificate was written."""
    if hashlib.sha256(text.encode()).hexdigest() != certificate.sha256 or (said := _json(text.encode())) is None:
        yield Finding(run.run_id, certificate.name, "the ledger's own copy of the certificate is altered")
        return
    known = {"policy_digest": run.policy_digest, "predicate": run.selection.predicate, "cutoff": run.cutoff,
             "since": run.since, "table": str(run.selection.table)}  # fmt: skip
    for name in _SAME:
        if said[name] != known[name]:
            yield Finding(run.run_id, certificate.name, f"it says {name} {said[name]!r}, the ledger {known[name]!r}")
    told = {each["name"]: each for chunk in said["chunk_list"] for each in chunk["objects"]}
    for receipt in receipts:
        entry = {"name": receipt.name, "rows": receipt.rows, "bytes": receipt.bytes, "sha256": receipt.sha256}
        if told.pop(receipt.name, entry) != entry:
            yield Finding(run.run_id, receipt.name, "the ledger's receipt is not what the certificate says")
    for name in told:
        yield Finding(run.run_id, name, "the certificate names it, and the ledger has no receipt of it")
    purged = {chunk.chunk: chunk.purged for chunk in chunks}
    for entry in said["chunk_list"]:
        now = purged.get(entry["chunk"])
        if said["state"] in {"done", ABANDONED} and entry["purged"] != now:
            fault = f"it says that {entry['purged']} rows of {entry['label']} were purged, the ledger {now}"
            yield Finding(run.run_id, certificate.name, fault)


def _verify_told(store: Store, above: str, said: dict[str, Any], found: Verified) -> None:
    """Compare a run's objects with what its certificate says of them."""
    erased = {each["name"]: each | {"replaced_by": above + each["replaced_by"]} for each in said["erasures"]}
    for entry in (each for chunk in said["chunk_list"] for each in chunk["objects"]):
        name = above + entry["name"]
        try:
            if erasure := erased.get(entry["name"]):
                _verify_replacement(store, erasure, entry["rows"], found)
                continue
            with store.fetch(name, entry["sha256"], entry["bytes"]) as archived:
                _count(found, archived.rows, entry["bytes"])
                if archived.rows != entry["rows"] or archived.notes.get("run") != said["run"]:
                    found.findings.append(Finding(said["run"], name, "it is another object's content"))
        except ArchiveDamaged as damage:
            found.findings.append(Finding(said["run"], name, str(damage)))


def _verify_replacement(store: Store, erasure: dict[str, Any], rows: int, found: Verified) -> None:
    """Compare what took the place of an object, after rows were erased from it, with the record of that."""
    with store.fetch(erasure["replaced_by"], erasure["sha256"], erasure["bytes"]) as archived:
        _count(found, archived.rows, erasure["bytes"])
        if archived.rows != rows - erasure["rows_erased"]:
            raise ArchiveDamaged(
                f"{erasure['replaced_by']} holds {archived.rows} of {rows} rows, which is not what was left."
            )
    found.rows_erased += erasure["rows_erased"]


def _count(found: Verified, rows: int, size: int) -> None:
    found.objects += 1
    found.rows += rows
    found.bytes += size


def _json(text: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _line(finding: Finding) -> str:
    return f"  - {finding.run or 'store'}: {finding.name}: {finding.fault}"
