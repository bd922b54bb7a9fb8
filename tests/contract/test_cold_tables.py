"""Cold tables: in the same database and on another connection, on PostgreSQL, MariaDB and MySQL."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from airflow_dbhygiene.connections import open_site
from airflow_dbhygiene.databases.mysql import cold_compare, cold_copy
from airflow_dbhygiene.errors import ArchiveDamaged, NotFound, PlanRefused, PolicyInvalid, RowsLocked
from airflow_dbhygiene.ledger import Ledger
from airflow_dbhygiene.ledger.holds import Holds
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.policy import ColdTable, OlderThan, Policy
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import Ticket, make_plan, record_plan
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.steps.verify_archive import verify_archive, verify_store
from airflow_dbhygiene.stores.cold_table import ColdTableStore
from tests.job import EVENTS, STALE_EVENTS, Job, window_of
from tests.least import mysql_role, postgres_role
from tests.mysql_job import MySqlJob
from tests.servers.mysql import MySqlServer

ROWS = 3 * 200
"""Stale rows of a small table: three chunks of two objects each."""
ALL_ROWS = 5_000


@dataclass(frozen=True)
class Stage:
    """A table of five thousand rows, of which 600 are stale, and a place for its cold table.

    :param schema: the cold table's schema, or database
    :param execute: runs SQL where the cold table is
    """

    job: Job
    schema: str
    beside: bool
    execute: Callable[[str], list[tuple[Any, ...]]]

    @property
    def cold(self) -> str:
        """The cold table, as SQL has it."""
        return f"{self.schema}.events"

    def policy(self, **changes: Any) -> Policy:
        """Give the policy that archives into the cold table, in small objects."""
        place = self.cold if self.beside else f"there@{self.cold}"
        guard = {"max_fraction": 1, "min_chunk_rows": 200}
        return self.job.policy(**{"archive": ColdTable(place, object_rows=150), "guard": guard} | changes)

    def verified(self, **changes: Any) -> tuple[Ticket, ...]:
        """Plan, archive and verify."""
        tickets = self.job.start(self.policy(**changes))
        for ticket in tickets:
            archive(self.job.site, ticket.run, ticket.chunk)
            verify(self.job.site, ticket.run, ticket.chunk)
        return tickets

    def purge(self, tickets: tuple[Ticket, ...]) -> dict[str, int]:
        """Purge every chunk, and add up what became of the rows."""
        chunks = [purge(self.job.site, ticket.run, ticket.chunk) for ticket in tickets]
        names = ("purged", "drifted", "held", "vanished")
        return {name: sum(getattr(chunk, name) for chunk in chunks) for name in names}

    def hot(self) -> list[tuple[Any, ...]]:
        """Give all rows of the table."""
        return self.job.execute("SELECT id, at, note FROM events ORDER BY id")

    def copies(self) -> list[tuple[Any, ...]]:
        """Give all rows of the cold table."""
        return self.execute(f"SELECT id, at, note FROM {self.cold} ORDER BY id, dbhygiene_object")


ENGINES = ("postgres", "mariadb", "mysql")
PLACES = [*((engine, True) for engine in ENGINES), ("postgres", False), ("mysql", False)]


@pytest.fixture(params=PLACES, ids=[f"{engine}-{'beside' if beside else 'elsewhere'}" for engine, beside in PLACES])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """Give each engine with each kind of place, freshly laid out."""
    engine, beside = request.param
    yield from _lay_out(request, tmp_path, engine, beside=beside)


@pytest.fixture(params=ENGINES)
def beside(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """Give each engine with the cold table in the same database."""
    yield from _lay_out(request, tmp_path, request.param, beside=True)


def _lay_out(request: pytest.FixtureRequest, folder: Path, engine: str, *, beside: bool) -> Iterator[Stage]:
    name = f"cold_{secrets.token_hex(4)}"
    if engine == "postgres":
        server = request.getfixturevalue("postgres")
        dsn, other = (server.create_database(each) for each in (name, f"{name}_there"))
        place = Job(dsn if beside else other, folder)
        place.execute("CREATE SCHEMA cold")
        job = Job(dsn, folder, elsewhere={"there": other}, role=postgres_role(dsn, request))
        job.execute(_POSTGRES)
        if beside and job.role:
            job.role.cold = "cold"
        yield Stage(job, "cold", beside, place.execute)
    else:
        server = request.getfixturevalue("mysql_by_flavour")(engine)
        parameters = server.create_database(name)
        server.create_database(f"{name}_there")
        role = mysql_role(parameters, request)
        mine = MySqlJob(folder=folder, parameters=parameters, servers={"there": parameters}, role=role)
        if beside and role:
            role.cold = f"{name}_there"
        for statement in _MYSQL:
            mine.execute(statement)
        yield Stage(mine, f"{name}_there", beside, mine.execute)
        server.drop_database("dbhygiene")
    for each in (name, f"{name}_there"):
        server.drop_database(each)


_POSTGRES = """
CREATE TABLE parent (id bigint PRIMARY KEY);
INSERT INTO parent VALUES (1);
CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, note varchar(50) DEFAULT 'none',
    parent bigint NOT NULL DEFAULT 1 REFERENCES parent, doubled bigint GENERATED ALWAYS AS (2 * parent) STORED
);
CREATE INDEX events_at_id ON events (at, id);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION nothing();
INSERT INTO events (at, note)
SELECT timestamptz '2023-01-01 00:00+00' + n * interval '5 hours', 'row ' || n FROM generate_series(0, 4999) AS n;
ANALYZE events;
"""

_MYSQL = (
    "CREATE TABLE parent (id bigint PRIMARY KEY)",
    "INSERT INTO parent VALUES (1)",
    (
        "CREATE TABLE events (id bigint AUTO_INCREMENT PRIMARY KEY, at datetime NOT NULL, note varchar(50) DEFAULT 'none',"
        " parent bigint NOT NULL DEFAULT 1, doubled bigint GENERATED ALWAYS AS (2 * parent) STORED,"
        " KEY events_at_id (at, id), FOREIGN KEY (parent) REFERENCES parent (id))"
    ),
    "CREATE TRIGGER touched BEFORE UPDATE ON events FOR EACH ROW SET @touched = 1",
    (
        "INSERT INTO events (at, note) WITH RECURSIVE numbers AS"
        " (SELECT 0 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 999)"
        " SELECT '2023-01-01' + INTERVAL 5 * (a.n + 1000 * b.n) HOUR, concat('row ', a.n + 1000 * b.n)"
        " FROM numbers b JOIN numbers a ON b.n < 5 ORDER BY b.n, a.n"
    ),
    "ANALYZE TABLE events",
)


def test_the_whole_job(stage: Stage) -> None:
    """Stale rows are in the cold table and nowhere else, each with its run and its moment."""
    before = stage.hot()
    certificate = stage.job.run(stage.policy())
    assert (certificate["state"], certificate["rows_purged"], certificate["objects"]) == ("done", ROWS, 6)
    assert certificate["careful_batches"] == 0
    assert stage.hot() == before[ROWS:]
    assert stage.copies() == before[:ROWS]
    ((objects, runs, moments),) = stage.execute(
        "SELECT count(DISTINCT dbhygiene_object), count(DISTINCT dbhygiene_run), count(dbhygiene_archived_at)"
        f" FROM {stage.cold}"
    )
    assert (objects, runs, moments) == (6, 1, ROWS)


@pytest.mark.parametrize("stage", [("mariadb", True), ("mysql", True)], indirect=True, ids=["mariadb", "mysql"])
@pytest.mark.parametrize("vanishing", [0, 1])
def test_two_connections_copy_and_compare_an_object(
    stage: Stage, vanishing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ordinals have no gap, even where a row vanishes after the first half's rows were counted."""
    before = stage.hot()
    _copy_by_two(stage, monkeypatch, *["DELETE FROM events WHERE id = 5"] * vanishing)
    certificate = stage.job.run(stage.policy())
    rows = ROWS - vanishing
    assert (certificate["rows_archived"], certificate["rows_purged"], certificate["careful_batches"]) == (rows, rows, 0)
    assert stage.hot() == before[ROWS:]
    assert stage.copies() == [row for row in before[:ROWS] if not vanishing or row[0] != 5]
    assert stage.execute(
        "SELECT dbhygiene_chunk, min(dbhygiene_ordinal), max(dbhygiene_ordinal) + 1 - count(*), count(DISTINCT id)"
        f" FROM {stage.cold} GROUP BY dbhygiene_chunk ORDER BY dbhygiene_chunk"
    ) == [(1, 0, 0, 200 - vanishing), (2, 0, 0, 200), (3, 0, 0, 200)]


