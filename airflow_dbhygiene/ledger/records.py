"""The ledger's rows as frozen values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_dbhygiene.databases.protocol import Bound, Column, Selection, Server, Span
from airflow_dbhygiene.policy.model import Policy
from airflow_dbhygiene.policy.names import parse_table_name


@dataclass(frozen=True)
class Run:
    """A run as it was planned: nothing in it changes afterwards but its state.

    ``selection`` and ``policy`` are what the plan froze; ``since`` and ``cutoff`` are ISO moments in UTC.
    ``unknown_fields`` are those of the frozen policy that this version does not know: ``policy`` is without them.
    """

    run_id: str
    policy: Policy
    selection: Selection
    server: Server
    fingerprint: str
    ddl: str
    since: str | None
    cutoff: str | None
    state: str
    origin: dict[str, Any]
    plan: dict[str, Any]
    unknown_fields: tuple[str, ...] = ()

    @property
    def policy_json(self) -> str:
        """The policy as it was frozen, letter for letter."""
        return str(self.plan["policy_json"])

    @property
    def policy_digest(self) -> str:
        """SHA-256 of the frozen policy: a version that knows other fields gives the same."""
        return hashlib.sha256(self.policy_json.encode()).hexdigest()


@dataclass(frozen=True)
class RunRow:
    """A run in one line: whose it is, how far it came, and what became of its rows."""

    run_id: str
    policy: str
    table: str
    state: str
    cutoff: datetime | str | None
    planned_at: datetime
    chunks: int
    chunks_purged: int
    rows_archived: int
    rows_purged: int
    rows_drifted: int
    rows_held: int
    rows_vanished: int


@dataclass(frozen=True)
class Chunk:
    """A chunk's place in the walk, its state, and the outcomes of its rows so far.

    ``idle_seconds`` is the time since its row in the ledger changed last.
    """

    run_id: str
    chunk: int
    state: str
    label: str
    span: Span
    planned_rows: int
    nonce: str | None = None
    archived_rows: int | None = None
    purged_through: int = 0
    purged: int = 0
    drifted: int = 0
    held: int = 0
    vanished: int = 0
    locked: int = 0
    purge_seconds: float = 0.0
    idle_seconds: float = 0.0

    @property
    def left(self) -> int:
        """How many archived rows the purge has left in the table as they are: not come to yet, locked or given up."""
        accounted = self.purged + self.drifted + self.held + self.vanished
        return 0 if self.archived_rows is None else self.archived_rows - accounted


@dataclass(frozen=True)
class ObjectReceipt:
    """What the ledger holds of one object of a chunk's archive. ``rows`` are its number of rows."""

    run_id: str
    chunk: int
    nonce: str
    part: int
    name: str
    first_ordinal: int
    rows: int
    bytes: int
    sha256: str
    fingerprint: str


def selection_to_json(selection: Selection) -> dict[str, Any]:
    """Write a selection as plain values."""
    return {
        "table": str(selection.table),
        "columns": [[column.name, column.type, column.form] for column in selection.columns],
        "key": list(selection.key),
        "walk": list(selection.walk),
        "predicate": selection.predicate,
    }


def selection_from_json(data: dict[str, Any]) -> Selection:
    """Read what ``selection_to_json`` wrote."""
    return Selection(
        table=parse_table_name(data["table"]),
        columns=tuple(Column(*column) for column in data["columns"]),
        key=tuple(data["key"]),
        walk=tuple(data["walk"]),
        predicate=data["predicate"],
    )


def policy_from_record(text: str) -> tuple[Policy, tuple[str, ...]]:
    """Read a frozen policy of any version, and name its fields that this one does not know: it is read without them."""
    policy = Policy.from_record(text)
    return policy, tuple(sorted(_unknown(json.loads(text), json.loads(policy.json_text))))


def _unknown(recorded: Any, known: Any, place: str = "") -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(known, dict):
        for name in recorded.keys() - known.keys():
            yield f"{place}{name}"
        for name in recorded.keys() & known.keys():
            yield from _unknown(recorded[name], known[name], f"{place}{name}.")
    elif isinstance(recorded, list) and isinstance(known, list):
        for i, (one, other) in enumerate(zip(recorded, known, strict=True)):
            yield from _unknown(one, other, f"{place}{i}.")


def bound_to_json(bound: Bound | None) -> str | None:
    """Write a place in the walk as JSON, or NULL for the end."""
    return None if bound is None else json.dumps(bound, ensure_ascii=False)


def bound_from_json(text: str | None) -> Bound | None:
    """Read what ``bound_to_json`` wrote."""
    return None if text is None else tuple(json.loads(text))
