"""One try at a chunk's archive: what its objects are called, what they tell of themselves, and their receipts."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import StatementTimedOut
from airflow_dbhygiene.ledger import Chunk, ObjectReceipt, Run
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.steps.site import Progress
from airflow_dbhygiene.version import VERSION

if TYPE_CHECKING:
    from airflow_dbhygiene.steps.site import Site
    from airflow_dbhygiene.stores.protocol import Store, Written


@dataclass(frozen=True)
class Attempt:
    """One try at a chunk's archive, under a nonce of its own."""

    site: Site
    store: Store
    run: Run
    chunk: Chunk
    progress: Progress
    nonce: str = field(default_factory=lambda: os.urandom(6).hex())
    started: float = field(default_factory=time.monotonic)

    def name(self, part: int) -> str:
        """Name an object: ``public.flights/run=…/chunk-0007-<nonce>-000``, and what its store makes of that."""
        return self.store.named(f"{folder_of(self.run)}/chunk-{self.chunk.chunk:04}-{self.nonce}-{part:03}")

    def notes(self, part: int, first_ordinal: int) -> dict[str, str]:
        """Give what an object tells of itself, to whoever finds it without the ledger."""
        run = self.run
        return {
            "version": VERSION,
            "run": run.run_id,
            "chunk": str(self.chunk.chunk),
            "nonce": self.nonce,
            "part": str(part),
            "first_ordinal": str(first_ordinal),
            "table": str(run.selection.table),
            "policy": run.policy_json,
            "predicate": run.selection.predicate,
            "since": run.since or "",
            "cutoff": run.cutoff or "",
            "ddl": run.ddl,
            "columns": json.dumps({column.name: [column.type, column.form] for column in run.selection.columns}),
            "key": json.dumps(run.selection.key),
            "walk": json.dumps(run.selection.walk),
            "mask": json.dumps(run.policy.mask),
        }

    def receive(self, session: Any, part: int, first_ordinal: int, name: str, written: Written) -> ObjectReceipt:
        """Record what was written; give way to a report that has discarded the attempt meanwhile."""
        receipt = ObjectReceipt(
            self.run.run_id, self.chunk.chunk, self.nonce, part, name, first_ordinal, written.rows, written.bytes,
            written.sha256, written.fingerprint,
        )  # fmt: skip
        if not Objects(session).receive(receipt):
            self.store.discard(name)
            raise ruled_out(self.chunk)
        return receipt


def folder_of(run: Run) -> str:
    """Name a run's folder below the store's URL."""
    table = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in str(run.selection.table))
    return f"{table}/run={run.run_id}"


def ruled_out(chunk: Chunk) -> StatementTimedOut:
    """Say that a report has discarded an attempt."""
    return StatementTimedOut(
        f"{chunk.label}: the run was reported, and this attempt's objects discarded, while it worked."
    )
