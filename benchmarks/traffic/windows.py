"""What the traffic noticed while somebody purged: latencies of a stretch of time, over rounds that take turns."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psutil

from benchmarks.figures import write
from benchmarks.traffic.clients import Pgbench, Sysbench, Transaction, running

WARM_UP_SECONDS: Final = 3.0
QUIET_SECONDS: Final = 12.0
LONGEST_SECONDS: Final = 20.0
PERCENTILES: Final = (50.0, 95.0, 99.0, 99.9)

Purge = Callable[[float], object]
"""Purges until the rows are gone, or for so many seconds."""


@dataclass(frozen=True)
class Window:
    """A stretch of traffic: rows purged meanwhile, how busy the machine was, and the transactions that ended then."""

    seconds: float
    rows: int
    busy: float
    done: Sequence[Transaction]

    def latency(self, percent: float) -> float:
        """Give a percentile of the latencies, in milliseconds."""
        return percentile([each.milliseconds for each in self.done if not each.failed], percent)


def watch(start: Callable[[], Pgbench | Sysbench], purge: Purge | None, left: Callable[[], int]) -> Window:
    """Let traffic run, purge, and give what it noticed.

    :param start: begins the traffic
    :param purge: None lets the traffic be alone
    :param left: counts the rows that can still be purged
    """
    before = left()
    os.sync()  # what preparing wrote shall not be written now
    with running(start()) as done:
        time.sleep(WARM_UP_SECONDS)
        psutil.cpu_percent()
        began = time.time()
        purge(LONGEST_SECONDS) if purge else time.sleep(QUIET_SECONDS)
        ended = time.time()
        busy = psutil.cpu_percent()
    return Window(ended - began, before - left(), busy, [each for each in done if began <= each.ended < ended])


def in_turn(ways: Mapping[str, Callable[[], Window]], rounds: int) -> dict[str, list[Window]]:
    """Watch each way once a round, forwards and backwards by turns; the very first window finds a cold machine."""
    next(iter(ways.values()))()
    windows: dict[str, list[Window]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            windows[name].append(ways[name]())
    return windows


def percentile(values: Iterable[float], percent: float) -> float:
    """Give the value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def tell(engine: str, name: str, windows: Sequence[Window]) -> None:
    """Print and write what the traffic noticed of one way to purge, all rounds taken together."""
    latencies = [each.milliseconds for window in windows for each in window.done if not each.failed]
    figures = {f"p{percent:g}": round(percentile(latencies, percent), 2) for percent in PERCENTILES}
    failed = sum(each.failed for window in windows for each in window.done)
    speed = statistics.median(window.rows / window.seconds for window in windows)
    busy = statistics.median(window.busy for window in windows)
    shown = ", ".join(f"{name} {value:.2f} ms" for name, value in figures.items())
    print(f"  {engine} {name:24} {shown}, {failed} failed, {speed:9,.0f} rows/s, CPU {busy:.0f} %", flush=True)
    write(
        {
            "name": f"traffic_{engine}",
            "purge": name,
            **figures,
            "failed": failed,
            "transactions": len(latencies),
            "rows_per_second": round(speed),
            "seconds": round(statistics.median(window.seconds for window in windows), 2),
            "cpu_percent": round(busy),
        }
    )


def compare_latency(name: str, alone: Sequence[Window], beside: Sequence[Window]) -> None:
    """Write the p99 of the traffic alone over that of the traffic beside a purge."""
    ratio = statistics.median(a.latency(99) / b.latency(99) for a, b in zip(alone, beside, strict=True))
    _ratio(name, ratio, "p99 of the traffic alone over p99 beside it", beside[0].rows)


def compare_speed(name: str, paced: Sequence[Window], unpaced: Sequence[Window]) -> None:
    """Write the paced purge's speed over the unpaced one's."""
    pairs = zip(paced, unpaced, strict=True)
    ratio = statistics.median((a.rows / a.seconds) / (b.rows / b.seconds) for a, b in pairs)
    _ratio(name, ratio, "rows per second, paced over unpaced", paced[0].rows)


def _ratio(name: str, ratio: float, reference: str, rows: int) -> None:
    print(f"{name:28} ratio {ratio:6.2f} ({reference})", flush=True)
    write({"name": name, "reference": reference, "ratio": round(ratio, 3), "rows": rows})
