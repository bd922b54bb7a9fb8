"""The whole job on MariaDB and on MySQL: what is archived is what goes, and nothing else."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_dbhygiene.databases.mysql import folding
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Restored
from airflow_dbhygiene.errors import DatabaseUnavailable, NotFound, NotLossless, RowsLocked, StatementTimedOut
from airflow_dbhygiene.policy import ColdTable, Discard, Matching, OlderThan, Pace, Parquet
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.steps.verify import verify
from tests.job import STALE_EVENTS
from tests.least import mysql_role
from tests.mysql_job import EVENTS, MySqlJob
from tests.servers.mysql import MySqlServer


@pytest.fixture
def job(mysql_database: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest) -> MySqlJob:
    """Give ten thousand events, 3,000 of them stale."""
    job = MySqlJob(folder=tmp_path, parameters=mysql_database, role=mysql_role(mysql_database, request))
    for statement in EVENTS:
        job.execute(statement)
    return job


def figures(certificate: dict[str, Any]) -> dict[str, int]:
    """Pick the outcomes of a run."""
    names = ("archived", "purged", "drifted", "held", "vanished", "locked")
    return {name: certificate[f"rows_{name}"] for name in names if certificate[f"rows_{name}"]}


def verified(job: MySqlJob) -> tuple[Any, ...]:
    """Plan, archive and verify, and give the tickets."""
    tickets = job.start(job.policy())
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    return tickets


def purged(job: MySqlJob, tickets: tuple[Any, ...]) -> dict[str, int]:
    """Purge and report, and give the outcomes."""
    for ticket in tickets:
        purge(job.site, ticket.run, ticket.chunk)
    return figures(report(job.site, tickets[0].run))


def locking_first(site: Site) -> Site:
    """Let every session lock and compare before it deletes, as after a range that was not the archive's."""
    open_session = site.database.session

    @contextmanager
    def session() -> Iterator[Any]:
        with open_session() as opened:
            opened.alike = False
            yield opened

    site.database.session = session
    return site


@contextmanager
def noting(site: Site) -> Iterator[list[str]]:
    """Note all statements that sessions execute, or change rows by."""
    open_session, noted = site.database.session, list[str]()

    @contextmanager
    def session() -> Iterator[Any]:
        with open_session() as opened:
            for name in ("execute", "change"):
                setattr(opened, name, noting_one(getattr(opened, name)))
            yield opened

    def noting_one(run: Any) -> Any:
        def noted_run(statement: str, values: Any = ()) -> Any:
            noted.append(statement)
            return run(statement, values)

        return noted_run

    site.database.session = session
    yield noted


@contextmanager
def arriving_behind_the_lock(job: MySqlJob, statement: str) -> Iterator[Site]:
    """Run a statement of the application's once, right after the first batch has locked its range."""
    site = locking_first(job.site)
    open_session, waiting = site.database.session, [statement]

    @contextmanager
    def session() -> Iterator[Any]:
        with open_session() as opened:
            execute = opened.execute

            def execute_then_arrive(sent: str, values: Any = ()) -> Any:
                found = execute(sent, values)
                if waiting and "FOR UPDATE SKIP LOCKED" in sent:
                    job.execute(waiting.pop())
                return found

            opened.execute = execute_then_arrive
            yield opened

    site.database.session = session
    yield site
    assert not waiting


def test_the_whole_job(job: MySqlJob) -> None:
    """All stale rows go, all others stay, and the archive holds what the table held."""
    before = job.execute("SELECT id, at, note FROM events ORDER BY at, id LIMIT 3000")
    certificate = job.run(job.policy())
    assert certificate["state"] == "done"
    assert figures(certificate) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS}
    assert job.one("SELECT count(*) FROM events") == 10_000 - STALE_EVENTS
    archived = job.archived(certificate)
    assert archived.schema.field("at").type == pa.timestamp("us")
    assert [tuple(row.values()) for row in archived.drop_columns([VERSION_COLUMN]).to_pylist()] == before


