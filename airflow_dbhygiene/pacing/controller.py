"""How many rows the next batch takes, so that it lasts as long as the policy says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

_GROWTH: Final = 1.5
_WEIGHT: Final = 0.4
_SMALLEST: Final = 100
_FIRST: Final = 5_000


@dataclass(frozen=True)
class Tempo:
    """The size of the next batch, and the speed it is reckoned from.

    :param target_seconds: what one batch should last
    :param most_rows: a batch is never larger
    :param rows: the next batch
    :param rate: rows per second, an exponential mean; None before the first batch
    """

    target_seconds: float
    most_rows: int
    rows: int
    rate: float | None = None

    def after(self, rows: int, seconds: float) -> Tempo:
        """Learn from a batch: grow by half at most, shrink at once."""
        speed = rows / max(seconds, 1e-6)
        rate = speed if self.rate is None or speed < self.rate else _WEIGHT * speed + (1 - _WEIGHT) * self.rate
        wanted = min(int(rate * self.target_seconds), int(self.rows * _GROWTH), self.most_rows)
        return replace(self, rate=rate, rows=max(wanted, min(_SMALLEST, self.most_rows)))


def first_tempo(target_seconds: float, most_rows: int) -> Tempo:
    """Begin with a small batch, before anything is known of the server."""
    return Tempo(target_seconds, most_rows, rows=min(max(most_rows // 4, _SMALLEST), _FIRST, most_rows))


def next_tempo(target_seconds: float, most_rows: int, rows: int, rate: float) -> Tempo:
    """Go on at the tempo of batches that the same run has just had."""
    return Tempo(target_seconds, most_rows, rows=max(min(rows, int(rate * target_seconds), most_rows), 1), rate=rate)
