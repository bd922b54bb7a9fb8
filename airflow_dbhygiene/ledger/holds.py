"""Holds and pauses: what people put into the ledger, and every purge obeys from its next batch on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_dbhygiene.policy.names import parse_table_name

_HOLD = """
SELECT hold_id, table_name, predicate, reason, placed_by, placed_at, until_at, released_by, released_at,
       released_at IS NULL AND (until_at IS NULL OR until_at > CURRENT_TIMESTAMP(6))
FROM dbhygiene.hold
"""
_PAUSE = "SELECT scope, reason, placed_by, placed_at FROM dbhygiene.pause"


@dataclass(frozen=True)
class Hold:
    """Rows that nothing may delete, and who said so. ``binding`` is False once it is released or over."""

    hold_id: str
    table: str
    predicate: str
    reason: str
    placed_by: str
    placed_at: datetime
    until_at: datetime | None
    released_by: str | None
    released_at: datetime | None
    binding: bool


@dataclass(frozen=True)
class Pause:
    """A scope in which nothing is deleted: ``all``, ``table:public.flights`` or ``policy:flights``."""

    scope: str
    reason: str
    placed_by: str
    placed_at: datetime


class Holds:
    """Reads and writes holds in the transaction of the session that it is given."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def place(self, hold: Mapping[str, object], until_at: datetime | None) -> bool:
        """Write a hold's fields; False when its id is taken. Close the gate before."""
        return bool(self._session.insert_new("dbhygiene.hold", {**hold, "until_at": _written(until_at)}))

    def prolong(self, hold: Mapping[str, object], until_at: datetime | None) -> None:
        """Move the end of the hold of that id, and note who wanted it, and why. Close the gate before."""
        self._session.execute(
            "INSERT INTO dbhygiene.prolongation (hold_id, prolonged_by, reason, until_before)"
            " SELECT hold_id, %s, %s, until_at FROM dbhygiene.hold WHERE hold_id = %s AND released_at IS NULL",
            (hold["placed_by"], hold["reason"], hold["hold_id"]),
        )
        self._session.execute(
            "UPDATE dbhygiene.hold SET until_at = %s WHERE hold_id = %s AND released_at IS NULL",
            (_written(until_at), hold["hold_id"]),
        )

    def find(self, hold_id: str) -> Hold | None:
        """Read one hold, None when there is none of that id."""
        rows = self._session.execute(f"{_HOLD} WHERE hold_id = %s", (hold_id,))
        return _hold(rows[0]) if rows else None

    def listed(self, table: str | None = None) -> tuple[Hold, ...]:
        """Read all holds there ever were, of a table or of all, in the order of their placing."""
        holds = map(_hold, self._session.execute(f"{_HOLD} ORDER BY placed_at, hold_id"))
        if table is None:
            return tuple(holds)
        wanted = parse_table_name(table)
        return tuple(hold for hold in holds if parse_table_name(hold.table) == wanted)

    def release(self, hold_id: str, released_by: str) -> bool:
        """End a hold; False when it has ended already, or never was."""
        return bool(
            self._session.change(
                "UPDATE dbhygiene.hold SET released_at = CURRENT_TIMESTAMP(6), released_by = %s"
                " WHERE hold_id = %s AND released_at IS NULL",
                (released_by, hold_id),
            )
        )


class Pauses:
    """Reads and writes pauses."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def place(self, scope: str, reason: str, placed_by: str) -> bool:
        """Write a pause; False when the scope is paused already."""
        row = {"scope": scope, "reason": reason, "placed_by": placed_by}
        return bool(self._session.insert_new("dbhygiene.pause", row))

    def listed(self) -> tuple[Pause, ...]:
        """Read all pauses that stand."""
        rows = self._session.execute(f"{_PAUSE} ORDER BY placed_at, scope")
        return tuple(Pause(scope, reason, by, aware(at)) for scope, reason, by, at in rows)

    def remove(self, scope: str) -> bool:
        """Let a scope go on; False when it was not paused."""
        return bool(self._session.change("DELETE FROM dbhygiene.pause WHERE scope = %s", (scope,)))


def _hold(row: tuple[Any, ...]) -> Hold:
    hold_id, table, predicate, reason, placed_by, placed_at, until_at, released_by, released_at, binding = row
    return Hold(
        hold_id, table, predicate, reason, placed_by, aware(placed_at), aware(until_at) if until_at else None,
        released_by, aware(released_at) if released_at else None, bool(binding),
    )  # fmt: skip


def _written(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ") if moment else None


def aware(moment: datetime) -> datetime:
    """Take a moment without a zone for UTC: it is what a MySQL session of ours gives."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
