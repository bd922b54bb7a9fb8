"""What a plan on MariaDB and MySQL refuses, by name; and which index its statements use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import MySQLdb
import pytest

from airflow_dbhygiene.databases.mysql import MySqlDatabase, walk
from airflow_dbhygiene.databases.protocol import Column, Selection
from airflow_dbhygiene.errors import PlanRefused, PolicyInvalid, PrivilegeMissing, ReadOnlyServer
from airflow_dbhygiene.policy import ColdTable, Discard, Guard, Matching, OlderThan, Pace, Parquet
from airflow_dbhygiene.policy.names import TableName
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.verify import verify
from tests.mysql_job import EVENTS, MySqlJob
from tests.servers.mysql import MySqlServer

CHILD = "CREATE TABLE child (e bigint, CONSTRAINT follows FOREIGN KEY (e) REFERENCES events (id)"


@pytest.fixture
def job(mysql_database: dict[str, Any], tmp_path: Path) -> MySqlJob:
    """Give ten thousand events."""
    job = MySqlJob(folder=tmp_path, parameters=mysql_database)
    for statement in EVENTS:
        job.execute(statement)
    return job


def refused(job: MySqlJob, because: str, **changes: Any) -> None:
    """Plan, and expect a refusal that says so."""
    with pytest.raises(PlanRefused, match=because):
        job.plan(job.policy(**changes))


@pytest.mark.parametrize(
    ("statements", "because"),
    [
        (["ALTER TABLE events DROP PRIMARY KEY"], "no primary key"),
        (["ALTER TABLE events ENGINE=MyISAM"], "engine is MyISAM"),
        (["CREATE TRIGGER t AFTER DELETE ON events FOR EACH ROW SET @gone = 1"], "trigger t fires on DELETE"),
        (["ALTER TABLE events ADD _dbhygiene_version int"], "row versions"),
        (["ALTER TABLE events ADD mood enum('😀', 'x')"], r"column mood has type enum\('\?','x'\).* Use other labels"),
        (["ALTER TABLE events ADD moods set('é😀')"], "column moods .* Use other labels"),
        (["ALTER TABLE events ADD answer enum('', 'x')"], "column answer .* cannot be archived exactly"),
        (
            [
                "ALTER TABLE events ADD k varchar(20) NOT NULL DEFAULT ''",
                "ALTER TABLE events DROP PRIMARY KEY, ADD PRIMARY KEY (id, k(3))",
            ],
            "prefixes or descending",
        ),
        (
            [f"{CHILD} ON DELETE CASCADE)"],
            "follows.*ON DELETE CASCADE",
        ),
        (
            [f"{CHILD} ON DELETE SET NULL)"],
            "follows.*ON DELETE SET NULL",
        ),
        (
            [
                f"{CHILD})",
                "INSERT INTO child VALUES (7)",
            ],
            "rows of .*child.* point at stale rows",
        ),
    ],
)
def test_what_makes_a_purge_unsafe(job: MySqlJob, statements: list[str], because: str) -> None:
    """Each is refused before anything happens."""
    for statement in statements:
        job.execute(statement)
    job.execute("ANALYZE TABLE events")
    refused(job, because)


def test_a_system_versioned_table(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """Its deleted rows would live on as history."""
    if any_mysql.flavour == "mariadb":
        job.execute("ALTER TABLE events ADD SYSTEM VERSIONING")
        refused(job, "system-versioned")


def test_a_view(job: MySqlJob) -> None:
    """Only tables can be purged."""
    job.execute("CREATE VIEW seen AS SELECT * FROM events")
    refused(job, "it is a view", table=f"{job.parameters['database']}.seen")


def test_foreign_keys_of_other_schemas_with_odd_names(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """They act wherever they are, and are seen whatever they are called."""
    any_mysql.drop_database("odd db-é")
    any_mysql.create_database("odd db-é")
    try:
        job.execute(
            "CREATE TABLE `odd db-é`.`chi$ld` (e bigint, CONSTRAINT `fk ü` FOREIGN KEY (e)"
            f" REFERENCES {job.parameters['database']}.events (id) ON DELETE CASCADE)"
        )
        refused(job, r"fk ü of `odd db-é`.`chi\$ld` \(`e`\) is ON DELETE CASCADE")
    finally:
        any_mysql.drop_database("odd db-é")


def test_foreign_keys_that_point_at_a_table_with_an_odd_name(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """InnoDB's own views spell such a name in another way on MariaDB."""
    any_mysql.drop_database("my-shop é")
    any_mysql.create_database("my-shop é")
    try:
        job.execute("CREATE TABLE `my-shop é`.`ev$nts` LIKE events")
        job.execute("INSERT INTO `my-shop é`.`ev$nts` SELECT * FROM events")
        job.execute("ANALYZE TABLE `my-shop é`.`ev$nts`")
        job.execute(
            "CREATE TABLE child (e bigint, CONSTRAINT fk FOREIGN KEY (e) REFERENCES `my-shop é`.`ev$nts` (id)"
            " ON DELETE CASCADE)"
        )
        refused(job, "foreign key fk of .* is ON DELETE CASCADE", table='"my-shop é"."ev$nts"')
    finally:
        job.execute("DROP TABLE IF EXISTS child")
        any_mysql.drop_database("my-shop é")