def test_a_second_try_changes_nothing(job: MySqlJob) -> None:
    """Every step may run again: the run, its archive and its counts stay as they are."""
    policy = job.policy()
    certificate = job.run(policy)
    again = job.finish(job.start(policy))
    assert figures(again) == figures(certificate)
    assert again["chunk_list"] == certificate["chunk_list"]


def test_what_happened_to_rows_since_their_archive(job: MySqlJob) -> None:
    """Changed, held and deleted rows are told apart, and none of the first two goes."""
    tickets = verified(job)
    job.execute("UPDATE events SET note = 'changed' WHERE id IN (10, 1500)")
    job.execute("UPDATE events SET note = concat(note, ' ') WHERE id = 11")
    job.execute("UPDATE events SET note = upper(note) WHERE id = 12")
    job.execute("UPDATE events SET note = NULL WHERE id = 13")
    job.execute("DELETE FROM events WHERE id IN (20, 2500)")
    job.execute(
        "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
        " VALUES ('case 7', %s, 'id IN (30, 2900)', 'case 7', 'legal')",
        (job.policy().table,),
    )
    outcomes = purged(job, tickets)
    assert outcomes == {"archived": STALE_EVENTS, "purged": STALE_EVENTS - 9, "drifted": 5, "vanished": 2, "held": 2}
    left = [row[0] for row in job.execute("SELECT id FROM events WHERE id < 3000 ORDER BY id")]
    assert left == [10, 11, 12, 13, 30, 1500, 2900]


def test_rows_that_came_late_stay(job: MySqlJob) -> None:
    """A stale row that appears in a range after it was archived is not in the archive, and does not go."""
    job.execute("DELETE FROM events WHERE id = 5")
    tickets = verified(job)
    job.execute("INSERT INTO events VALUES (5, '2023-01-02 00:30:00', 'late')")
    assert purged(job, tickets) == {"archived": STALE_EVENTS - 1, "purged": STALE_EVENTS - 1}
    assert job.one("SELECT note FROM events WHERE id = 5") == "late"


def test_a_locked_row_is_left_to_a_later_try(job: MySqlJob) -> None:
    """The application keeps its row as long as it likes: the purge neither waits nor fails for good."""
    tickets = verified(job)
    with job.open(autocommit=False) as application:
        cursor = application.cursor()
        cursor.execute("SELECT id FROM events WHERE id = 40 FOR UPDATE")
        with pytest.raises(RowsLocked):
            purge(job.site, tickets[0].run, tickets[0].chunk)
        assert job.one("SELECT locked FROM dbhygiene.chunk WHERE chunk = 1") == 1
        application.rollback()
    assert purged(job, tickets) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS}


@pytest.mark.parametrize("rows", [300, 600])
def test_a_locked_row_of_a_small_table_is_left_too(job: MySqlJob, rows: int) -> None:
    """Where a list of keys is most of the table the optimizer would scan it, and wait for the row."""
    job.execute(f"DELETE FROM events WHERE id >= {rows}")
    job.execute("ANALYZE TABLE events")
    tickets = verified(job)
    with job.open(autocommit=False) as application:
        cursor = application.cursor()
        cursor.execute("SELECT id FROM events WHERE id = 40 FOR UPDATE")
        with pytest.raises(RowsLocked):
            purge(job.site, tickets[0].run, tickets[0].chunk)
        assert job.execute("SELECT id FROM events") == [(40,)]
        application.rollback()
    assert purged(job, tickets) == {"archived": rows, "purged": rows}


def locks_and_deletes(statements: list[str]) -> str:
    """Say in which order ranges were locked (l), and rows deleted by range (d)."""
    letters = (
        "l"
        if "FOR UPDATE SKIP LOCKED" in each
        else "d"
        if ".`events` FROM " in each and " FORCE INDEX " in each
        else ""
        for each in statements
    )
    return "".join(letters)


