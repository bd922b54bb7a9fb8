"""A small table of real flights, its policy, and what must be equal however often the steps were disturbed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import fsspec
import pendulum
import psycopg
import pyarrow as pa
from psycopg import sql
from pyarrow import csv
from pyarrow import parquet as pq

from airflow_dbhygiene.databases.postgres import PostgresDatabase
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Database
from airflow_dbhygiene.policy import ColdTable, Guard, OlderThan, Pace, Parquet, Policy
from airflow_dbhygiene.policy.moments import Moments, resolve_window
from airflow_dbhygiene.steps.abandon import abandon
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import make_plan, planned_before, record_plan, run_id_of
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.reclaim import reclaim
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.stores.cold_table import ColdTableStore
from airflow_dbhygiene.stores.parquet import ParquetStore
from airflow_dbhygiene.stores.protocol import Store

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

CUTOFF: Final = pendulum.datetime(2013, 1, 4, 5)
"""Where New York's fourth of January begins: what left on the first three days is stale."""

STALE_ROWS: Final = 2_699
ALL_ROWS: Final = 3_614
CHUNK_ROWS: Final = 1_350
"""The first chunk of two; the other has one row less."""
BATCH_ROWS: Final = 500
OBJECT_ROWS: Final = 1_000
"""The fewest rows that archive puts into one object: so each chunk has two."""
ORDINAL: Final = 700
"""A row in the second batch of the first chunk."""

POLICY: Final = Policy(
    name="flights",
    conn_id="shop_pg",
    table="public.flights",
    stale=OlderThan(column="time_hour", keep="30 days"),
    archive=Parquet("file:///cold/flights", object_bytes=1),
    guard=Guard(max_fraction=1, min_chunk_rows=1_300),
    # A batch is reckoned in rows alone, however slow the machine; the first is a quarter of the largest.
    pace=Pace(
        max_batch_rows=4 * BATCH_ROWS, target_batch_seconds=60, lock_timeout_seconds=0.02, max_pause_seconds=0.05
    ),
    reclaim="analyze",
)
WINDOW: Final = resolve_window(POLICY, Moments(explicit=CUTOFF.add(days=30)))
ORIGIN: Final = {"dag": "flights_hygiene", "dag_run": "faults"}
RUN: Final = run_id_of(POLICY, WINDOW, ORIGIN)

STEPS: Final = (
    *("plan", "archive 1", "archive 2", "verify 1", "verify 2"),
    *("purge 1", "purge 2", "reclaim", "report"),
)
ARCHIVED: Final = STEPS[: STEPS.index("verify 1")]
VERIFIED: Final = STEPS[: STEPS.index("purge 1")]
REST: Final = STEPS[STEPS.index("purge 1") :]
"""What is left to do when both chunks are verified."""