@pytest.mark.parametrize("stage", [("mariadb", True), ("mysql", True)], indirect=True, ids=["mariadb", "mysql"])
def test_a_row_that_becomes_stale_while_two_connections_copy(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes another's place, which waits for a later run; neither connection waits for the other."""
    before = stage.hot()
    _copy_by_two(stage, monkeypatch, "INSERT INTO events (at, note) VALUES ('2023-01-01 01:00:00', 'late')")
    began = time.monotonic()
    certificate = stage.job.run(stage.policy())
    assert time.monotonic() - began < 20
    assert (certificate["rows_archived"], certificate["rows_purged"]) == (ROWS, ROWS)
    (late,) = (row for row in stage.copies() if row not in before)
    (left,) = (row for row in stage.hot() if row in before[:ROWS])
    assert (late[2], left in stage.copies()) == ("late", False)


@pytest.mark.rights("all", "the table is the test's own")
def test_columns_may_have_any_names(stage: Stage) -> None:
    """Those of our own statements' parts, too: what is archived is digested, compared and given back whole."""
    names = "start rows piece pieces sent digested copied hot state place first neighbours".split()
    quote = "`" if isinstance(stage.job, MySqlJob) else '"'
    columns = (f"ADD COLUMN {quote}{name}{quote} integer DEFAULT {i}" for i, name in enumerate(names, start=7))
    stage.job.execute(f"ALTER TABLE events {', '.join(columns)}")
    before = stage.job.execute("SELECT * FROM events ORDER BY id")
    certificate = stage.job.run(stage.policy())
    assert (certificate["state"], certificate["rows_purged"]) == ("done", ROWS)
    assert verify_archive(stage.job.site, run_id=certificate["run"]).findings == []
    assert restore(stage.job.site, Wish(certificate["run"], "back")).restored == ROWS
    assert stage.job.execute("SELECT * FROM events ORDER BY id") == before
    stage.execute(f"UPDATE {stage.cold} SET note = 'forged' WHERE id = 150")
    assert verify_archive(stage.job.site, run_id=certificate["run"]).findings != []


def _copy_by_two(stage: Stage, monkeypatch: pytest.MonkeyPatch, *meanwhile: str) -> None:
    """Let few rows be worth two connections, and something happen once the first half's rows are counted."""
    hop, waiting = cold_copy.hop, list(meanwhile)

    def hop_and_meddle(*asked: Any) -> Any:
        place = hop(*asked)
        while waiting:
            stage.job.execute(waiting.pop())
        return place

    monkeypatch.setattr(cold_copy, "hop", hop_and_meddle)
    for module in (cold_copy, cold_compare):
        monkeypatch.setattr(module, "WORTH_TWO", 40)


def test_two_first_plans_at_once_make_the_table_once(stage: Stage) -> None:
    """Both see that it is missing, and one is second: it finds the table made, and goes on."""
    site, policy = stage.job.site, stage.policy()
    first, second = (make_plan(site, policy, window_of(policy), {"dag_run": name}) for name in ("first", "second"))
    cold_tables = site.open_store(policy.archive)._cold  # type: ignore[arg-type, attr-defined]
    change, late = cold_tables.change, [second]

    def be_overtaken(session: Any, statements: Any) -> None:
        while late:
            assert record_plan(stage.job.site, late.pop())
        change(session, statements)

    cold_tables.change = be_overtaken
    store = site.open_store(policy.archive)  # type: ignore[arg-type]
    store._cold = cold_tables  # type: ignore[attr-defined]
    assert record_plan(replace(site, open_store=lambda _: store), first)
    assert stage.copies() == []


def test_a_cold_table_is_plain(stage: Stage) -> None:
    """It has neither defaults, identity, foreign keys nor triggers, and takes what the hot table would not."""
    stage.verified()
    stage.execute(
        f"INSERT INTO {stage.cold} (dbhygiene_object, dbhygiene_ordinal, dbhygiene_version, dbhygiene_archived_at,"
        f" dbhygiene_chunk, dbhygiene_run, doubled) VALUES (1, 1, '1', '2024-01-01', 1, 'x', 5)"
    )
    ((row,),) = [stage.execute(f"SELECT id, at, note, parent, doubled FROM {stage.cold} WHERE dbhygiene_run = 'x'")]
    assert row == (None, None, None, None, 5)


def test_what_became_of_every_row(stage: Stage) -> None:
    """Drifted, held and vanished rows are left alone, and a row that came late stays: each is accounted for."""
    tickets = stage.verified()
    stage.job.execute("UPDATE events SET note = 'changed' WHERE id IN (5, 205)")
    stage.job.execute("DELETE FROM events WHERE id = 7")
    stage.job.execute("INSERT INTO events (at, note) VALUES ('2023-01-01 01:00:00', 'late')")
    hold(stage, "id = 9")
    assert stage.purge(tickets) == {"purged": ROWS - 4, "drifted": 2, "held": 1, "vanished": 1}
    assert [row[2] for row in stage.hot()[:3]] == ["changed", "row 8", "changed"]
    assert stage.hot()[-1][2] == "late"
    assert report(stage.job.site, tickets[0].run)["rows_purged"] == ROWS - 4


def hold(stage: Stage, predicate: str) -> None:
    """Put rows under a legal hold."""
    with stage.job.site.database.session() as session:
        fields = {"hold_id": "case", "table_name": stage.job.policy().table, "predicate": predicate}
        Holds(session).place({**fields, "reason": "case 4711", "placed_by": "legal"}, None)


def test_the_archive_is_verified_by_itself(stage: Stage) -> None:
    """With the ledger and without: sound as it was written; a forged row, a lost object and a lost text are named."""
    certificate = stage.job.run(stage.policy())
    other = ColdTable(f"{stage.schema}.others") if stage.beside else ColdTable(f"there@{stage.schema}.others")
    stage.job.run(stage.policy(name="others", archive=other, stale=OlderThan("at", keep="290 days", zone="UTC")))
    assert verify_archive(stage.job.site, policy="events").findings == []
    store = _by_address(stage)
    sound = verify_store(store, certificate["certificate_sha256"])
    assert (sound.findings, sound.runs, sound.rows) == ([], 1, ROWS)
    stage.execute(f"UPDATE {stage.cold} SET note = 'forged' WHERE id = 250")
    stage.execute(f"DELETE FROM {stage.cold} WHERE id <= 150")
    for found in (verify_store(store), verify_archive(stage.job.site, policy="events")):
        assert ["digest differs" in finding.fault for finding in found.findings] == [True, True]
    stage.execute(f"DELETE FROM {stage.schema}.dbhygiene_archive WHERE name LIKE '%certificate.json'")
    assert verify_store(store, certificate["certificate_sha256"]).findings[0].fault.startswith("no certificate here")


def _by_address(stage: Stage) -> Any:
    """Open the cold table alone, as one does who has nothing but its address."""
    database = stage.job.site.database if stage.beside else stage.job.database_elsewhere("there")
    place = ColdTable(f"there@{stage.cold}")
    return ColdTableStore(database, database, place.table_name, url=place.address, object_rows=1)


@pytest.mark.parametrize("damage", ["UPDATE {} SET note = 'forged' WHERE id = 250", "DELETE FROM {} WHERE id = 250"])
def test_a_row_whose_copy_was_changed_stays(stage: Stage, damage: str) -> None:
    """Between verify and purge somebody changes, or removes, a row of the cold table: what it copied is not deleted."""
    tickets = stage.verified()
    stage.execute(damage.format(stage.cold))
    with pytest.raises(ArchiveDamaged):
        stage.purge(tickets)
    assert (250 in {row[0] for row in stage.hot()}) is True
    archive(stage.job.site, tickets[1].run, tickets[1].chunk)
    verify(stage.job.site, tickets[1].run, tickets[1].chunk)
    assert stage.purge(tickets)["purged"] == ROWS
    report(stage.job.site, tickets[0].run)
    assert len(stage.copies()) == ROWS


@pytest.mark.parametrize("damage", ["UPDATE {} SET note = 'forged' WHERE id = 77", "DELETE FROM {} WHERE id = 77"])
def test_a_copy_changed_before_verify_is_noticed(stage: Stage, damage: str) -> None:
    """All rows are compared where they lie beside each other; elsewhere the digest tells."""
    tickets = stage.job.start(stage.policy(verify="sample", sample_rows=1))
    archive(stage.job.site, tickets[0].run, tickets[0].chunk)
    stage.execute(damage.format(stage.cold))
    with pytest.raises(ArchiveDamaged):
        verify(stage.job.site, tickets[0].run, tickets[0].chunk)


@pytest.mark.parametrize("stage", [("postgres", True)], indirect=True, ids=["postgres"])
def test_rows_that_moved_since_they_were_copied(stage: Stage) -> None:
    """CLUSTER moves every row and changes none: a forged copy is noticed, and all are purged in whole batches."""
    tickets = stage.verified()
    stage.job.execute("CREATE INDEX back ON events (id DESC)")
    stage.job.execute("CLUSTER events USING back")
    stage.execute(f"UPDATE {stage.cold} SET note = 'forged' WHERE id = 250")
    with pytest.raises(ArchiveDamaged):
        stage.purge(tickets)
    archive(stage.job.site, tickets[1].run, tickets[1].chunk)
    verify(stage.job.site, tickets[1].run, tickets[1].chunk)
    assert stage.purge(tickets)["purged"] == ROWS
    assert report(stage.job.site, tickets[0].run)["careful_batches"] == 0


@pytest.mark.parametrize("stage", [("postgres", True)], indirect=True, ids=["postgres"])
def test_a_partitioned_table(stage: Stage) -> None:
    """A place in it belongs to a row of each partition: its rows are found by key, in whole batches."""
    stage.job.execute(
        "ALTER TABLE events RENAME TO plain; CREATE TABLE events (LIKE plain, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
        " CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (300);"
        " CREATE TABLE events_2 PARTITION OF events DEFAULT; INSERT INTO events SELECT * FROM plain;"
        " CREATE INDEX ON events (at, id); ANALYZE events"
    )
    certificate = stage.job.run(stage.policy(reclaim="none"))
    assert (certificate["rows_purged"], certificate["careful_batches"]) == (ROWS, 0)


def test_a_locked_row_is_come_back_to(beside: Stage) -> None:
    """The application's lock on a row neither stops the copying nor the rest of the purge."""
    with application(beside, "UPDATE events SET note = note WHERE id = 300"):
        tickets = beside.verified()
        with pytest.raises(RowsLocked):
            beside.purge(tickets)
    assert beside.purge(tickets)["purged"] == ROWS
    assert len(beside.hot()) == ALL_ROWS - ROWS


@contextmanager
def application(stage: Stage, statement: str) -> Iterator[None]:
    """Keep a transaction of the application open that has run a statement, and roll it back."""
    job = stage.job
    connection = job.open(autocommit=False) if isinstance(job, MySqlJob) else psycopg.connect(job.dsn)
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        yield
        connection.rollback()


@pytest.mark.rights("restore")
def test_restore(stage: Stage) -> None:
    """Everything comes back as it was; what had drifted, or was held, is not touched."""
    before = stage.hot()
    tickets = stage.verified()
    stage.job.execute("UPDATE events SET note = 'changed' WHERE id = 5")
    stage.purge(tickets)
    restored = restore(stage.job.site, Wish(tickets[0].run, "back"))
    assert (restored.restored, restored.existing) == (ROWS - 1, 0)
    assert [row for row in stage.hot() if row[0] != 5] == [row for row in before if row[0] != 5]


def test_a_column_that_the_table_gains(stage: Stage) -> None:
    """The next plan adds it to the cold table; a dry run says that it would."""
    stage.job.run(stage.policy())
    stage.job.execute("ALTER TABLE events ADD COLUMN extra varchar(10)")
    stage.job.execute("UPDATE events SET extra = 'new'")
    policy = stage.policy(name="later", stale=stage.job.policy().stale.model_copy(update={"keep": "270 days"}))
    assert "ADD COLUMN" in stage.job.plan(policy).describe()
    assert not stage.execute(f"SELECT * FROM {stage.cold} WHERE id = 0")
    assert stage.job.run(policy)["rows_purged"] == 144
    assert stage.execute(f"SELECT extra, count(*) FROM {stage.cold} GROUP BY extra ORDER BY 2") == [
        ("new", 144),
        (None, ROWS),
    ]


@pytest.mark.parametrize(
    ("on_postgres", "on_mysql", "said"),
    [
        ("DROP COLUMN note", "DROP COLUMN note", r"column note is no longer in .*DROP COLUMN .note"),
        (
            "ALTER COLUMN note TYPE varchar(20)",
            "MODIFY note varchar(20)",
            r"column note is .*\(50\).* there and .*\(20\)",
        ),
        (
            "ALTER COLUMN note TYPE varchar(80)",
            "MODIFY note varchar(80)",
            r"column note is .*\(50\).* there and .*\(80\).*ALTER TABLE .*note",
        ),
    ],
    ids=["dropped", "narrowed", "widened"],
)
def test_a_column_that_changed_is_refused(beside: Stage, on_postgres: str, on_mysql: str, said: str) -> None:
    """By name, with the statement to run; nothing is planned."""
    beside.job.run(beside.policy())
    change = on_mysql if isinstance(beside.job, MySqlJob) else on_postgres
    beside.job.execute(f"ALTER TABLE events {change}")
    with pytest.raises(PlanRefused, match=said):
        beside.job.plan(beside.policy(name="later"))


@pytest.mark.parametrize(
    "change", ["at datetime(6) NOT NULL", "note char(50)", "note varchar(20)", "id bigint unsigned"]
)
@pytest.mark.parametrize("server", ["mariadb", "mysql"])
def test_no_change_is_advised_that_older_archives_would_not_survive(
    request: pytest.FixtureRequest, tmp_path: Path, server: str, change: str
) -> None:
    """Values of another type have another text, of which digests are made: only another cold table will do."""
    for stage in _lay_out(request, tmp_path, server, beside=True):
        stage.job.run(stage.policy())
        stage.job.execute(f"ALTER TABLE events MODIFY {change}")
        with pytest.raises(PlanRefused, match=r"in .*events: name another cold table"):
            stage.job.plan(stage.policy(name="later"))


@pytest.mark.rights("restore")
@pytest.mark.parametrize("server", ["mariadb", "mysql"])
def test_older_archives_survive_the_change_that_is_advised(
    request: pytest.FixtureRequest, tmp_path: Path, server: str
) -> None:
    """Longer text: the statement is run as it was told, and the run before it still comes back."""
    for stage in _lay_out(request, tmp_path, server, beside=True):
        run = stage.job.run(stage.policy())["run"]
        stage.job.execute("ALTER TABLE events MODIFY note varchar(80)")
        with pytest.raises(PlanRefused) as refused:
            stage.job.plan(stage.policy(name="later"))
        (statement,) = re.findall(r"ALTER TABLE [^;]*", str(refused.value))
        stage.execute(statement)
        assert restore(stage.job.site, Wish(run, "back")).restored == ROWS


def test_a_dry_run_makes_nothing(stage: Stage) -> None:
    """It prints the statements."""
    text = stage.job.plan(stage.policy()).describe()
    assert "CREATE TABLE" in text
    with pytest.raises(Exception, match="exist"):
        stage.copies()


@pytest.mark.rights("all", "a role that may not read a table could not see what is wrong with it")
def test_tables_that_cannot_be_cold(beside: Stage) -> None:
    """The table itself, one that is no cold table, a view, a schema that does not exist: each by name."""
    schema = beside.schema
    for statement in (f"CREATE TABLE {schema}.mine (id bigint)", f"CREATE VIEW {schema}.seen AS SELECT 1 AS one"):
        beside.execute(statement)
    itself = beside.job.policy().table
    for place, said in (
        (itself, "is the table itself"),
        (f"{schema}.mine", "no cold table: name a table that does not exist"),
        (f"{schema}.seen", "it is a view"),
        (f"nowhere_{schema}.events", "does not exist.*CREATE"),
    ):
        with pytest.raises(PlanRefused, match=said):
            beside.job.plan(beside.policy(archive=ColdTable(place)))


@pytest.mark.parametrize("which", ["events", "dbhygiene_archive"])
def test_an_unlogged_table_cannot_be_cold(database: str, tmp_path: Path, which: str) -> None:
    """A crash of the server would empty it, and nobody has its rows any more."""
    job = Job(database, tmp_path)
    job.execute(f"{EVENTS} CREATE SCHEMA cold")
    policy = job.policy(archive=ColdTable("cold.events"))
    for statement in job.plan(policy).preparations:
        job.execute(statement)
    job.execute(f"ALTER TABLE cold.{which} SET UNLOGGED")
    with pytest.raises(PlanRefused, match=f'unlogged.*ALTER TABLE "cold"."{which}" SET LOGGED'):
        job.plan(policy)


@pytest.mark.parametrize("schema", ["co%ld", "100%s", "{cold}"])
def test_a_schema_may_have_any_name(database: str, tmp_path: Path, schema: str) -> None:
    """Its table of texts is written and read in statements that hold the name."""
    job = Job(database, tmp_path)
    job.execute(f'{EVENTS} CREATE SCHEMA "{schema}"')
    certificate = job.run(job.policy(archive=ColdTable(f'"{schema}".events')))
    assert certificate["rows_purged"] == STALE_EVENTS
    assert restore(job.site, Wish(certificate["run"], "back")).restored == STALE_EVENTS


def test_a_twin_leaves_nothing_behind(stage: Stage) -> None:
    """An attempt that did not win its chunk is removed by the report, and its notes with it."""
    tickets = stage.verified()
    stage.execute(
        f"INSERT INTO {stage.cold} (dbhygiene_object, dbhygiene_ordinal, dbhygiene_version, dbhygiene_archived_at,"
        f" dbhygiene_chunk, dbhygiene_run, id) SELECT 42, dbhygiene_ordinal, dbhygiene_version, dbhygiene_archived_at,"
        f" dbhygiene_chunk, dbhygiene_run, id FROM {stage.cold} WHERE dbhygiene_chunk = 1"
    )
    with stage.job.site.database.session() as session:
        ledger = Ledger(session)
        Objects(ledger.session).intend(ledger.chunk(tickets[0].run, 1), "loser", 0, "killed@42")
    stage.purge(tickets)
    assert report(stage.job.site, tickets[0].run)["objects_discarded"] == 1
    assert len(stage.copies()) == ROWS


def test_the_certificate_lies_beside_the_archive(stage: Stage) -> None:
    """In the table of texts, with what each object tells of itself."""
    certificate = stage.job.run(stage.policy())
    texts = dict(stage.execute(f"SELECT name, text FROM {stage.schema}.dbhygiene_archive"))
    (kept,) = (json.loads(text) for name, text in texts.items() if name.endswith("certificate.json"))
    assert (kept["run"], kept["store"]) == (certificate["run"], stage.policy().archive.address)
    notes = json.loads(texts[certificate["chunk_list"][0]["objects"][0]["name"]])
    assert (notes["run"], notes["chunk"], notes["first_ordinal"]) == (certificate["run"], "1", "0")


def test_another_engine_is_refused(
    mysql_by_flavour: Callable[[str], MySqlServer], database: str, tmp_path: Path
) -> None:
    """By the plan: MySQL is not MariaDB; and when it is opened: neither is PostgreSQL. Parquet is named as the way."""
    home, there = mysql_by_flavour("mariadb"), mysql_by_flavour("mysql")
    name = f"cold_{secrets.token_hex(4)}"
    job = MySqlJob(folder=tmp_path, parameters=home.create_database(name), servers={"there": there.parameters()})
    for statement in _MYSQL:
        job.execute(statement)
    with pytest.raises(PlanRefused, match=r"is on mysql, and the table on mariadb: .* Parquet"):
        job.plan(job.policy(archive=ColdTable("there@cold.events")))
    home.drop_database(name)

    addresses = {each: connection_of(each, database, there) for each in ("pg", "my")}
    with pytest.MonkeyPatch.context() as patch:
        for conn_id, address in addresses.items():
            patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", address)
        site = open_site("pg", print)
        with pytest.raises(PolicyInvalid, match=r"is on mysql, and the table .* on postgresql: .*Parquet"):
            site.open_store(ColdTable("my@cold.events"))
        for place in ("cold.events", "pg@cold.events"):
            assert site.open_store(ColdTable(place)).beside is not None
        with pytest.raises(NotFound, match="Airflow knows no such connection"):
            site.open_store(ColdTable("nowhere@cold.events"))


def connection_of(conn_id: str, dsn: str, server: MySqlServer) -> str:
    """Write an Airflow connection as JSON."""
    known = conninfo_to_dict(dsn) if conn_id == "pg" else server.parameters()
    return json.dumps(
        {
            "conn_type": "postgres" if conn_id == "pg" else "mysql",
            "host": known["host"],
            "port": int(known["port"]),
            "login": known["user"],
            "password": known["password"],
            "schema": known.get("dbname", ""),
        }
    )


def test_missing_rights_are_named(database: str, tmp_path: Path) -> None:
    """Each refusal holds the statement that grants what is missing, and with all of them the job runs."""
    job = Job(database, tmp_path)
    job.execute(EVENTS)
    role = f"archivist_{secrets.token_hex(4)}"
    job.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT, DELETE, UPDATE (id) ON events TO {role};"
        f" CREATE SCHEMA dbhygiene AUTHORIZATION {role}"
    )
    job.connect = lambda: psycopg.connect(database, user=role, password="x")  # noqa: S106 - of a test's role
    policy = job.policy(archive=ColdTable("cold.events"), reclaim="none")
    try:
        with pytest.raises(PlanRefused, match=rf"CREATE SCHEMA \"cold\" AUTHORIZATION {role};"):
            job.plan(policy)
        job.execute("CREATE SCHEMA cold")
        with pytest.raises(PlanRefused, match=rf"GRANT USAGE, CREATE ON SCHEMA \"cold\" TO {role};"):
            job.plan(policy)
        job.execute(f"GRANT USAGE ON SCHEMA cold TO {role}")
        with pytest.raises(PlanRefused, match=rf"GRANT CREATE ON SCHEMA \"cold\" TO {role};"):
            job.plan(policy)
        job.execute(f"GRANT CREATE ON SCHEMA cold TO {role}")
        assert job.run(policy)["rows_purged"] == STALE_EVENTS
        job.execute("ALTER TABLE cold.events OWNER TO CURRENT_USER; ALTER TABLE events ADD COLUMN extra int")
        with pytest.raises(PlanRefused, match=r"GRANT SELECT, INSERT, DELETE ON \"cold\"\.\"events\" TO"):
            job.plan(policy.model_copy(update={"name": "later"}))
    finally:
        job.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}")
