"""What the ledger holds of the archive: an intent before each object is written, and a receipt behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.ledger.ledger import Ledger
from airflow_dbhygiene.ledger.records import ObjectReceipt

if TYPE_CHECKING:
    from airflow_dbhygiene.ledger.records import Chunk

_OBJECT: Final = """
SELECT run_id, chunk, nonce, part, name, first_ordinal, archived_rows, bytes, sha256, fingerprint
FROM dbhygiene.object
"""


class Objects:
    """Intents and receipts of a run's objects, those of attempts that lost included."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def intend(self, chunk: Chunk, nonce: str, part: int, name: str) -> None:
        """Record an object's name before the upload begins, so that no leftover is ever unknown."""
        self._session.execute(
            "INSERT INTO dbhygiene.object (run_id, chunk, nonce, part, name, state)"
            " VALUES (%s, %s, %s, %s, %s, 'intended')",
            (chunk.run_id, chunk.chunk, nonce, part, name),
        )

    def withdraw(self, chunk: Chunk, nonce: str, part: int) -> None:
        """Forget an intent: there are no rows for that object."""
        self._session.execute(
            "DELETE FROM dbhygiene.object WHERE run_id = %s AND chunk = %s AND nonce = %s AND part = %s"
            " AND state = 'intended'",
            (chunk.run_id, chunk.chunk, nonce, part),
        )

    def receive(self, receipt: ObjectReceipt) -> bool:
        """Record what was uploaded; False when a report has discarded the attempt meanwhile."""
        received = self._session.change(
            "UPDATE dbhygiene.object SET state = 'written', first_ordinal = %s, archived_rows = %s, bytes = %s,"
            " sha256 = %s, fingerprint = %s, changed_at = CURRENT_TIMESTAMP(6)"
            " WHERE run_id = %s AND chunk = %s AND nonce = %s AND part = %s AND state = 'intended'",
            (
                receipt.first_ordinal, receipt.rows, receipt.bytes, receipt.sha256, receipt.fingerprint,
                receipt.run_id, receipt.chunk, receipt.nonce, receipt.part,
            ),
        )  # fmt: skip
        return bool(received)

    def count_written(self, chunk: Chunk, nonce: str) -> int:
        """Count the objects of an attempt that still stand, and keep a report from discarding them."""
        return len(
            self._session.execute(
                "SELECT part FROM dbhygiene.object WHERE run_id = %s AND chunk = %s AND nonce = %s"
                " AND state = 'written' FOR UPDATE",
                (chunk.run_id, chunk.chunk, nonce),
            )
        )

    def of(self, chunk: Chunk) -> tuple[ObjectReceipt, ...]:
        """Give the receipts of the archive that won, in the order of their parts."""
        rows = self._session.execute(
            _OBJECT + " WHERE run_id = %s AND chunk = %s AND nonce = %s AND state = 'written' ORDER BY part",
            (chunk.run_id, chunk.chunk, chunk.nonce),
        )
        return tuple(ObjectReceipt(*row) for row in rows)

    def any_of(self, run_id: str) -> bool:
        """Tell whether a run has begun to archive anything: intents come before the rows are read."""
        return bool(self._session.execute("SELECT 1 FROM dbhygiene.object WHERE run_id = %s LIMIT 1", (run_id,)))

    def losing(self, run_id: str) -> list[tuple[int, str, int, str]]:
        """Give chunk, nonce, part and name of objects that did not win their chunk, and are not discarded yet."""
        return list(
            self._session.execute(
                "SELECT o.chunk, o.nonce, o.part, o.name FROM dbhygiene.object o JOIN dbhygiene.chunk c"
                " USING (run_id, chunk) WHERE run_id = %s AND o.state <> 'discarded'"
                " AND o.nonce <> coalesce(c.nonce, '') ORDER BY 1, 2, 3",
                (run_id,),
            )
        )

    def rule_out(self, run_id: str, chunk: int, nonce: str, part: int) -> bool:
        """Keep an object's attempt from winning; False when it has won meanwhile."""
        with self._session.transaction():
            if Ledger(self._session).chunk(run_id, chunk, lock=True).nonce == nonce:
                return False
            self._session.execute(
                "UPDATE dbhygiene.object SET state = 'discarding', changed_at = CURRENT_TIMESTAMP(6)"
                " WHERE run_id = %s AND chunk = %s AND nonce = %s AND part = %s",
                (run_id, chunk, nonce, part),
            )
        return True

    def forget(self, run_id: str, chunk: int, nonce: str, part: int) -> None:
        """Record that the store no longer holds an object that did not win.

        One that was never received stays on the list for the next report: its upload may still be under way.
        """
        self._session.execute(
            "UPDATE dbhygiene.object SET state = 'discarded', changed_at = CURRENT_TIMESTAMP(6)"
            " WHERE run_id = %s AND chunk = %s AND nonce = %s AND part = %s AND sha256 IS NOT NULL",
            (run_id, chunk, nonce, part),
        )

    def count_discarded(self, run_id: str) -> int:
        """Count the objects that did not win and were removed."""
        rows = self._session.execute(
            "SELECT count(*) FROM dbhygiene.object WHERE run_id = %s AND state IN ('discarding', 'discarded')",
            (run_id,),
        )
        return int(rows[0][0])
