"""A server that only exists in numbers, purged at the pace of the real controller: a minute of load takes no time.

Nothing of the controller is repeated here: ``Pacer`` decides what a batch takes, when to rest and when to pause. The
server decides how long a batch lasts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from airflow_dbhygiene.errors import DatabaseUnavailable, HygieneError
from airflow_dbhygiene.pacing.pacer import Pacer
from airflow_dbhygiene.policy import Pace

FULL_SPEED: Final = 100_000.0
"""Rows per second of a batch, while nobody else is there."""

FIXED_SECONDS: Final = 0.005
"""What a batch takes beside its rows."""


@dataclass(frozen=True)
class Batch:
    """One batch: when it began, in seconds; how many rows it took, and for how long."""

    began: float
    rows: int
    seconds: float


@dataclass
class Scenario:
    """What happens to the server.

    :param load: the part of the server that others take, 0 to 1, at each second
    :param noise: how much batches differ by chance: the sigma of the logarithm of their time
    :param signal: why to pause, at each second, given how far behind a replica is; may raise
    :param replay_speed: rows per second that a replica can follow
    """

    load: Callable[[float], float] = lambda _: 0.0
    noise: float = 0.0
    signal: Callable[[float, float], str | None] = lambda _, __: None
    replay_speed: float = float("inf")
    seconds: float = 180.0
    pace: Pace = field(default_factory=Pace)


@dataclass
class Simulation:
    """A purge of endless rows under a scenario."""

    scenario: Scenario
    now: float = 0.0
    batches: list[Batch] = field(default_factory=list)
    lags: list[tuple[float, float]] = field(default_factory=list)
    ended_by: HygieneError | None = None
    _waiting_rows: float = 0.0
    _dice: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - the same dice each time

    def run(self) -> Simulation:
        """Purge until the time is over, or an error ends it."""
        pacer = Pacer(self.scenario.pace, "chunk 1", clock=lambda: self.now, sleep=self._pass)
        try:
            while self.now < self.scenario.seconds:
                pacer.wait(lambda: self.scenario.signal(self.now, self.lag), lambda _: None)
                rows = pacer.tempo.rows
                pacer.rest(rows, self._delete(rows))
        except HygieneError as error:
            self.ended_by = error
        return self

    @property
    def lag(self) -> float:
        """How many seconds the replica is behind."""
        return self._waiting_rows / self.scenario.replay_speed

    def speed(self, start: float, end: float) -> float:
        """Rows per second of the purge between two moments, its rests and pauses included."""
        return sum(batch.rows for batch in self.batches if start <= batch.began < end) / (end - start)

    def between(self, start: float, end: float) -> list[Batch]:
        """Give the batches that began between two moments."""
        return [batch for batch in self.batches if start <= batch.began < end]

    def _delete(self, rows: int) -> float:
        chance = self._dice.lognormvariate(0, self.scenario.noise) if self.scenario.noise else 1.0
        speed = FULL_SPEED * (1 - self.scenario.load(self.now))
        seconds = (FIXED_SECONDS + rows / speed) * chance
        self.batches.append(Batch(self.now, rows, seconds))
        self._waiting_rows += rows
        self._pass(seconds)
        return seconds

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self._waiting_rows = max(self._waiting_rows - seconds * self.scenario.replay_speed, 0.0)
        self.lags.append((self.now, self.lag))


def _ramp(now: float) -> float:
    return min(max(now - 30, 0) / 90, 1) * 0.95 if now < 130 else 0.0  # noqa: PLR2004 - seconds


def _behind(_: float, lag: float) -> str | None:
    return f"standby is {lag:.1f} s behind, more than 2 s" if lag > 2 else None  # noqa: PLR2004 - the limit


def _stuck(now: float, _: float) -> str | None:
    return "standby is 60.0 s behind, more than 5 s" if 60 <= now < 100 else None  # noqa: PLR2004 - seconds


def _dead(now: float, _: float) -> str | None:
    if now >= 60:  # noqa: PLR2004 - seconds
        raise DatabaseUnavailable("the database did not answer")
    return None


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "step": Scenario(load=lambda now: 0.9 if 60 <= now < 120 else 0.0),  # noqa: PLR2004 - seconds
    "ramp": Scenario(load=_ramp),
    "burst": Scenario(load=lambda now: 0.9 if now % 20 < 3 else 0.0),  # noqa: PLR2004 - seconds
    "noise": Scenario(load=lambda _: 0.3, noise=0.4),
    "replica": Scenario(signal=_behind, replay_speed=40_000),
    "stuck signal": Scenario(signal=_stuck),
    "dead signal": Scenario(signal=_dead),
}
"""A step up and down; a slow rise; short bursts; chance; a slow replica; a signal that sticks; one that dies."""