def test_a_foreign_key_that_points_at_a_namesake(job: MySqlJob) -> None:
    """`Events` is another table than `events`, and what hangs on it is not our concern."""
    job.execute("CREATE TABLE Events LIKE events")
    job.execute("CREATE TABLE child (e bigint, FOREIGN KEY (e) REFERENCES Events (id) ON DELETE CASCADE)")
    assert job.plan(job.policy()).stale_rows == 3_000


TREE = (
    "CREATE TABLE tree (id int PRIMARY KEY, parent int, note text, FOREIGN KEY (parent) REFERENCES tree (id))",
    "INSERT INTO tree VALUES (1, NULL, 'x'), (2, 1, 'x'), (3, 2, 'x'), (4, NULL, 'x'), (5, NULL, 'x')",
    "ANALYZE TABLE tree",
)


@pytest.mark.parametrize("place", ["parquet", "cold", "discard"])
def test_rows_with_children_in_their_own_table_can_be_left_out(job: MySqlJob, place: str) -> None:
    """Neither server lets a DELETE look a second time at the table that it deletes from."""
    for statement in TREE:
        job.execute(statement)
    name = job.parameters["database"]
    archive_at = {"parquet": Parquet("file:///cold"), "cold": ColdTable(f"{name}.tree_cold")}.get(place)
    archive_at = archive_at or Discard(reason="test")
    policy = job.policy(table=f"{name}.tree", stale=Matching("note = 'x'"), children="skip", archive=archive_at)
    tickets = job.start(policy)
    for ticket in tickets if place != "discard" else ():
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    job.execute("UPDATE tree SET note = 'changed' WHERE id = 4")
    for ticket in tickets:
        purge(job.site, ticket.run, ticket.chunk)
    left = [row[0] for row in job.execute("SELECT id FROM tree ORDER BY id")]
    # A discard comes back to the parents of what is gone; an archive does not hold them.
    assert left == ([4] if place == "discard" else [1, 2, 4])


@pytest.mark.parametrize("children", ["skip", "refuse"])
def test_rows_with_children_can_be_left_out(job: MySqlJob, children: str) -> None:
    """With children "skip" a row that another points at stays."""
    job.execute("CREATE TABLE child (e bigint, FOREIGN KEY (e) REFERENCES events (id))")
    job.execute("INSERT INTO child VALUES (7), (9000)")
    if children == "refuse":
        refused(job, "point at stale rows")
        return
    certificate = job.run(job.policy(children="skip"))
    assert certificate["rows_purged"] == 2_999
    assert job.one("SELECT count(*) FROM events WHERE id = 7") == 1


def limited(job: MySqlJob, server: MySqlServer, *grants: str) -> MySqlJob:
    """Work as a user with these rights alone."""
    server.execute("DROP USER IF EXISTS limited@'127.0.0.1'")
    server.execute("CREATE USER limited@'127.0.0.1' IDENTIFIED BY 'limited'")
    for grant in grants:
        server.execute(f"GRANT {grant} TO limited@'127.0.0.1'")
    parameters = {**job.parameters, "user": "limited", "password": "limited"}
    return MySqlJob(folder=job.folder, parameters=parameters)


