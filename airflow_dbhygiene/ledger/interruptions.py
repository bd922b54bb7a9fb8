"""What held purges up, or made their batches smaller: pauses and their reasons, and who waited for a batch's locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from airflow_dbhygiene.ledger.records import Chunk

_MOST_TOLD: Final = 20


class Interruptions:
    """Reads and writes them."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def record(self, chunk: Chunk, seconds: float, reason: str) -> None:
        """Note one that is over.

        :param seconds: for how long nothing was deleted; 0 where only the next batch is smaller
        """
        self._session.execute(
            "INSERT INTO dbhygiene.interruption (run_id, chunk, seconds, reason) VALUES (%s, %s, %s, %s)",
            (chunk.run_id, chunk.chunk, seconds, reason),
        )

    def summary(self, run_id: str) -> dict[str, Any]:
        """Add a run's up, and give the longest of them with their reasons."""
        ((pauses, seconds, smaller),) = self._session.execute(
            "SELECT count(CASE WHEN seconds > 0 THEN 1 END), coalesce(sum(seconds), 0),"
            " count(CASE WHEN seconds = 0 THEN 1 END) FROM dbhygiene.interruption WHERE run_id = %s",
            (run_id,),
        )
        longest = self._session.execute(
            "SELECT chunk, seconds, reason FROM dbhygiene.interruption WHERE run_id = %s"
            " ORDER BY seconds DESC, ended_at LIMIT %s",
            (run_id, _MOST_TOLD),
        )
        return {
            "pauses": int(pauses),
            "paused_seconds": float(seconds),
            "batches_made_smaller": int(smaller),
            "longest": [{"chunk": chunk, "seconds": seconds, "reason": reason} for chunk, seconds, reason in longest],
        }