@dataclass(frozen=True)
class Stage:
    """One database and one folder for its archive.

    :param folder: of a local archive
    :param policy: what the plan freezes; POLICY unless a test needs another
    :param filesystem: where the archive lies, unless it is local
    :param prefix: where it lies there
    """

    dsn: str
    folder: Path
    policy: Policy = POLICY
    filesystem: Any = None
    prefix: str | None = None

    def site(self, dsn: str | None = None) -> Site:
        """Put together what the steps work with, perhaps by another way to the same database."""
        database = self.database(dsn)
        return Site(database, lambda archive: self.open_store(archive, database), _silent)

    def database(self, dsn: str | None = None) -> Database:
        """Open the database as the steps see it."""
        return PostgresDatabase(lambda: psycopg.connect(dsn or self.dsn))

    def open_store(self, archive: Any, database: Database) -> Store:
        """Open what the policy names: the folder, or a cold table in the same database."""
        if isinstance(archive, ColdTable):
            return ColdTableStore(
                database, database, archive.table_name, url=archive.address, object_rows=archive.object_rows
            )
        return self.store(archive.url)

    def store(self, url: str = POLICY.archive.url) -> ParquetStore:
        """Open the folder as a store."""
        return ParquetStore(self.files, self.root, url=url)

    @property
    def files(self) -> Any:
        """The file system of the archive, without what it remembers."""
        files = self.filesystem or fsspec.filesystem("file")
        files.invalidate_cache()
        return files

    @property
    def root(self) -> str:
        """Where the archive lies in its file system."""
        return self.prefix or str(self.folder)

    def perform(self, *steps: str, site: Site | None = None) -> None:
        """Run steps by their names in STEPS, one after the other."""
        for step in steps:
            perform(site or self.site(), step, self.policy)

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement as the application, or as an onlooker, and give its rows."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, values: tuple[object, ...] = ()) -> Any:
        """Give the only value of the only row."""
        ((value,),) = self.execute(statement, values)
        return value

    def hot_rows(self) -> bytes:
        """Give all rows of the table as text, in the order of their keys."""
        with psycopg.connect(self.dsn) as connection:
            copy = connection.cursor().copy("COPY (SELECT * FROM flights ORDER BY id) TO STDOUT")
            with copy as rows:
                return b"".join(rows)

    @contextmanager
    def locked_row(self, key: int) -> Iterator[Callable[[], None]]:
        """Lock a row as the application does; give what lets it go."""
        with psycopg.connect(self.dsn) as application:
            application.execute("SELECT id FROM flights WHERE id = %s FOR UPDATE", (key,))
            yield application.rollback

    @contextmanager
    def application(self) -> Iterator[psycopg.Connection[Any]]:
        """Open a transaction of the application, which rolls back unless it is committed."""
        with psycopg.connect(self.dsn) as connection:
            try:
                yield connection
            finally:
                connection.rollback()

    def id_at(self, ordinal: int) -> int:
        """Give the key of a row by its place in the walk."""
        return int(self.one("SELECT id FROM flights ORDER BY time_hour, id OFFSET %s LIMIT 1", (ordinal,)))

    def state_of(self, chunk: int) -> str:
        """Give a chunk's state in the ledger."""
        return str(self.one("SELECT state FROM dbhygiene.chunk WHERE chunk = %s", (chunk,)))

    def figures(self, chunk: int) -> dict[str, int]:
        """Give what became of a chunk's archived rows so far."""
        names = ("archived_rows", "purged_through", "purged", "drifted", "held", "vanished", "locked")
        columns = ", ".join(names)
        (row,) = self.execute(f"SELECT {columns} FROM dbhygiene.chunk WHERE chunk = %s", (chunk,))
        return dict(zip(names, row, strict=True))

    def object_rows(self, name: str) -> pa.Table:
        """Read the rows of one object, past the store's own code where it is a file."""
        if isinstance(self.policy.archive, Parquet):
            return pq.ParquetFile(io.BytesIO(self.files.cat_file(f"{self.root}/{name}"))).read()
        (row,) = self.execute("SELECT sha256, bytes FROM dbhygiene.object WHERE name = %s", (name,))
        store = self.open_store(self.policy.archive, self.database())
        with store.fetch(name, *row) as archived:
            return pa.Table.from_batches(list(archived.batches(10_000)))

    def text(self, name: str) -> str:
        """Read a text that the store keeps."""
        if isinstance(self.policy.archive, Parquet):
            return str(self.files.cat_file(f"{self.root}/{name}").decode())
        schema = self.policy.archive.table_name.schema
        return str(self.one(f"SELECT text FROM {schema}.dbhygiene_archive WHERE name = %s", (name,)))

    def stored(self) -> Iterator[str]:
        """Name all that the store holds."""
        if isinstance(self.policy.archive, Parquet):
            yield from (path.removeprefix(f"{self.root}/") for path in self.files.find(self.root))
            return
        cold = self.policy.archive.table_name
        names = {row[0] for row in self.execute("SELECT name FROM dbhygiene.object")}
        for (number,) in self.execute(f"SELECT DISTINCT dbhygiene_object FROM {cold.schema}.{cold.table}"):
            yield next((name for name in names if name.endswith(f"@{number}")), f"object {number}")
        yield from (name for (name,) in self.execute(f"SELECT name FROM {cold.schema}.dbhygiene_archive"))

    def object_paths(self, chunk: int) -> list[str]:
        """Give the objects of the archive that won a chunk, in the order of their parts."""
        return [f"{self.root}/{name}" for name, _ in _winners(self, chunk)]


