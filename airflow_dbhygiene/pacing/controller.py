"""How many rows the next batch takes, so that it lasts as long as the policy says, and how long to rest before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

_GROWTH: Final = 1.5
_WEIGHT: Final = 0.4
_SMALLEST: Final = 100
_FIRST: Final = 5_000
_STRAINED: Final = 2.0
_LONGEST_REST_SECONDS: Final = 2.0
_HALF_LIFE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Tempo:
    """The size of the next batch, the rest before it, and the speeds that both are reckoned from.

    :param target_seconds: what one batch should last
    :param most_rows: a batch is never larger
    :param rest_fraction: rest after each batch, as a part of its own time
    :param rows: the next batch
    :param rate: rows per second, an exponential mean; None before the first batch
    :param best: the best mean so far; half of it is forgotten within a minute, as luck is
    :param rest_seconds: how long to rest before the next batch
    """

    target_seconds: float
    most_rows: int
    rest_fraction: float
    rows: int
    rate: float | None = None
    best: float = 0.0
    rest_seconds: float = 0.0

    def after(self, rows: int, seconds: float, *, careful: bool = False, waited_for: bool = False) -> Tempo:
        """Learn from a batch: grow by half at most, shrink at once, and rest the longer the slower the server is.

        One that others waited for makes the next one half as large.

        A server that is at half its best speed, or above, calls for no rest but the policy's; below it, for more than
        in proportion: at a quarter four times as long as the batch took, at a tenth forty times. What a batch that went
        row by row lost, it lost to itself. A batch that the end of its object cut short, and that was quick, says
        nothing: of so few rows the time goes into all that a batch does besides.
        """
        if waited_for:
            return replace(self, rows=self._half, rest_seconds=seconds * self.rest_fraction)
        if rows < self.rows / 2 and seconds <= self.target_seconds:
            return replace(self, rest_seconds=seconds * self.rest_fraction)
        speed = max(rows, 1) / max(seconds, 1e-6)
        rate = speed if self.rate is None or speed < self.rate else _WEIGHT * speed + (1 - _WEIGHT) * self.rate
        wanted = min(int(rate * self.target_seconds), int(self.rows * _GROWTH), self.most_rows)
        best = max(rate, rate + (self.best - rate) * 0.5 ** ((seconds + self.rest_seconds) / _HALF_LIFE_SECONDS))
        slower = best / rate
        strain = 0.0 if careful else max(slower - _STRAINED, 0.0) * slower / _STRAINED
        return replace(
            self,
            rate=rate,
            best=best,
            rows=max(wanted, min(_SMALLEST, self.most_rows)),
            rest_seconds=seconds * self.rest_fraction + min(seconds * strain, _LONGEST_REST_SECONDS),
        )

    def after_pause(self) -> Tempo:
        """Begin with half the rows: what made us pause was perhaps ourselves."""
        return replace(self, rows=self._half, rest_seconds=0.0)

    @property
    def _half(self) -> int:
        return max(self.rows // 2, min(_SMALLEST, self.most_rows))


def first_tempo(target_seconds: float, most_rows: int, rest_fraction: float = 0.0) -> Tempo:
    """Begin with a small batch, before anything is known of the server."""
    return Tempo(target_seconds, most_rows, rest_fraction, rows=min(max(most_rows // 4, _SMALLEST), _FIRST, most_rows))


def next_tempo(target_seconds: float, most_rows: int, rows: int, rate: float, rest_fraction: float = 0.0) -> Tempo:
    """Go on at the tempo of batches that the same run has just had."""
    size = max(min(rows, int(rate * target_seconds), most_rows), 1)
    return Tempo(target_seconds, most_rows, rest_fraction, rows=size, rate=rate, best=rate)
