"""The whole job on one database and one store, driven step by step, without Airflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fsspec
import pendulum
import psycopg
import pyarrow as pa
from pyarrow import parquet as pq

from airflow_dbhygiene.databases.postgres import PostgresDatabase
from airflow_dbhygiene.databases.protocol import Database
from airflow_dbhygiene.policy import ColdTable, Guard, OlderThan, Pace, Parquet, Policy
from airflow_dbhygiene.policy.moments import Moments, Window, resolve_window
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import Plan, Ticket, make_plan, planned_before, record_plan
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.reclaim import reclaim
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.stores.cold_table import ColdTableStore
from airflow_dbhygiene.stores.parquet import ParquetStore
from airflow_dbhygiene.stores.protocol import Store
from tests.least import MySqlRole, PostgresRole

AS_OF: Final = pendulum.datetime(2024, 3, 1)
"""The moment that all runs count back from."""

ORIGIN: Final = {"dag": "tests", "dag_run": "one"}

EVENTS: Final = """
CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz NOT NULL, note text);
CREATE INDEX events_at_id ON events (at, id);
INSERT INTO events
SELECT n, timestamptz '2023-01-01 00:00+00' + n * interval '1 hour', 'row ' || n FROM generate_series(0, 9999) AS n;
ANALYZE events;
"""
"""Ten thousand hourly rows from the start of 2023 on; the runs' usual 300 days make the first 3,000 stale."""

STALE_EVENTS: Final = 3_000


@dataclass
class Job:
    """A database, a folder for archives, and what the steps told."""

    dsn: str
    folder: Path
    told: list[str] = field(default_factory=list)
    connect: Callable[[], psycopg.Connection[Any]] | None = None
    role: PostgresRole | MySqlRole | None = None
    elsewhere: dict[str, str] = field(default_factory=dict)

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run SQL as the superuser and give the rows of its last statement."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, values: Sequence[object] = ()) -> Any:
        """Give the only value of the only row."""
        ((value,),) = self.execute(statement, values)
        return value

    @property
    def site(self) -> Site:
        """Put together what the steps work with."""
        return self.site_of(PostgresDatabase(self.way or (lambda: psycopg.connect(self.dsn))))

    @property
    def way(self) -> Callable[[], Any] | None:
        """How the steps connect: as the test says, or as the role, or else as the administrator."""
        return self.connect or (self.role.connect if self.role else None)

    def site_of(self, database: Database) -> Site:
        """Put together what the steps work with, on a database."""
        opened = self.database_elsewhere
        return Site(
            database, lambda archive: self.open_store(archive, database), self.told.append, open_database=opened
        )

    def open_store(self, archive: Parquet | ColdTable, home: Database) -> Store:
        """Open what a policy names; connection ids are those of `elsewhere`, which has their DSNs."""
        if isinstance(archive, Parquet):
            return self.store(archive.url)
        there = home if archive.conn_id is None else self.database_elsewhere(archive.conn_id)
        rows, address = archive.object_rows, archive.address
        return ColdTableStore(home, there, archive.table_name, url=address, object_rows=rows)

    def database_elsewhere(self, conn_id: str) -> Database:
        """Open another database by its connection id."""
        return PostgresDatabase(lambda: psycopg.connect(self.elsewhere[conn_id]))

    def store(self, url: str = "file:///cold") -> ParquetStore:
        """Open the folder as a store."""
        return ParquetStore(fsspec.filesystem("file"), str(self.folder), url=url)

    def policy(self, **changes: Any) -> Policy:
        """Give a policy for `events`, with some fields changed."""
        fields: dict[str, Any] = {
            "name": "events",
            "conn_id": "pg",
            "table": "public.events",
            "stale": OlderThan("at", keep="300 days", zone="UTC"),
            "archive": Parquet("file:///cold"),
            "guard": Guard(max_fraction=1, min_chunk_rows=1_000, allow_full_scan=True),
            "pace": Pace(max_batch_rows=2_000, target_batch_seconds=60),
            "verify": "content",
            "reclaim": "analyze" if self.role is None or "reclaim" in self.role.more else "none",
        }
        return Policy(**fields | changes)

    def plan(self, policy: Policy, window: Window | None = None) -> Plan:
        """Look at everything, change nothing."""
        return make_plan(self.site, policy, window or window_of(policy), ORIGIN)

    def start(self, policy: Policy, window: Window | None = None) -> tuple[Ticket, ...]:
        """Plan as the task does: a run that is planned already stays as it is."""
        chosen = window or window_of(policy)
        known = planned_before(self.site, policy, chosen, ORIGIN)
        return known if known is not None else record_plan(self.site, self.plan(policy, chosen))

    def finish(self, tickets: Sequence[Ticket]) -> dict[str, Any]:
        """Archive, verify and purge every chunk, then reclaim and report."""
        for ticket in tickets:
            for step in (archive, verify, purge):
                step(self.site, ticket.run, ticket.chunk)
        reclaim(self.site, tickets[0].run)
        return report(self.site, tickets[0].run)

    def run(self, policy: Policy, window: Window | None = None) -> dict[str, Any]:
        """Do the whole job and give its certificate."""
        return self.finish(self.start(policy, window))

    def archived(self, certificate: dict[str, Any]) -> pa.Table:
        """Give all rows of a run's archive, in the order of the walk."""
        names = [each["name"] for chunk in certificate["chunk_list"] for each in chunk["objects"]]
        return pa.concat_tables(pq.read_table(self.folder / name, partitioning=None) for name in names)


def window_of(policy: Policy, as_of: pendulum.DateTime = AS_OF) -> Window:
    """Count back from a moment."""
    return resolve_window(policy, Moments(explicit=as_of))


def interval_of(policy: Policy, start: pendulum.DateTime, end: pendulum.DateTime) -> Window:
    """Take a data interval."""
    return resolve_window(policy, Moments(interval_start=start, interval_end=end))