@pytest.mark.parametrize("any_mysql", ["mariadb"], indirect=True)
def test_a_range_is_compared_as_it_goes_until_one_is_another(job: MySqlJob) -> None:
    """Undisturbed, nothing is locked before; after a batch that was not the archive's, ranges are locked first."""
    tickets = verified(job)
    site = job.site
    with noting(site) as statements:
        purge(site, tickets[0].run, 1)
    assert set(locks_and_deletes(statements)) == {"d"}
    job.execute("UPDATE events SET note = 'changed' WHERE id = 1001")
    with noting(site) as statements:
        purge(site, tickets[1].run, 2)
    assert locks_and_deletes(statements).startswith("dl")
    purge(site, tickets[2].run, 3)
    assert figures(report(site, tickets[0].run)) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS - 1, "drifted": 1}
    assert job.execute("SELECT id, note FROM events WHERE id < 3000") == [(1001, "changed")]


@pytest.mark.parametrize("any_mysql", ["mariadb"], indirect=True)
@pytest.mark.parametrize("versions", [0, 1, 15, 16, 17, 32, 100])
def test_the_server_folds_versions_as_the_client_does(job: MySqlJob, versions: int) -> None:
    """Many versions come to the same on both sides, in their order, and to something else in any other."""
    with job.database.session() as session:
        folding.begin(session)
        condition = folding.folding_sql("SHA2(id, 256)")
        session.execute(f"SELECT count(*) FROM events FORCE INDEX (PRIMARY) WHERE id < {versions} AND {condition}")
        digests = [hashlib.sha256(str(number).encode()).digest() for number in range(versions)]
        assert folding.end(session) == folding.fold(b"".join(digests))
        if versions > 1:
            assert folding.end(session) != folding.fold(b"".join(digests[::-1]))
        folding.begin(session)
        session.execute(f"SELECT count(*) FROM events WHERE id < 20 AND {folding.folding_sql('NULL')}")
        assert folding.end(session) not in {folding.fold(b""), folding.fold(bytes(32 * 20))}


def test_fresh_rows_in_between_do_not_matter(job: MySqlJob) -> None:
    """Where stale and fresh rows alternate in the order of the key, the application may lock and change its own."""
    job.execute("UPDATE events SET at = at + INTERVAL 5 YEAR WHERE id % 2 = 1 AND id < 3000")
    tickets = verified(job)
    with job.open(autocommit=False) as application:
        cursor = application.cursor()
        cursor.execute("UPDATE events SET note = 'mine' WHERE id IN (41, 1901)")
        for ticket in tickets:
            purge(job.site, ticket.run, ticket.chunk)
        application.commit()
    assert figures(report(job.site, tickets[0].run)) == {"archived": STALE_EVENTS // 2, "purged": STALE_EVENTS // 2}
    assert job.execute("SELECT id FROM events WHERE note = 'mine' ORDER BY id") == [(41,), (1901,)]


def test_a_row_that_comes_between_lock_and_delete_stays(job: MySqlJob) -> None:
    """It is stale, lies in the range, and was never archived: the batch notices, and goes row by row."""
    job.execute("DELETE FROM events WHERE id = 7")
    tickets = verified(job)
    with arriving_behind_the_lock(job, "INSERT INTO events VALUES (7, '2023-01-02 00:30:00', 'late')") as site:
        for ticket in tickets:
            purge(site, ticket.run, ticket.chunk)
    assert figures(report(job.site, tickets[0].run)) == {"archived": STALE_EVENTS - 1, "purged": STALE_EVENTS - 1}
    assert job.one("SELECT note FROM events WHERE id = 7") == "late"


def test_a_killed_server_loses_nothing(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """After a crash between a batch's delete and its commit the retry ends in the same rows and counts."""
    tickets = verified(job)
    site, deletes = job.site, []
    delete = site.database.delete

    def crashing(*arguments: Any) -> bool:
        deletes.append(delete(*arguments))
        if len(deletes) == 2:
            any_mysql.kill()
        return deletes[-1]

    site.database.delete = crashing  # type: ignore[method-assign]
    with pytest.raises(DatabaseUnavailable):
        purge(site, tickets[0].run, tickets[0].chunk)
    any_mysql.restart()
    assert job.one("SELECT purged FROM dbhygiene.chunk WHERE chunk = 1") == 500
    assert purged(job, tickets) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS}
    assert job.one("SELECT count(*) FROM events") == 10_000 - STALE_EVENTS


def test_twins_share_the_work(job: MySqlJob) -> None:
    """Two tasks that purge one chunk at once delete each row once."""
    tickets = verified(job)
    faults: list[BaseException] = []

    def one() -> None:
        for _ in range(5):
            try:
                purge(job.site, tickets[0].run, tickets[0].chunk)
            except (StatementTimedOut, RowsLocked):
                continue
            except BaseException as error:  # noqa: BLE001 - it is told to the test
                faults.append(error)
            return

    twins = [threading.Thread(target=one) for _ in range(2)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    assert not faults
    assert purged(job, tickets) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS}
    assert job.one("SELECT sum(purged) FROM dbhygiene.batch") == STALE_EVENTS


@pytest.mark.rights("restore")
def test_a_restored_run_is_as_it_was(job: MySqlJob) -> None:
    """All purged rows come back bit for bit; restoring twice changes nothing."""
    everything = job.execute("SELECT id, at, note FROM events ORDER BY id")
    certificate = job.run(job.policy())
    wish = Wish(certificate["run"], "back")
    assert restore(job.site, wish).restored == STALE_EVENTS
    assert job.execute("SELECT id, at, note FROM events ORDER BY id") == everything
    assert restore(job.site, Wish(certificate["run"], "once more")).existing == STALE_EVENTS
    assert restore(job.site, wish).earlier == STALE_EVENTS


def test_it_never_hangs_behind_a_metadata_lock(job: MySqlJob) -> None:
    """While an ALTER TABLE waits, or a LOCK TABLES holds, the purge gives up in seconds, and can be retried."""
    tickets = verified(job)
    with job.open() as application:
        cursor = application.cursor()
        cursor.execute("LOCK TABLES events WRITE")
        with pytest.raises(StatementTimedOut):
            purge(job.site, tickets[0].run, tickets[0].chunk)
        cursor.execute("UNLOCK TABLES")
    assert purged(job, tickets) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS}


