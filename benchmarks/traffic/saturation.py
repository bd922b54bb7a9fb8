"""A server with more traffic than it can serve, for a while: the purge is to get out of the way, and to come back."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from airflow_dbhygiene.policy import Pace
from benchmarks.figures import SCALE, write
from benchmarks.traffic.clients import Pgbench, Transaction, running
from benchmarks.traffic.postgres import PER_SECOND, VERSION, PostgresTraffic
from benchmarks.traffic.purger import Purger
from benchmarks.traffic.windows import percentile

LIGHT, HEAVY, SECONDS = 15, 30, 50
"""The flood begins at the first, ends at the second; the purge is watched to the third."""

FLOOD: Final = 50_000.0
PACES: Final = {
    "by its own speed": Pace(target_batch_seconds=0.03, rest_fraction=20, max_pause_seconds=600),
    "and max_active_sessions=4": Pace(
        target_batch_seconds=0.03, rest_fraction=20, max_active_sessions=4, max_pause_seconds=600
    ),
}


def saturate(bench: PostgresTraffic) -> None:
    """Flood the server while a purge runs, once for each way to notice it."""
    bench.load(2 * SCALE)
    for name, pace in PACES.items():
        with bench.fresh() as dsn:
            purger = Purger({"dsn": dsn}, bench.s3, "public.orders", pace)
            began, done = _flooded(dsn, purger)
            _tell(name, _purged(dsn, began), _p99(done, began))


def _flooded(dsn: str, purger: Purger) -> tuple[float, Sequence[Transaction]]:
    purge = threading.Thread(target=purger.run, args=(float(SECONDS),))
    with running(Pgbench(dsn, VERSION, PER_SECOND / 2)) as done:
        began = time.time()
        purge.start()
        time.sleep(LIGHT)
        with running(Pgbench(dsn, VERSION, FLOOD)):
            time.sleep(HEAVY - LIGHT)
        purge.join()
    return began, done


def _purged(dsn: str, began: float) -> list[float]:
    """Give the rows purged in each second."""
    with psycopg.connect(dsn) as connection:
        batches = connection.execute("SELECT extract(epoch FROM committed_at)::float8, purged FROM dbhygiene.batch")
        seconds: Counter[int] = Counter()
        for committed, rows in batches:
            seconds[int(committed - began)] += rows
    return [float(seconds[second]) for second in range(SECONDS)]


def _p99(done: Sequence[Transaction], began: float) -> list[float]:
    """Give the p99 of the steady traffic in each second, in milliseconds."""
    by_second: list[list[float]] = [[] for _ in range(SECONDS)]
    for each in done:
        if 0 <= each.ended - began < SECONDS:
            by_second[int(each.ended - began)].append(each.milliseconds)
    return [round(percentile(values, 99), 2) if values else 0.0 for values in by_second]


def _tell(name: str, rows: Sequence[float], p99: Sequence[float]) -> None:
    parts = {"before": (2, LIGHT), "during": (LIGHT + 2, HEAVY), "after": (HEAVY + 5, SECONDS)}
    speeds = {part: round(sum(rows[start:end]) / (end - start)) for part, (start, end) in parts.items()}
    print(f"saturation, {name}: " + ", ".join(f"{part} {speed:,} rows/s" for part, speed in speeds.items()), flush=True)
    line: dict[str, Any] = {"name": "saturation", "signal": name, **speeds}
    write({**line, "flood": [LIGHT, HEAVY], "rows_by_second": rows, "p99_by_second": p99})