def test_missing_rights_are_named_with_their_grants(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """Without PROCESS and TRIGGER dangers are invisible: no plan then. With the grants that are named, all works."""
    schema = job.parameters["database"]
    poor = limited(job, any_mysql, f"SELECT, DELETE ON `{schema}`.*")
    policy = poor.policy(
        reclaim="optimize", guard=Guard(max_fraction=1, min_chunk_rows=1_000, max_optimize_bytes=10**9)
    )
    with pytest.raises(PrivilegeMissing) as refusal:
        poor.plan(policy)
    named = str(refusal.value).split("GRANT ")[1:]
    local = ["OPTIMIZE_LOCAL_TABLE"] if any_mysql.flavour == "mysql" else []
    assert [part.partition(" ON ")[0] for part in named] == ["TRIGGER, INSERT", "PROCESS", *local]
    for statement in named:
        any_mysql.execute("GRANT " + statement.partition(";")[0])
    with pytest.raises(PrivilegeMissing) as refusal:
        poor.run(policy)
    for statement in str(refusal.value).partition("runs once: ")[2].split(";"):
        if statement.strip():
            any_mysql.execute(statement)
    certificate = poor.run(policy)
    assert (certificate["state"], certificate["reclaim"]["action"]) == ("done", "optimize")


def test_without_reclaim_nothing_is_ever_inserted(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """The rights that the plan then asks for are enough."""
    schema = job.parameters["database"]
    poor = limited(
        job, any_mysql, f"SELECT, DELETE, TRIGGER ON `{schema}`.events", "PROCESS ON *.*", "ALL ON dbhygiene.*"
    )
    job.execute("CREATE DATABASE dbhygiene")
    with pytest.raises(PrivilegeMissing, match="GRANT INSERT ON"):
        poor.plan(poor.policy(reclaim="analyze"))
    assert poor.run(poor.policy(reclaim="none"))["state"] == "done"


def test_a_read_only_server(job: MySqlJob) -> None:
    """A replica is refused, whatever rights the user has."""
    job.execute("SET GLOBAL read_only = 1")
    try:
        with pytest.raises(ReadOnlyServer):
            job.plan(job.policy())
    finally:
        job.execute("SET GLOBAL read_only = 0")


def test_a_statement_binlog(job: MySqlJob) -> None:
    """Deletes that are replayed by their text could hit other rows."""
    job.execute("SET GLOBAL binlog_format = 'STATEMENT'")
    try:
        refused(job, "binlog_format is STATEMENT")
    finally:
        job.execute("SET GLOBAL binlog_format = 'ROW'")


@pytest.mark.parametrize(
    "where",
    [
        "rand() < 0.5", "uuid() = note", "@x = 1", "@@version = note", "note = (SELECT 1)", "sysdate() > at",
        "id = 1 /*! OR 1=1 */", "id = 1 -- x", "id = 1; DROP TABLE events", "shaky(id) = 1", "last_insert_id() = id",
        "rownum() < 5", "sys_guid() = note", "master_gtid_wait('0-1-99', 9) = 0",
        "wait_for_executed_gtid_set('3E11FA47-71CA-11E1-9E33-C80AA9429562:9', 9) = 0",
    ],
)  # fmt: skip
def test_conditions_that_could_answer_differently(job: MySqlJob, where: str) -> None:
    """A user's SQL is one boolean expression that always says the same of the same row."""
    job.execute("CREATE FUNCTION shaky(n int) RETURNS int READS SQL DATA NOT DETERMINISTIC RETURN n")
    with pytest.raises(PolicyInvalid):
        job.plan(job.policy(stale=Matching(where)))


def test_a_backslash_means_the_same_to_parser_and_server(job: MySqlJob) -> None:
    """Whatever the server's own sql_mode is, a quote after a backslash does not end the string."""
    job.execute("UPDATE events SET note = 'it\\'s' WHERE id = 3")
    job.execute("SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'")
    try:
        certificate = job.run(job.policy(stale=Matching(r"note = 'it\'s'")))
        assert certificate["rows_purged"] == 1
    finally:
        job.execute("SET GLOBAL sql_mode = DEFAULT")


def test_walks_use_their_index(job: MySqlJob) -> None:
    """The expanded comparison of rows is a range of the index; what it stands for would be a scan of it."""
    database = MySqlDatabase(job.open)
    columns = (Column("id", "bigint", "native"), Column("at", "datetime", "native"))
    table = TableName(job.parameters["database"], "events")
    selection = Selection(table, columns, ("id",), ("at", "id"), "`at` < '2023-06-01'")
    with database.session() as session:
        condition = walk.compare(selection, ">=", ("2023-02-01 00:00:00", "744"))
        table_and_index = walk.source(session, selection)
        plan = walk.explain(session, f"SELECT id FROM {table_and_index} WHERE {condition} ORDER BY at, id")
        assert (plan["type"], plan["key"]) == ("range", "events_at_id")
        assert plan["key_len"] == "13"  # both columns: 5 bytes of a datetime, 8 of a bigint
        assert "filesort" not in plan["extra"]
        naive = f"SELECT id FROM {table_and_index} WHERE (at, id) >= ('2023-02-01', 744)"
        assert walk.explain(session, naive)["type"] == "index"
        assert not database.full_scans(session, selection, 1_000)


def test_an_index_on_age_alone_will_do(job: MySqlJob) -> None:
    """InnoDB ends every index with the primary key; invisible, descending and prefix indexes do not count."""
    policy = job.policy()
    schema = job.parameters["database"]

    def chosen() -> tuple[str, ...]:
        database = job.database
        with database.session() as session:
            return database.choose_walk(session, policy, database.inspect(session, policy), "TRUE", 0.0)

    job.execute("ALTER TABLE events DROP KEY events_at_id")
    assert chosen() == ("id",)
    job.execute("ALTER TABLE events ADD KEY by_age (at)")
    assert chosen() == ("at", "id")
    hide = (
        "ALTER INDEX by_age IGNORED"
        if "maria" in job.one("SELECT lower(version())")
        else "ALTER INDEX by_age INVISIBLE"
    )
    job.execute(f"ALTER TABLE `{schema}`.events {hide}")
    assert chosen() == ("id",)


def test_a_replica_lag_that_nobody_can_tell(job: MySqlJob) -> None:
    """The plan says so, not the purge."""
    refused(job, "max_replica_lag_seconds: a server of this kind cannot tell", pace=Pace(max_replica_lag_seconds=5))


def test_a_child_that_may_not_be_read(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """Whether its rows point at stale ones could not be seen, nor whether it has an index."""
    database = job.parameters["database"]
    job.execute("CREATE TABLE child (e bigint, CONSTRAINT follows FOREIGN KEY (e) REFERENCES events (id))")
    rights = f"SELECT, DELETE, INSERT, TRIGGER ON `{database}`.events"
    poor = limited(job, any_mysql, rights, "PROCESS ON *.*")
    refused(poor, "follows of .*child.* has no index on .*, or the user may not see it: .*GRANT SELECT ON .*child")
    any_mysql.execute(f"GRANT SELECT ON `{database}`.child TO limited@'127.0.0.1'")
    assert poor.plan(poor.policy()).stale_rows == 3_000


def test_a_foreign_key_without_an_index(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """MariaDB lets one drop it while keys are not checked; MySQL does not."""
    job.execute("CREATE TABLE child (e bigint, CONSTRAINT follows FOREIGN KEY (e) REFERENCES events (id))")
    with job.open() as connection, connection.cursor() as cursor:
        cursor.execute("SET foreign_key_checks = 0")
        if any_mysql.flavour == "mysql":
            with pytest.raises(MySQLdb.OperationalError, match="needed in a foreign key"):
                cursor.execute("ALTER TABLE child DROP KEY follows")
            return
        cursor.execute("ALTER TABLE child DROP KEY follows")
    refused(job, "follows of .*child.* has no index on .*: each deleted row would scan that table")


def test_an_age_needs_its_zone(job: MySqlJob) -> None:
    """A DATETIME says nothing of its zone: the policy does."""
    with pytest.raises(PolicyInvalid, match=r"stale\.zone is missing"):
        job.plan(job.policy(stale=OlderThan("at", keep="300 days")))