def test_small_batches_add_up(job: MySqlJob) -> None:
    """Many batches leave one receipt each, without gap or overlap."""
    certificate = job.run(job.policy(pace=Pace(max_batch_rows=300, target_batch_seconds=60)))
    assert figures(certificate) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS}
    ranges = job.execute("SELECT chunk, first_ordinal, end_ordinal FROM dbhygiene.batch ORDER BY chunk, batch")
    for (chunk, _, end), (following, first, _) in pairwise(ranges):
        assert first == (end if chunk == following else 0)


@pytest.mark.rights("restore")
def test_restored_rows_meet_every_kind_of_unique_index(job: MySqlJob) -> None:
    """On prefixes, expressions and columns that are newer than the archive a row collides alone, or not at all."""
    run = job.run(job.policy())["run"]
    job.execute("DELETE FROM events WHERE id < 9997")
    job.execute("CREATE UNIQUE INDEX by_prefix ON events (note(8))")
    job.execute(
        "ALTER TABLE events ADD lowered varchar(60) AS (concat('low ', lower(note))) VIRTUAL, ADD UNIQUE (lowered)"
    )
    job.execute("UPDATE events SET note = 'row 1000 and more' WHERE id = 9997")
    job.execute("ALTER TABLE events MODIFY note varchar(50) COLLATE utf8mb4_bin")
    job.execute("UPDATE events SET note = 'ROW 6' WHERE id = 9998")
    with job.database.session() as session:
        if not session.flavour.mariadb:  # which has no such indexes
            job.execute("CREATE UNIQUE INDEX by_expression ON events (at, (lower(note)))")
            job.execute("UPDATE events SET at = '2023-01-01 05:00:00' WHERE id = 9999")
    assert restore(job.site, Wish(run, "back")) == Restored(STALE_EVENTS - 2, 2)
    back = {row[0] for row in job.execute("SELECT id FROM events WHERE id < 3000")}
    assert set(range(STALE_EVENTS)) - back == {6, 1000}


WIDE = 5_000
"""Bytes of a row; 500 of them are more, in hexadecimal digits, than the packet below."""
PACKET = 4 * 2**20


