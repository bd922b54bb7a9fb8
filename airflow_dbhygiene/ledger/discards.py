"""What the ledger holds of rows that a policy discards: batches and their numbers, and no archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import IllegalMove
from airflow_dbhygiene.ledger.moves import PURGED, PURGING

if TYPE_CHECKING:
    from airflow_dbhygiene.ledger.records import Chunk


class Discards:
    """Receipts for rows that are gone without a copy, in the transaction that deletes them."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def record_batch(self, chunk: Chunk, rows: int, seconds: float, *, careful: bool) -> None:
        """Write a batch's receipt.

        :raises IllegalMove: when the chunk has an archive
        """
        self._move(chunk, PURGING, rows, seconds)
        self._session.execute(
            """
            INSERT INTO dbhygiene.batch (run_id, chunk, batch, first_ordinal, end_ordinal, careful, purged, drifted,
                                         held, vanished, locked, seconds)
            SELECT %(run_id)s, %(chunk)s, coalesce(max(batch), 0) + 1, %(first)s, %(end)s, %(careful)s, %(rows)s,
                   0, 0, 0, 0, %(seconds)s
            FROM dbhygiene.batch WHERE run_id = %(run_id)s AND chunk = %(chunk)s
            """,
            {
                "run_id": chunk.run_id, "chunk": chunk.chunk, "first": chunk.purged_through, "rows": rows,
                "end": chunk.purged_through + rows, "careful": careful, "seconds": seconds,
            },
        )  # fmt: skip

    def finish(self, chunk: Chunk) -> None:
        """Say that all of a chunk's rows are gone.

        :raises IllegalMove: when the chunk has an archive
        """
        if chunk.state != PURGED:
            self._move(chunk, PURGED)

    def _move(self, chunk: Chunk, state: str, rows: int = 0, seconds: float = 0.0) -> None:
        # A chunk that was ever archived is purged by its archive alone.
        statement = """
            UPDATE dbhygiene.chunk
            SET state = %(to)s, changed_at = CURRENT_TIMESTAMP(6), purged = purged + %(rows)s,
                purged_through = purged_through + %(rows)s, purge_seconds = purge_seconds + %(seconds)s
            WHERE run_id = %(run_id)s AND chunk = %(chunk)s AND state IN ('planned', 'purging')
              AND archived_rows IS NULL
        """
        values = {"to": state, "run_id": chunk.run_id, "chunk": chunk.chunk, "rows": rows, "seconds": seconds}
        if not self._session.change(statement, values):
            raise IllegalMove(f"{chunk.label} is {chunk.state}: only a chunk without an archive is discarded.")
