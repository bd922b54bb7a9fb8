"""What every purge of a chunk works with: its session, its rhythm, a batch's transaction, and waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import Idle, Paused, RowsReferenced, StatementTimedOut
from airflow_dbhygiene.ledger import Chunk, Ledger, Run
from airflow_dbhygiene.ledger.interruptions import Interruptions
from airflow_dbhygiene.pacing.reasons import pause_reason
from airflow_dbhygiene.steps.going_on import refuse_abandoned
from airflow_dbhygiene.steps.plan import check_server

if TYPE_CHECKING:
    from airflow_dbhygiene.pacing.pacer import Pacer
    from airflow_dbhygiene.pacing.replicas import Replica
    from airflow_dbhygiene.policy import Policy
    from airflow_dbhygiene.steps.site import Progress, Site


@dataclass
class Work:
    """One chunk's purge: where it stands, and its rhythm.

    ``began`` is when its task began, in seconds since 1970: the patience of an earlier one is not this one's.
    """

    site: Site
    session: Any
    run: Run
    chunk: Chunk
    pacer: Pacer
    progress: Progress
    replicas: tuple[Replica, ...] = ()
    waiters: int = 0
    began: float = field(default_factory=time.time)

    @property
    def batch_rows(self) -> int:
        """How many rows the next batch takes."""
        return self.pacer.tempo.rows

    @contextmanager
    def transaction(self, *, last: bool) -> Iterator[str | None]:
        """Open a batch's transaction; give the condition of the rows that holds protect, as of now.

        Delete and receipt commit together, so that all but a chunk's last batch may commit without waiting for the
        disk.
        """
        with self.session.transaction(walking=True, durable=last):
            self.site.database.share_gate(self.session)
            check_server(self.site, self.session, self.run)
            before = self.site.database.waiters(self.session)  # they wait for others: not every engine tells for whom
            yield Ledger(self.session).held_condition(self.site.database, self.run.policy)
            self.waiters = max(self.site.database.waiters(self.session) - before, 0)

    def lock(self) -> Chunk:
        """Lock the chunk's row: a twin waits, and a lost acknowledgement shows in where the fence stands.

        From here on the transaction meets the application's rows, and gives way to it.

        :raises IllegalMove: when the run was given up meanwhile
        """
        chunk = Ledger(self.session).chunk(self.chunk.run_id, self.chunk.chunk, lock=True)
        refuse_abandoned(self.session, chunk.run_id)
        self.site.database.give_way(self.session, self.run.policy.pace.lock_timeout_seconds)
        return chunk

    def learn(self, rows: int, seconds: float, *, careful: bool) -> None:
        """Tell how far the chunk is, set the next batch's size by this one, and rest."""
        self.progress.at(self.chunk.purged_through)
        if self.waiters:
            self._note(
                0.0, f"sessions waited for rows as a batch ended: {self.waiters}; the next one was half as large"
            )
        self.pacer.rest(rows, seconds, careful=careful, waited_for=self.waiters > 0)

    def wait(self) -> None:
        """Wait, outside any transaction, while there is a reason to.

        :raises Paused: when the reason outlasts the policy's max_pause_seconds
        :raises Idle: when the chunk has not moved for max_idle_seconds since the task began, over all its deferrals
        """
        began, reason = time.monotonic(), self._reason()
        if reason is None:
            return
        idle_seconds = min(self.chunk.idle_seconds, max(time.time() - self.began, 0.0))
        try:
            self.pacer.wait(self._reason, self.progress.pausing, idle_seconds)
        except (Paused, Idle):
            self._note(time.monotonic() - began, reason)
            raise
        self._note(time.monotonic() - began, reason)

    def _reason(self) -> str | None:
        return pause_reason(self.site.database, self.session, self.run, self.replicas)

    def _note(self, seconds: float, reason: str) -> None:
        with self.session.transaction(durable=False):
            Interruptions(self.session).record(self.chunk, seconds, reason)


@contextmanager
def unreferenced(policy: Policy) -> Iterator[None]:
    """Take a row that others began to point at during the very statement as what it is: a retry leaves it out.

    :raises StatementTimedOut: in place of RowsReferenced, where the policy says to skip such rows
    """
    try:
        yield
    except RowsReferenced as error:
        if policy.children == "refuse":
            raise
        raise StatementTimedOut(f"while rows were deleted others began to point at them: {error}") from error
