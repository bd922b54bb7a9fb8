"""What every purge of a chunk works with: its session, its tempo, a batch's transaction, and waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.errors import Idle, Paused
from airflow_dbhygiene.ledger import Chunk, Ledger, Run
from airflow_dbhygiene.pacing.reasons import pause_reason
from airflow_dbhygiene.steps.plan import check_server

if TYPE_CHECKING:
    from airflow_dbhygiene.pacing.controller import Tempo
    from airflow_dbhygiene.steps.site import Progress, Site

_PAUSE_SECONDS: Final = 1.0


@dataclass
class Work:
    """One chunk's purge: where it stands, and how large the next batch is."""

    site: Site
    session: Any
    run: Run
    chunk: Chunk
    tempo: Tempo
    progress: Progress
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def transaction(self, *, last: bool) -> Iterator[str | None]:
        """Open a batch's transaction; give the condition of the rows that holds protect, as of now.

        Delete and receipt commit together, so that all but a chunk's last batch may commit without waiting for the
        disk.
        """
        with self.session.transaction(walking=True, durable=last):
            self.site.database.share_gate(self.session)
            check_server(self.site, self.session, self.run)
            yield Ledger(self.session).held_condition(self.run.policy)

    def lock(self) -> Chunk:
        """Lock the chunk's row: a twin waits, and a lost acknowledgement shows in where the fence stands.

        From here on the transaction meets the application's rows, and gives way to it.
        """
        chunk = Ledger(self.session).chunk(self.chunk.run_id, self.chunk.chunk, lock=True)
        self.site.database.give_way(self.session, self.run.policy.pace.lock_timeout_seconds)
        return chunk

    def learn(self, rows: int, seconds: float) -> None:
        """Set the next batch's size by this one, tell how far the chunk is, and rest if the policy says so."""
        self.tempo = self.tempo.after(rows, seconds)
        self.progress.at(self.chunk.purged_through)
        time.sleep(seconds * self.run.policy.pace.rest_fraction)

    def wait(self) -> None:
        """Wait, outside any transaction, while there is a reason to.

        :raises Paused: when the reason outlasts the policy's max_pause_seconds
        :raises Idle: when the chunk has not moved for max_idle_seconds, over all its tries
        """
        pace, started = self.run.policy.pace, time.monotonic()
        while reason := pause_reason(self.site.database, self.session, self.run):
            if self.chunk.idle_seconds + time.monotonic() - self.started > pace.max_idle_seconds:
                raise Idle(f"{self.chunk.label} has not moved for longer than pace.max_idle_seconds: {reason}.")
            if time.monotonic() - started > pace.max_pause_seconds:
                raise Paused(f"{self.chunk.label}: {reason}.")
            self.progress.pausing(reason)
            time.sleep(_PAUSE_SECONDS)