Copies = Callable[[str], Stage]
"""Gives a fresh copy of a stage, by the moment of the run."""


def _silent(_: str) -> None:
    """Nobody listens to the progress."""


def perform(site: Site, step: str, policy: Policy = POLICY) -> None:
    """Run one step, as the Airflow task of that name would."""
    name, _, chunk = step.partition(" ")
    if name == "plan":
        window = WINDOW
        if planned_before(site, policy, window, ORIGIN) is None:
            record_plan(site, make_plan(site, policy, window, ORIGIN))
    elif name == "restore":
        restore(site, Wish(RUN, "back"))
    elif name in ("reclaim", "report"):
        {"reclaim": reclaim, "report": report}[name](site, RUN)
    elif name == "abandon":
        abandon(site, RUN, "nobody finishes it", "ops")
    else:
        {"archive": archive, "verify": verify, "purge": purge}[name](site, RUN, int(chunk))


def lay_out(server: PostgresServer, source: str, name: str) -> str:
    """Make a database that holds the flights of the first four days of 2013, to be copied for each test.

    :param source: DSN of a database that holds them all, on this server or another
    """
    dsn = server.create_database(name)
    with psycopg.connect(source) as full:
        copy = full.cursor().copy("COPY (SELECT * FROM flights WHERE month = 1 AND day <= 4) TO STDOUT")
        with copy as rows:
            text = b"".join(rows)
        columns = ", ".join(row[0] for row in full.execute(_COLUMNS).fetchall())
    with psycopg.connect(dsn, autocommit=True) as small:
        small.execute("CREATE SCHEMA cold")
        small.execute(f"CREATE TABLE flights ({columns}, PRIMARY KEY (id))")
        small.execute("CREATE INDEX flights_time_hour_id ON flights (time_hour, id)")
        with small.cursor().copy("COPY flights FROM STDIN") as loading:
            loading.write(text)
        small.execute("VACUUM (ANALYZE) flights")
    return name


_COLUMNS = """
SELECT format('%I %s', attname, format_type(atttypid, atttypmod)) FROM pg_attribute
WHERE attrelid = 'flights'::regclass AND attnum > 0 ORDER BY attnum
"""


# What must be equal


@dataclass(frozen=True)
class EndState:
    """What a run leaves: the table's rows, the archive's rows, each chunk's account, and nothing lying about."""

    hot_rows: str
    archived_rows: str
    account: tuple[tuple[object, ...], ...]
    outcomes: tuple[tuple[object, ...], ...]
    run_state: str
    strangers: tuple[str, ...]


def end_state(stage: Stage) -> EndState:
    """Read what a run has left."""
    outcomes = "SELECT chunk, ordinal, outcome, row_key FROM dbhygiene.outcome ORDER BY 1, 2"
    account = (
        "SELECT chunk, state, archived_rows, purged_through, purged, drifted, held, vanished, locked"
        " FROM dbhygiene.chunk ORDER BY chunk"
    )
    return EndState(
        hot_rows=hashlib.sha256(stage.hot_rows()).hexdigest(),
        archived_rows=hashlib.sha256(_csv(archived_rows(stage))).hexdigest(),
        account=tuple(stage.execute(account)),
        outcomes=tuple(stage.execute(outcomes)),
        run_state=str(stage.one("SELECT state FROM dbhygiene.run")),
        strangers=tuple(sorted(strangers(stage))),
    )


def archived_rows(stage: Stage) -> pa.Table:
    """Give the rows that only the archive has: those of its objects but drifted, held, vanished and locked ones."""
    pieces = []
    for (chunk,) in stage.execute("SELECT chunk FROM dbhygiene.chunk ORDER BY chunk"):
        outcomes = stage.execute("SELECT ordinal FROM dbhygiene.outcome WHERE chunk = %s", (chunk,))
        kept_hot = {row[0] for row in outcomes}
        for name, first in _winners(stage, chunk):
            rows = stage.object_rows(name)
            gone = [i for i in range(rows.num_rows) if first + i not in kept_hot]
            pieces.append(rows.take(pa.array(gone, pa.int64())).replace_schema_metadata(None))
    return pa.concat_tables(pieces).drop_columns([VERSION_COLUMN]).sort_by("id")


