"""Write the table and the plots of docs/benchmarks.md from build/bench.json: `python -m docs.render_benchmarks`.

What was not measured anew keeps its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import read
from benchmarks.plots import Panel, Series, bars, dots, panels

PAGE: Final = Path(__file__).with_name("benchmarks.md")
IMAGES: Final = Path(__file__).with_name("images")
START, END = "<!-- figures -->\n", "<!-- end of figures -->"
HEAD: Final = "| name | what | aim | ours | reference | ratio |\n|---|---|---|---|---|---|\n"
PERCENTILES: Final = ("p50", "p95", "p99", "p99.9")

NAMES: Final[Mapping[str, tuple[str, float | None]]] = {
    "pg_parquet_limit_1w": ("PostgreSQL → Parquet, one worker", 0.4),
    "pg_parquet_limit_2w": ("the same, two workers", 0.6),
    "pg_parquet_pgfreezer": ("the same, two workers, against a peer", 7),
    "pg_purge_limit": ("PostgreSQL, purge of what is archived, each key and version compared", 0.6),
    "pg_discard_limit": ("PostgreSQL, `Discard`", 0.8),
    "pg_cold_limit": ("PostgreSQL → cold table of the same database, every row compared", 0.6),
    "seed_loop": ("PostgreSQL → Parquet, against the usual loop, which archives nothing, at 2 M rows", 5),
    "mariadb_parquet_ptarchiver_1w": ("MariaDB → Parquet, one worker", 1.6),
    "mariadb_parquet_ptarchiver_2w": ("the same, two workers", 2.5),
    "mariadb_purge_ptarchiver": ("MariaDB, purge of what is archived", None),
    "mariadb_purge_limit": ("the same", None),
    "mariadb_discard_ptarchiver": ("MariaDB, `Discard`", 2),
    "mariadb_discard_limit": ("the same", 0.8),
    "mariadb_cold_ptarchiver": ("MariaDB → cold table of the same server", 2),
    "growth_rate": ("rows per second at 20 M rows against 1 M", 0.9),
    "growth_memory": ("peak memory at 1 M rows against 20 M", 0.9),
    "sensor_cost": ("a sensor's look at 20 M rows, against counting them", 100),
    "airflow_overhead": ("a run by its steps alone, against a whole DAG run less an empty one, preloaded", 0.8),
    "airflow_overhead_plain": ("the same, not preloaded", None),
    "traffic_p99": ("p99 of the traffic, PostgreSQL, all on the same two cores", 0.87),
    "traffic_p99_default": ("the same, by the default pace", None),
    "traffic_p99_apart": ("the same, the purge and its backend on a core of their own", 0.87),
    "traffic_p99_busy_loop": ("the same two cores, a loop that only spins in place of the purge", None),
    "traffic_speed": ("PostgreSQL, purge speed paced against unpaced", 0.25),
    "mariadb_traffic_p99": ("p99 of the traffic, MariaDB, all on the same two cores", 0.87),
    "mariadb_traffic_p99_default": ("the same, by the default pace", None),
    "mariadb_traffic_speed": ("MariaDB, purge speed paced against unpaced", 0.25),
}


def render(page: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Put the lines of what was measured into the table."""
    before, rest = page.split(START)
    table, after = rest.split(END)
    old = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    lines = [_line(name, figures[name]) if name in figures else old.get(name) for name in NAMES]
    return before + START + HEAD + "\n".join(line for line in lines if line) + "\n" + END + after


def ratios(page: str) -> list[tuple[str, float, float]]:
    """Read the ratios that have an aim back from the table."""
    cells = [
        line.split("|")
        for line in page.splitlines()
        if line.startswith("| `") and line.count("|") == HEAD.count("|") // 2
    ]
    known = [(cell[1].strip().strip("`"), cell[6].strip()) for cell in cells]
    return [(name, float(ratio), aim) for name, ratio in known if name in NAMES and (aim := NAMES[name][1])]


def _line(name: str, figure: Mapping[str, Any]) -> str:
    what, aim = NAMES[name]
    ours, reference = _figures(figure)
    return (
        f"| `{name}` | {what} | {'' if aim is None else f'≥ {aim:g}'} | {ours} | {reference} | {figure['ratio']:.2f} |"
    )


def _figures(figure: Mapping[str, Any]) -> tuple[str, str]:
    if "ours_seconds" in figure:
        return _seconds(figure["ours_seconds"]), f"{figure['reference']} {_seconds(figure['reference_seconds'])}"
    if "unit" in figure:
        return f"{figure['large']:,} {figure['unit']}", f"{figure['small']:,} {figure['unit']}"
    return "", figure["reference"]


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def _traffic(engine: str, lines: list[dict[str, Any]]) -> None:
    rows = [
        (line["purge"], [line[percent] for percent in PERCENTILES])
        for line in lines
        if line["name"] == f"traffic_{engine}"
    ]
    if rows:
        (IMAGES / f"traffic-{engine}.svg").write_text(dots(rows, PERCENTILES, "ms"))


def _saturation(lines: list[dict[str, Any]]) -> None:
    found = [line for line in lines if line["name"] == "saturation"]
    drawn = []
    for line in found:
        rows, p99 = (list(enumerate(line[f"{what}_by_second"])) for what in ("rows", "p99"))
        drawn += [
            Panel(f"Backing off {line['signal']}", "rows/s", [Series("purge", rows)]),
            Panel("Latency meanwhile", "ms", [Series("p99 of the steady traffic", p99)]),
        ]
    if drawn:
        (IMAGES / "saturation.svg").write_text(panels(drawn))


def main() -> None:
    """Write page and plots."""
    lines = read()
    page = render(PAGE.read_text(), {line["name"]: line for line in lines if "purge" not in line})
    PAGE.write_text(page)
    (IMAGES / "ratios.svg").write_text(bars(ratios(page)))
    for engine in ("pg", "mariadb"):
        _traffic(engine, lines)
    _saturation(lines)


if __name__ == "__main__":
    main()
