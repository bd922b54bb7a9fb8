"""Tables made at random: archived, verified in full, purged and restored, and compared by the server itself.

MADE_TABLES says how many there are of each engine, MADE_SEED chooses them: the same seed makes the same tables.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from airflow_dbhygiene.errors import NotLossless, PlanRefused
from airflow_dbhygiene.policy import ColdTable, Guard, OlderThan, Pace, Parquet
from airflow_dbhygiene.policy.names import TableName
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import Ticket
from airflow_dbhygiene.steps.restore import Wish, restore
from tests.job import Job
from tests.mysql_job import MySqlJob
from tests.servers.mysql import MySqlServer
from tests.servers.postgres import PostgresServer
from tests.values.made import KEEP_DAYS, Table
from tests.values.postgres import PREPARE
from tests.values.random_mysql import made_tables as mysql_tables
from tests.values.random_postgres import made_tables as postgres_tables
from tests.values.server_mysql import MySqlTables
from tests.values.server_postgres import PostgresTables

COUNT: Final = int(os.environ.get("MADE_TABLES", "25"))
SEED: Final = int(os.environ.get("MADE_SEED") or secrets.randbits(32))

as_often_as_asked = settings(
    max_examples=COUNT,
    database=None,
    print_blob=False,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


class Tables(Protocol):
    """One engine's way with made tables."""

    job: Job

    def make(self, table: Table, name: TableName) -> None:
        """Make the table and a copy of it; rows whose key is there already are left out."""

    def drop(self, name: TableName) -> None:
        """Drop both."""

    def count(self, name: TableName) -> int:
        """Count the rows that are there."""

    def numbers(self, name: TableName) -> set[int]:
        """Give the numbers of the rows that are there and are, byte for byte, those of the copy."""

    def original(self) -> set[int]:
        """Give the numbers of the copy's rows."""


@dataclass
class Trial:
    """Goes through the whole job with one table after the other, in one database.

    :param schema: where the tables are
    :param cold: where cold tables are
    """

    tables: Tables
    schema: str
    cold: str
    numbers: Iterator[int] = field(default_factory=itertools.count)
    outcomes: dict[str, int] = field(default_factory=dict)

    def check(self, table: Table) -> None:
        """Archive, verify, purge and restore; or the table is refused by the name of a column."""
        name = TableName(self.schema, f"{table.name} {next(self.numbers)}")
        self.tables.make(table, name)
        try:
            outcome = self._check(table, name)
        except PlanRefused as error:
            assert_columns_are_named(table, error)
            outcome = "refused by column"
        finally:
            self.tables.drop(name)
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def _check(self, table: Table, name: TableName) -> str:
        job, tables = self.tables.job, self.tables
        original = tables.original()
        stale = table.stale & original
        tickets = self._archived(table, name)
        certificate = job.finish(tickets) if tickets else None
        assert tables.count(name) == len(original - stale)
        assert tables.numbers(name) == original - stale, "a row that is not stale went, or was changed"
        if certificate is None:
            return "nothing stale"
        assert (certificate["state"], certificate["rows_purged"]) == ("done", len(stale))
        assert certificate["careful_batches"] == 0
        if table.store == "parquet":
            assert_it_opens_elsewhere(job, certificate)
        assert restore(job.site, Wish(certificate["run"], certificate["run"])).restored == len(stale)
        assert tables.count(name) == len(original)
        assert tables.numbers(name) == original, "a row came back changed"
        return f"whole job, {table.store}"

    def _archived(self, table: Table, name: TableName) -> tuple[Ticket, ...]:
        """Plan and archive; a column that a value's own type cannot hold becomes text, as the error says."""
        job, as_text = self.tables.job, set[str]()
        while True:
            tickets = job.start(self._policy(table, name, as_text))
            try:
                for ticket in tickets:
                    archive(job.site, ticket.run, ticket.chunk)
            except NotLossless as error:
                advised = {each.name for each in table.columns if f"[{each.name}]" in str(error)} - as_text
                if not advised:
                    raise
                as_text |= advised
            else:
                return tickets

    def _policy(self, table: Table, name: TableName, as_text: set[str]) -> Any:
        number = next(self.numbers)
        places = {
            "parquet": Parquet("file:///cold", as_text=tuple(as_text)),
            "cold table beside": ColdTable(f"{self.cold}.made_{number}", object_rows=7),
            "cold table elsewhere": ColdTable(f"there@{self.cold}.made_{number}", object_rows=7),
        }
        zone: dict[str, Any] = {"epoch": "s"} if table.epoch else {"zone": "UTC"}
        return self.tables.job.policy(
            name=f"made-{number}",
            table=str(name),
            stale=OlderThan(table.age, keep=f"{KEEP_DAYS} days", **zone),
            archive=places[table.store],
            guard=Guard(max_fraction=1, min_chunk_rows=table.chunk_rows, allow_full_scan=True),
            pace=Pace(max_batch_rows=table.batch_rows, target_batch_seconds=60),
            reclaim="none",
        )


