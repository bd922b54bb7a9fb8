"""Our side: policies, runs and their steps, which may be stopped or disturbed at a point, and what archives hold."""

from __future__ import annotations

import functools
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import fsspec
import pendulum
from pyarrow import parquet as pq

from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Database
from airflow_dbhygiene.policy import ColdTable, Discard, Guard, Matching, OlderThan, Pace, Parquet, Policy
from airflow_dbhygiene.policy.moments import Moments, resolve_window
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import make_plan, planned_before, record_plan, run_id_of
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.reclaim import reclaim
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.stores.cold_table import ColdTableStore
from airflow_dbhygiene.stores.parquet import ParquetStore
from airflow_dbhygiene.stores.protocol import Store
from tests.faults.traffic.shop import Application, Row, Shop, plain

AS_OF: Final = pendulum.datetime(2024, 3, 1)
KEEP_DAYS: Final = 30
VOID: Final = "void"
"""The note of rows that the second policy takes."""

STEPS: Final = {"archive": archive, "verify": verify, "purge": purge}


class Stopped(BaseException):
    """The worker ends here, as one that is killed."""


class Point(NamedTuple):
    """Where something happens in a step: before a call of the database's, or right after it, the n-th time."""

    call: str
    nth: int
    after: bool = False


@dataclass
class Run:
    """A run that was planned: what it takes, and what the application's changes since then mean for it."""

    policy: Policy
    window: Any
    origin: dict[str, str]
    chunks: tuple[int, ...] = ()
    taken: list[Row] = field(default_factory=list)
    """Rows that its steps have taken, as they last were."""
    altered: bool = False
    """Whether the table's schema has changed since the plan."""

    @property
    def run_id(self) -> str:
        """The run's name in the ledger."""
        return run_id_of(self.policy, self.window, self.origin)

    def takes(self, row: Row) -> bool:
        """Tell whether a row is stale by the run's condition."""
        if isinstance(self.policy.stale, Matching):
            return row.get("note") == VOID
        cutoff = self.window.as_of.subtract(days=KEEP_DAYS).in_timezone("UTC").naive()
        return bool(row["at"] < cutoff)  # type: ignore[operator]