@pytest.fixture
def wide(job: MySqlJob) -> Iterator[MySqlJob]:
    """Give 600 stale rows of a server with small packets; then the packets are large again."""
    before = int(job.one("SELECT @@GLOBAL.max_allowed_packet"))
    job.execute("DELETE FROM events WHERE id BETWEEN 600 AND 9000")
    job.execute("ALTER TABLE events MODIFY note longtext")
    job.execute(f"UPDATE events SET note = repeat(note, {WIDE} DIV length(note)) WHERE id < 600")
    job.execute("ANALYZE TABLE events")
    job.execute(f"SET GLOBAL max_allowed_packet = {PACKET}")
    yield job
    job.execute(f"SET GLOBAL max_allowed_packet = {before}")


@pytest.mark.rights("restore")
def test_wide_rows_pass_in_small_packets(wide: MySqlJob) -> None:
    """They are verified by content, purged and restored, however few of them a packet takes."""
    everything = wide.execute("SELECT id, at, note FROM events ORDER BY id")
    certificate = wide.run(wide.policy())
    assert figures(certificate) == {"archived": 600, "purged": 600}
    assert restore(wide.site, Wish(certificate["run"], "back")).restored == 600
    assert wide.execute("SELECT id, at, note FROM events ORDER BY id") == everything


def test_a_row_beyond_a_packet_is_told_as_such(wide: MySqlJob) -> None:
    """The error names the setting, and is no lost connection that would be tried again."""
    wide.execute(f"UPDATE events SET note = repeat('x', {PACKET // 2 + 1000}) WHERE id = 7")
    (ticket,) = wide.start(wide.policy(guard={"max_fraction": 1}))
    archive(wide.site, ticket.run, ticket.chunk)
    with pytest.raises(NotLossless, match="max_allowed_packet is 4,194,304: raise that setting"):
        verify(wide.site, ticket.run, ticket.chunk)


def test_transactions_that_the_server_would_chain_end_where_they_end(job: MySqlJob) -> None:
    """Under completion_type = CHAIN a state that was written behind a commit would be lost with the connection."""
    job.execute("SET GLOBAL completion_type = 'CHAIN'")
    try:
        assert figures(job.run(job.policy())) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS}
    finally:
        job.execute("SET GLOBAL completion_type = 'NO_CHAIN'")


@contextmanager
def server_says(job: MySqlJob, setting: str, value: int) -> Iterator[None]:
    """Let the server's own setting, which every new session begins with, be another."""
    job.execute(f"SET GLOBAL {setting} = {value}")
    try:
        yield
    finally:
        job.execute(f"SET GLOBAL {setting} = DEFAULT")


@pytest.mark.rights("restore")
def test_a_server_that_cuts_results_short_hides_no_hold_and_no_outcome(job: MySqlJob) -> None:
    """Rows beyond its sql_select_limit would be purged though they are held, called vanished, and rise again."""
    tickets = verified(job)
    job.execute("UPDATE events SET note = 'changed' WHERE id < 300")
    job.execute("DELETE FROM events WHERE id BETWEEN 300 AND 599")
    job.execute(
        "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
        " SELECT concat('case ', id), %s, concat('id = ', id), 'case', 'legal' FROM events WHERE id BETWEEN 600 AND 749",
        (job.policy().table,),
    )
    with server_says(job, "sql_select_limit", 100):
        left_out = {"drifted": 300, "vanished": 300, "held": 150}
        assert purged(job, tickets) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS - 750, **left_out}
        assert restore(job.site, Wish(tickets[0].run, "back")) == Restored(STALE_EVENTS - 750)
    assert job.one("SELECT count(*) FROM events WHERE id BETWEEN 300 AND 599") == 0


