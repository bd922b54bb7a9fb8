"""What the ledger holds of restores: a receipt for each batch that was put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import StatementTimedOut

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Restored
    from airflow_dbhygiene.ledger.records import Chunk


class Restores:
    """Receipts for rows that are back, in the transaction that inserts them.

    :param restore_id: names the restore, and all that it was asked for: its receipts say nothing of any other
    """

    def __init__(self, session: Any, restore_id: str) -> None:
        self._session = session
        self._restore_id = restore_id

    def through(self, chunk: Chunk) -> int:
        """Give the ordinal up to which the restore has dealt with a chunk."""
        rows = self._session.execute(
            "SELECT coalesce(max(end_ordinal), 0) FROM dbhygiene.restore"
            " WHERE restore_id = %s AND run_id = %s AND chunk = %s",
            (self._restore_id, chunk.run_id, chunk.chunk),
        )
        return int(rows[0][0])

    def record(self, chunk: Chunk, target: str, span: range, restored: Restored) -> None:
        """Write a restored batch's receipt, in the transaction that puts the rows back.

        :raises StatementTimedOut: when a twin was first; the transaction is to be undone
        """
        inserted = self._session.insert_new(
            "dbhygiene.restore",
            {
                "restore_id": self._restore_id, "run_id": chunk.run_id, "chunk": chunk.chunk,
                "first_ordinal": span.start, "end_ordinal": span.stop, "target": target,
                "restored": restored.restored, "existing": restored.existing,
            },
        )  # fmt: skip
        if not inserted:
            message = f"{chunk.label}: another worker does this very restore: a retry goes on behind it."
            raise StatementTimedOut(message)
        self._session.execute(
            "UPDATE dbhygiene.run SET restored_at = CURRENT_TIMESTAMP(6) WHERE run_id = %s", (chunk.run_id,)
        )

    def restored(self) -> int:
        """Give how many rows the restore has put back so far."""
        statement = "SELECT coalesce(sum(restored), 0) FROM dbhygiene.restore WHERE restore_id = %s"
        return int(self._session.execute(statement, (self._restore_id,))[0][0])
