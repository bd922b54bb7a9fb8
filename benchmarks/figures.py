"""Times, ratios, and the file that they go to."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SCALE = float(os.environ.get("SCALE", "1"))
OUT = Path("build") / "bench.json"


class timed:  # noqa: N801 - reads as a word behind "with"
    """Give the seconds that its block took."""

    def __enter__(self) -> Callable[[], float]:
        self._started = time.perf_counter()
        return lambda: self._seconds

    def __exit__(self, *error: object) -> None:
        self._seconds = time.perf_counter() - self._started


def compare(name: str, ours: Sequence[float], reference: str, theirs: Sequence[float], **more: Any) -> None:
    """Print a comparison of rounds that ran in pairs, and write its line; ``ratio`` is the reference's over ours."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"{name:28} ours {mine:7.2f} s, {reference} {other:7.2f} s, ratio {ratio:6.2f}", flush=True)
    write(
        {
            "name": name,
            "ours_seconds": round(mine, 3),
            "reference": reference,
            "reference_seconds": round(other, 3),
            "ratio": round(ratio, 3),
            **more,
        }
    )


def compare_jobs(name: str, jobs: Sequence[dict[str, Any]], reference: str, theirs: Sequence[float]) -> None:
    """Compare whole jobs of ours, and show what their steps took."""
    peak = round(max(job["peak_rss_mb"] for job in jobs))
    totals = [job["seconds"]["total"] for job in jobs]
    compare(name, totals, reference, theirs, rows=jobs[0]["rows"], peak_rss_mb=peak, steps=steps_of(jobs))


def steps_of(jobs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Give each step's median seconds."""
    return {step: round(statistics.median(job["seconds"][step] for job in jobs), 2) for step in jobs[0]["seconds"]}


def write(line: dict[str, Any]) -> None:
    """Put one JSON object into the file, in place of an older one of the same name."""
    kept = [each for each in read() if _identity(each) != _identity(line)]
    OUT.write_text("".join(json.dumps(each) + "\n" for each in [*kept, line]))


def read() -> list[dict[str, Any]]:
    """Give all figures."""
    return [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []


def _identity(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line.get(part) for part in ("name", "purge", "signal"))