@pytest.mark.rights("all")
@pytest.mark.parametrize(("setting", "value"), [("sql_select_limit", 100), ("max_join_size", 100)])
@pytest.mark.parametrize("beside", [False, True], ids=["parquet", "cold table"])
def test_a_server_that_limits_what_a_query_reads_does_not_limit_the_job(
    job: MySqlJob, setting: str, value: int, *, beside: bool
) -> None:
    """A run through copies beside was restored only in part, and was refused altogether."""
    name = job.parameters["database"]
    archive_at = ColdTable(f"{name}.events_cold") if beside else Parquet("file:///cold")
    with server_says(job, setting, value):
        certificate = job.run(job.policy(archive=archive_at))
        assert figures(certificate) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS}
        assert restore(job.site, Wish(certificate["run"], "back")).restored == STALE_EVENTS


def test_the_ledger_is_made_where_tables_are_compact_by_default(job: MySqlJob) -> None:
    """Its keys are longer than what such a table takes."""
    before = job.one("SELECT @@GLOBAL.innodb_default_row_format")
    job.execute("SET GLOBAL innodb_default_row_format = 'compact'")
    try:
        assert figures(job.run(job.policy())) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS}
    finally:
        job.execute(f"SET GLOBAL innodb_default_row_format = '{before}'")


@pytest.mark.rights("all")
def test_rows_come_back_into_a_table_that_was_given_another_collation(job: MySqlJob) -> None:
    """The way back does not end where somebody has converted the table since: keys are compared by its collation."""
    job.execute("CREATE TABLE named (k varchar(20) PRIMARY KEY, other varchar(20) UNIQUE) COLLATE utf8mb4_general_ci")
    job.execute("INSERT INTO named VALUES ('a', 'x'), ('B', 'y'), ('ß', NULL), ('c', 'z')")
    job.execute("ANALYZE TABLE named")
    policy = job.policy(table=f"{job.parameters['database']}.named", stale=Matching("k <> 'none'"))
    run = job.run(policy)["run"]
    job.execute("ALTER TABLE named CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
    job.execute("INSERT INTO named VALUES ('ss', NULL), ('d', 'Z')")
    assert restore(job.site, Wish(run, "back")) == Restored(2, 2)
    assert job.execute("SELECT k FROM named ORDER BY k") == [("a",), ("B",), ("d",), ("ss",)]


@pytest.mark.rights("all")
def test_a_cold_table_in_a_database_with_a_percent_sign(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """The driver takes what follows for a place of a value, where a statement has any."""
    for name in ("co%sld", "per%%cent", "co%ld"):
        any_mysql.drop_database(name)
        any_mysql.create_database(name)
        try:
            policy = job.policy(name=f"events-{len(name)}", archive=ColdTable(f'"{name}".events'), restored="purge")
            certificate = job.run(policy)
            assert figures(certificate) == {"archived": STALE_EVENTS, "purged": STALE_EVENTS}
            assert restore(job.site, Wish(certificate["run"], name)).restored == STALE_EVENTS
        finally:
            any_mysql.drop_database(name)


@pytest.mark.rights("all")
@pytest.mark.parametrize("place", ["parquet", "cold", "discard"])
def test_a_condition_that_takes_text_for_a_number(job: MySqlJob, place: str) -> None:
    """What a SELECT says of it counts; by itself a strict server would refuse to copy, discard or restore by it."""
    cold = ColdTable(f"{job.parameters['database']}.events_cold")
    archive_at = {"parquet": Parquet("file:///cold"), "cold": cold}.get(place) or Discard(reason="test")
    where = "note < 5 AND CAST(note AS UNSIGNED) = 0"
    stale = OlderThan("at", keep="300 days", zone="UTC", where=where)
    certificate = job.run(job.policy(stale=stale, archive=archive_at))
    assert certificate["rows_purged"] == STALE_EVENTS
    if place != "discard":
        assert restore(job.site, Wish(certificate["run"], "back", where=where)).restored == STALE_EVENTS


@pytest.mark.rights("restore")
def test_a_condition_that_names_the_table_is_refused_before_anything_is_held(job: MySqlJob) -> None:
    """It is asked of archived rows, which have columns and no table."""
    run = job.run(job.policy())["run"]
    with pytest.raises(NotFound, match="name columns alone, without their table"):
        restore(job.site, Wish(run, "back", where="events.id < 5"))
    assert job.execute("SELECT 1 FROM dbhygiene.hold") == []
