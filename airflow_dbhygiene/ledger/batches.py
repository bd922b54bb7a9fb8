"""What the ledger holds of purges: a receipt for each batch, and what became of rows that were not purged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.ledger.ledger import Ledger
from airflow_dbhygiene.ledger.moves import PURGING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_dbhygiene.databases.protocol import Outcomes
    from airflow_dbhygiene.ledger.records import Chunk

_NOTED: Final = ("drifted", "held", "vanished", "locked")
_NOTED_AT_A_TIME: Final = 1_000
"""Rows of the application are locked meanwhile: each statement is a round trip, and none may have too many values."""


class Batches:
    """Receipts for rows that are gone, in the transaction that deletes them."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def record(self, chunk: Chunk, end: int, outcomes: Outcomes, seconds: float, *, careful: bool) -> None:
        """Write a batch's receipt and move the fence, in the transaction that deletes the rows."""
        counts = _counts(outcomes)
        last = self._session.execute(
            "SELECT coalesce(max(batch), 0) FROM dbhygiene.batch WHERE run_id = %s AND chunk = %s",
            (chunk.run_id, chunk.chunk),
        )[0][0]
        self._session.execute(
            """
            INSERT INTO dbhygiene.batch (run_id, chunk, batch, first_ordinal, end_ordinal, careful, purged, drifted,
                                         held, vanished, locked, seconds)
            VALUES (%(run_id)s, %(chunk)s, %(batch)s, %(first)s, %(end)s, %(careful)s, %(purged)s, %(drifted)s,
                    %(held)s, %(vanished)s, %(locked)s, %(seconds)s)
            """,
            {
                "run_id": chunk.run_id, "chunk": chunk.chunk, "batch": int(last) + 1, "first": chunk.purged_through,
                "end": end, "careful": careful, "seconds": seconds, **counts,
            },
        )  # fmt: skip
        self._add(chunk, counts, end, seconds)

    def recent(self, run_id: str) -> tuple[int, float] | None:
        """Give the most rows that a batch of the last minute had, and their rows per second; None without any."""
        most, rate = self._session.execute(
            """
            SELECT max(end_ordinal - first_ordinal), sum(end_ordinal - first_ordinal) / sum(seconds)
            FROM dbhygiene.batch
            WHERE run_id = %s AND committed_at > CURRENT_TIMESTAMP(6) - INTERVAL '1' MINUTE AND seconds > 0
            """,
            (run_id,),
        )[0]
        return (int(most), float(rate)) if most else None

    def record_outcomes(self, chunk: Chunk, outcomes: Outcomes, keys: dict[int, tuple[str, ...]]) -> None:
        """Note, row for row, what became of archived rows that were not purged."""
        noted = [(ordinal, name) for name in _NOTED for ordinal in getattr(outcomes, name)]
        self._forget_outcomes(chunk, [ordinal for ordinal, _ in noted])
        for some in _some(noted):
            rows = [
                (chunk.run_id, chunk.chunk, ordinal, name, json.dumps(keys[ordinal], ensure_ascii=False))
                for ordinal, name in some
            ]
            marks = ", ".join([f"({_marks(rows[0])})"] * len(rows))
            self._session.execute(
                f"INSERT INTO dbhygiene.outcome (run_id, chunk, ordinal, outcome, row_key) VALUES {marks}",
                [value for row in rows for value in row],
            )

    def settle_locked(self, chunk: Chunk, ordinals: Sequence[int], outcomes: Outcomes) -> None:
        """Write what became of rows that were locked before, in the transaction that deletes them."""
        counts = _counts(outcomes)
        for outcome in ("drifted", "held", "vanished"):
            if settled := getattr(outcomes, outcome):
                self._session.execute(
                    "UPDATE dbhygiene.outcome SET outcome = %s, noted_at = CURRENT_TIMESTAMP(6)"
                    f" WHERE run_id = %s AND chunk = %s AND ordinal IN ({_marks(settled)})",
                    (outcome, chunk.run_id, chunk.chunk, *settled),
                )
        noted = {*outcomes.drifted, *outcomes.held, *outcomes.vanished, *outcomes.locked}
        self._forget_outcomes(chunk, [ordinal for ordinal in ordinals if ordinal not in noted])
        self._add(chunk, counts | {"locked": counts["locked"] - len(ordinals)}, chunk.purged_through)

    def locked(self, chunk: Chunk, span: range) -> tuple[int, ...]:
        """Give the ordinals, of those in a span, of rows that were locked when their batch came by."""
        rows = self._session.execute(
            "SELECT ordinal FROM dbhygiene.outcome WHERE run_id = %s AND chunk = %s AND outcome = 'locked'"
            " AND ordinal >= %s AND ordinal < %s ORDER BY ordinal",
            (chunk.run_id, chunk.chunk, span.start, span.stop),
        )
        return tuple(row[0] for row in rows)

    def left_out(self, chunk: Chunk) -> frozenset[int]:
        """Give the ordinals of archived rows that were not purged: whatever reads the archive leaves them out."""
        rows = self._session.execute(
            "SELECT ordinal FROM dbhygiene.outcome WHERE run_id = %s AND chunk = %s", (chunk.run_id, chunk.chunk)
        )
        return frozenset(row[0] for row in rows)

    def _forget_outcomes(self, chunk: Chunk, ordinals: Sequence[int]) -> None:
        for some in _some(ordinals):
            self._session.execute(
                f"DELETE FROM dbhygiene.outcome WHERE run_id = %s AND chunk = %s AND ordinal IN ({_marks(some)})",
                (chunk.run_id, chunk.chunk, *some),
            )

    def _add(self, chunk: Chunk, counts: dict[str, int], purged_through: int, seconds: float = 0.0) -> None:
        added = {name: getattr(chunk, name) + count for name, count in counts.items()}
        total = chunk.purge_seconds + seconds
        Ledger(self._session).move(chunk, PURGING, purged_through=purged_through, purge_seconds=total, **added)


def _some(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Give so many at a time as one statement takes."""
    for start in range(0, len(values), _NOTED_AT_A_TIME):
        yield values[start : start + _NOTED_AT_A_TIME]


def _marks(values: Sequence[object]) -> str:
    """Give a place for each value of a list."""
    return ", ".join(["%s"] * len(values))


def _counts(outcomes: Outcomes) -> dict[str, int]:
    return {"purged": outcomes.purged, **{name: len(getattr(outcomes, name)) for name in _NOTED}}