def assert_columns_are_named(table: Table, error: PlanRefused) -> None:
    """Each reason names a column of the table."""
    for refusal in error.refusals:
        assert any(f"column {each.name} " in refusal for each in table.columns), refusal


def assert_it_opens_elsewhere(job: Job, certificate: dict[str, Any]) -> None:
    """DuckDB reads the same values as pyarrow, and numbers and moments are such."""
    archived = job.archived(certificate)
    names = [str(job.folder / each["name"]) for chunk in certificate["chunk_list"] for each in chunk["objects"]]
    found = duckdb.read_parquet(names, hive_partitioning=False).to_arrow_table()
    assert found.column_names == archived.column_names
    for column in archived.schema:
        if not pa.types.is_fixed_size_binary(column.type):
            values = found.column(column.name).cast(column.type)
            assert repr(values.to_pylist()) == repr(archived.column(column.name).to_pylist()), column.name


@pytest.fixture(scope="module")
def postgres_trial(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """Give a database of PostgreSQL, with a place for cold tables in it and in another."""
    names = [f"made_{secrets.token_hex(4)}" for _ in range(2)]
    here, there = map(postgres.create_database, names)
    folder: Path = tmp_path_factory.mktemp("made")
    job = Job(here, folder, elsewhere={"there": there})
    for each in (job, Job(there, folder)):
        each.execute(PREPARE)
        each.execute("CREATE SCHEMA cold")
        each.execute(f"ALTER DATABASE {each.one('SELECT current_database()')} SET search_path = public, odd")
    yield Trial(PostgresTables(job), "odd", "cold")
    for name in names:
        postgres.drop_database(name)


def tried(trial: Trial, strategy: st.SearchStrategy[Table], request: pytest.FixtureRequest) -> None:
    """Try as many tables as was asked for, and tell how to try the same again."""
    note = f"MADE_TABLES={COUNT} MADE_SEED={SEED}"
    try:
        as_often_as_asked(seed(SEED)(given(strategy)(trial.check)))()
    except BaseException as error:
        error.add_note(f"To see it again: {note} pytest {request.node.nodeid}")
        raise
    with request.getfixturevalue("capsys").disabled():
        print(f"\n{note}: {trial.outcomes}")  # noqa: T201 - a figure for whoever watches


def test_tables_of_postgresql(postgres_trial: Trial, request: pytest.FixtureRequest) -> None:
    """Random types, keys, names and values: every row comes back to the bit, or a column is refused by name."""
    tried(postgres_trial, postgres_tables(), request)


@pytest.fixture(scope="module")
def mysql_trial(any_mysql: MySqlServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """Give a database of MariaDB, then one of MySQL, and beside it one for cold tables."""
    name = f"made_{secrets.token_hex(4)}"
    parameters = any_mysql.create_database(name)
    any_mysql.create_database(f"{name}_cold")
    job = MySqlJob(folder=tmp_path_factory.mktemp("made"), parameters=parameters, servers={"there": parameters})
    yield Trial(MySqlTables(job), name, f"{name}_cold")
    for each in (name, f"{name}_cold", "dbhygiene"):
        any_mysql.drop_database(each)


def test_tables_of_mariadb_and_mysql(
    mysql_trial: Trial, any_mysql: MySqlServer, request: pytest.FixtureRequest
) -> None:
    """The same, with every row as the same bytes."""
    tried(mysql_trial, mysql_tables(any_mysql.flavour), request)
