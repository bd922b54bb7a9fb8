"""The rhythm of a purge: a batch, a rest, and a pause while there is a reason to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.errors import Idle, Paused
from airflow_dbhygiene.pacing.controller import Tempo, first_tempo, next_tempo

if TYPE_CHECKING:
    from airflow_dbhygiene.policy import Pace

_PAUSE_SECONDS: Final = 1.0


@dataclass
class Pacer:
    """Keeps the rhythm of one chunk's purge.

    :param pace: what the policy says
    :param label: names the chunk in errors
    :param recent: rows of the run's latest batches, and their rows per second, where it has had some
    :param clock: seconds, of which only differences count; a simulation has its own
    :param sleep: lets so many of them pass
    """

    pace: Pace
    label: str
    recent: tuple[int, float] | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    tempo: Tempo = field(init=False)

    def __post_init__(self) -> None:
        size, rest = (self.pace.target_batch_seconds, self.pace.max_batch_rows), self.pace.rest_fraction
        self.tempo = next_tempo(*size, *self.recent, rest) if self.recent else first_tempo(*size, rest)

    def rest(self, rows: int, seconds: float, *, careful: bool = False, waited_for: bool = False) -> None:
        """Set the next batch's size by this one, and rest."""
        self.tempo = self.tempo.after(rows, seconds, careful=careful, waited_for=waited_for)
        self.sleep(self.tempo.rest_seconds)

    def wait(self, reason: Callable[[], str | None], tell: Callable[[str], None], idle_seconds: float = 0.0) -> None:
        """Wait while there is a reason to.

        :param reason: asks why to pause now, None when nothing speaks against the next batch
        :param tell: takes the reason, each time that it was asked for
        :param idle_seconds: for how long the chunk has not moved by now, over all deferrals of its task
        :raises Paused: when the reason outlasts the policy's max_pause_seconds
        :raises Idle: when the chunk has not moved for max_idle_seconds
        """
        began = self.clock()
        while why := reason():
            waited = self.clock() - began
            if idle_seconds + waited > self.pace.max_idle_seconds:
                raise Idle(f"{self.label} has not moved for longer than pace.max_idle_seconds: {why}.")
            if waited > self.pace.max_pause_seconds:
                raise Paused(f"{self.label}: {why}.")
            tell(why)
            self.sleep(_PAUSE_SECONDS)
            self.tempo = self.tempo.after_pause()