def strangers(stage: Stage) -> Iterator[str]:
    """Name what the store holds that is neither part of an archive that won nor a certificate."""
    known = {name for (name,) in stage.execute("SELECT name FROM dbhygiene.certificate")}
    for (chunk,) in stage.execute("SELECT chunk FROM dbhygiene.chunk"):
        known |= {name for name, _ in _winners(stage, chunk)}
    yield from (name for name in stage.stored() if name not in known)


def assert_every_row_is_accounted_for(stage: Stage, keys: set[int]) -> None:
    """Each key is in the table or in the archive, never in both, and the ledger's sums agree with the rows.

    :param keys: keys that the application has not deleted
    """
    hot = {row[0] for row in stage.execute("SELECT id FROM flights")}
    cold = archived_rows(stage).column("id").to_pylist()
    assert len(cold) == len(set(cold)), "a row is archived twice"
    assert not hot & set(cold), "a row is in the table and counted as purged"
    assert hot | set(cold) == keys, "a row is lost, or has risen again"
    assert_ledger_adds_up(stage)


def assert_ledger_adds_up(stage: Stage) -> None:
    """Chunks, batches and outcomes tell the same story, and batches follow each other without gap or overlap."""
    for number, state, *counts in stage.execute(
        "SELECT chunk, state, purged_through, purged, drifted, held, vanished, locked FROM dbhygiene.chunk"
    ):
        through, *outcomes = counts
        assert through == sum(outcomes), f"chunk {number} ({state}) lost count: {counts}"
        batches = stage.execute(
            "SELECT first_ordinal, end_ordinal FROM dbhygiene.batch WHERE chunk = %s ORDER BY batch", (number,)
        )
        ends = [0, *(end for _, end in batches)]
        assert [first for first, _ in batches] == ends[:-1], f"batches of chunk {number} overlap or leave a gap"
        assert ends[-1] == through
        noted = dict(
            stage.execute("SELECT outcome, count(*) FROM dbhygiene.outcome WHERE chunk = %s GROUP BY 1", (number,))
        )
        names = ("drifted", "held", "vanished", "locked")
        assert noted == {name: count for name, count in zip(names, outcomes[1:], strict=True) if count}


def keys_of(stage: Stage) -> set[int]:
    """Give the keys that the table holds now."""
    return {row[0] for row in stage.execute("SELECT id FROM flights")}


def edit_plan(stage: Stage, path: tuple[str, ...], value: object) -> None:
    """Change one entry of the plan that the ledger froze."""
    plan = json.loads(stage.one("SELECT plan FROM dbhygiene.run"))
    place = plan
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    stage.execute("UPDATE dbhygiene.run SET plan = %s", (json.dumps(plan),))


def set_pace(stage: Stage, **fields: object) -> None:
    """Change the pace of a run that is planned already."""
    pace = stage.policy.pace.model_copy(update=fields)
    edit_plan(stage, ("policy_json",), stage.policy.model_copy(update={"pace": pace}).json_text)


def place_hold(stage: Stage, predicate: str) -> None:
    """Put rows of flights under a legal hold."""
    stage.execute(
        "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
        " VALUES (%s, %s, %s, 'case 4711', 'legal')",
        (predicate, stage.policy.table, predicate),
    )


def drop_and_copy(server: PostgresServer, name: str, template: str) -> str:
    """Give the DSN of a fresh copy of a database under a name that may be in use."""
    server.drop_database(name)
    return server.create_database(name, template)


def identifier(name: str) -> str:
    """Quote a name for a statement."""
    return sql.Identifier(name).as_string()


def _winners(stage: Stage, chunk: int) -> list[tuple[str, int]]:
    return [
        (name, first)
        for name, first in stage.execute(
            "SELECT o.name, o.first_ordinal FROM dbhygiene.object o JOIN dbhygiene.chunk c USING (run_id, chunk, nonce)"
            " WHERE c.chunk = %s AND o.state = 'written' ORDER BY o.part",
            (chunk,),
        )
    ]


def _csv(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    csv.write_csv(rows, sink)
    return sink.getvalue()