class Hygiene:
    """All that this package does with the shop's table."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop = shop
        self.folder = folder
        self._looking = Application(shop)
        self._objects: dict[str, list[Row]] = {}

    def policy(self, kind: str, *, second: bool = False, number: int = 0) -> Policy:
        """Give one of the two policies on the table.

        :param number: of the cold table, where an earlier one does not fit the table any more
        """
        name = "voided" if second else "aged"
        archives = {
            "parquet": Parquet("file:///cold"),
            "cold table": ColdTable(f"{self.shop.cold}.{name}_{number}", object_rows=12),
            "discard": Discard(reason="a cache"),
        }
        return Policy(
            name=name,
            conn_id="shop",
            table=self.shop.table,
            stale=Matching(f"note = '{VOID}'") if second else OlderThan("at", keep=f"{KEEP_DAYS} days", zone="UTC"),
            archive=archives[kind],
            guard=Guard(max_fraction=1, min_chunk_rows=15, allow_full_scan=True),
            # A batch is reckoned in rows alone, however slow the machine; the first is a quarter of the largest.
            pace=Pace(max_batch_rows=16, target_batch_seconds=60, lock_timeout_seconds=0.02, max_pause_seconds=0.001),
            verify="content",
            reclaim="analyze",
        )

    def run(self, policy: Policy, later_days: int, number: int) -> Run:
        """Think of a run that counts from so many days later."""
        window = resolve_window(policy, Moments(explicit=AS_OF.add(days=later_days)))
        return Run(policy, window, {"dag": "traffic", "dag_run": str(number)})

    def site(self, database: Database | None = None) -> Site:
        """Put together what the steps work with."""
        home = database or self.shop.database()
        return Site(home, lambda archive: self._store(archive, home), lambda _: None)

    def plan(self, run: Run) -> None:
        """Plan as the task does: a run that is planned already stays as it is."""
        site = self.site()
        known = planned_before(site, run.policy, run.window, run.origin)
        if known is None:
            known = record_plan(site, make_plan(site, run.policy, run.window, run.origin))
        run.chunks = tuple(ticket.chunk for ticket in known)

    def step(self, run: Run, name: str, chunk: int, point: Point | None, event: Callable[[], object]) -> None:
        """Do a step of a chunk; let something happen at a point of it."""
        database = self.shop.database()
        if point is not None:
            _happen(database, point, event)
        with no_waiting():
            STEPS[name](self.site(database), run.run_id, chunk)

    def close(self, run: Run) -> dict[str, Any]:
        """Reclaim and report."""
        reclaim(self.site(), run.run_id)
        return report(self.site(), run.run_id)

    # what ledger and archive hold

    def ledger(self, statement: str, run: Run) -> list[tuple[Any, ...]]:
        """Ask the ledger about a run."""
        return self._looking.query(statement, (run.run_id,))

    def states(self, run: Run) -> dict[int, str]:
        """Give each chunk's state."""
        return dict(self.ledger("SELECT chunk, state FROM dbhygiene.chunk WHERE run_id = %s ORDER BY chunk", run))

    def purged_count(self, run: Run) -> int:
        """Give how many rows the ledger says have gone."""
        return int(self.ledger("SELECT coalesce(sum(purged), 0) FROM dbhygiene.chunk WHERE run_id = %s", run)[0][0])

    def archived(self, run: Run) -> Iterator[Row]:
        """Give the rows that, by the ledger, only the archive has: read past the store's own code."""
        columns = None
        for chunk, name, first, through in self.ledger(_WINNERS, run):
            noted = {row[0] for row in self.ledger(f"{_OUTCOMES} AND chunk = {int(chunk)}", run)}
            columns = columns or self._columns(run)
            for ordinal, row in enumerate(self._object(run, name, columns), start=first):
                if ordinal < through and ordinal not in noted:
                    yield row

    def forget_objects(self) -> None:
        """Read all objects once more from now on."""
        self._objects.clear()

    def end(self) -> None:
        """Let go."""
        self._looking.close()

    def _columns(self, run: Run) -> list[str]:
        ((plan,),) = self.ledger("SELECT plan FROM dbhygiene.run WHERE run_id = %s", run)
        return [column[0] for column in json.loads(plan)["selection"]["columns"]]

    def _object(self, run: Run, name: str, columns: list[str]) -> list[Row]:
        if name not in self._objects:
            read = self._read_file if isinstance(run.policy.archive, Parquet) else self._read_cold
            self._objects[name] = read(run, name, columns)
        return self._objects[name]

    def _read_file(self, _: Run, name: str, columns: list[str]) -> list[Row]:
        rows = pq.ParquetFile(io.BytesIO((self.folder / name).read_bytes())).read().drop_columns([VERSION_COLUMN])
        assert rows.column_names == columns
        return [{column: plain(value) for column, value in row.items()} for row in rows.to_pylist()]

    def _read_cold(self, run: Run, name: str, columns: list[str]) -> list[Row]:
        number = int(name.rpartition("@")[2])
        listed = ", ".join(columns)
        table = run.policy.archive.table_name  # type: ignore[union-attr]
        rows = self._looking.query(
            f"SELECT {listed} FROM {table.schema}.{table.table} WHERE dbhygiene_object = {number}"
            " ORDER BY dbhygiene_ordinal"
        )
        return [dict(zip(columns, map(plain, row), strict=True)) for row in rows]

    def _store(self, archive: Any, home: Database) -> Store:
        if isinstance(archive, ColdTable):
            return ColdTableStore(home, home, archive.table_name, url=archive.address, object_rows=archive.object_rows)
        return ParquetStore(fsspec.filesystem("file"), str(self.folder), url=archive.url)


_WINNERS: Final = """
SELECT c.chunk, o.name, o.first_ordinal, c.purged_through
FROM dbhygiene.chunk c JOIN dbhygiene.object o USING (run_id, chunk, nonce)
WHERE run_id = %s AND o.state = 'written' ORDER BY c.chunk, o.part
"""
_OUTCOMES: Final = "SELECT ordinal FROM dbhygiene.outcome WHERE run_id = %s"


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let nobody sleep: what a step waits for cannot happen meanwhile."""
    sleep = time.sleep
    setattr(time, "sleep", lambda _: None)  # noqa: B010 - mypy would not have it otherwise
    try:
        yield
    finally:
        setattr(time, "sleep", sleep)  # noqa: B010


def _happen(database: Any, point: Point, event: Callable[[], object]) -> None:
    """Let an event take place at a point of whatever works with the database."""
    owner = database if hasattr(database, point.call) else database.cold_tables
    original, calls = getattr(owner, point.call), 0

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == point.nth and not point.after:
            event()
        result = original(*args, **kwargs)
        if calls == point.nth and point.after:
            event()
        return result

    setattr(owner, point.call, called)
