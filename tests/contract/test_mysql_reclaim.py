"""What becomes of the space: statistics renewed, or the table copied so that the disk has it back, and told truly."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import MySQLdb
import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_dbhygiene.databases.mysql import reclaim as mysql_reclaim
from airflow_dbhygiene.errors import PolicyInvalid, StatementTimedOut
from airflow_dbhygiene.operators import ReclaimOperator
from airflow_dbhygiene.policy import Guard
from airflow_dbhygiene.steps.reclaim import Reclaimed, reclaim
from tests.mysql_job import EVENTS, MySqlJob
from tests.servers.mysql import MySqlServer

ROOM = 10**9


@pytest.fixture
def job(mysql_database: dict[str, Any], tmp_path: Path) -> MySqlJob:
    """Give ten thousand events with a kilobyte each."""
    job = MySqlJob(folder=tmp_path, parameters=mysql_database)
    for statement in EVENTS:
        job.execute(statement)
    job.execute("ALTER TABLE events MODIFY note varchar(1000)")
    job.execute("UPDATE events SET note = rpad(note, 1000, 'x')")
    job.execute("ANALYZE TABLE events")
    return job


def optimizing(job: MySqlJob, room: int = ROOM, **changes: Any) -> Any:
    """Give a policy that wants the space back."""
    guard = Guard(max_fraction=1, min_chunk_rows=1_000, max_optimize_bytes=room)
    return job.policy(reclaim="optimize", guard=guard, **changes)


def file_bytes(job: MySqlJob) -> int:
    """Look at the table's file."""
    return (Path(job.one("SELECT @@datadir")) / job.parameters["database"] / "events.ibd").stat().st_size


def written(job: MySqlJob, server: MySqlServer) -> tuple[Any, ...]:
    """Give how far the binary log is."""
    return job.execute("SHOW MASTER STATUS" if server.flavour == "mariadb" else "SHOW BINARY LOG STATUS")[0][:2]


def test_optimize_gives_space_back_and_says_how_much(job: MySqlJob) -> None:
    """What the certificate says is what the disk has back."""
    before = file_bytes(job)
    certificate = job.run(optimizing(job))
    done, given = certificate["reclaim"], before - file_bytes(job)
    assert (done["action"], done["skipped"]) == ("optimize", "")
    assert 2e6 < given == done["bytes_given_back"]
    assert done["before"]["disk_bytes"] - done["after"]["disk_bytes"] == given
    assert f"{given / 2**20:,.1f} MiB given back to the disk" in done["line"]
    assert job.one("SELECT count(*) FROM events") == 7_000


def test_replicas_are_not_told(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """Neither OPTIMIZE nor ANALYZE reaches the binary log: a replica would stall for as long."""
    before = written(job, any_mysql)
    with job.database.session() as session:
        assert job.database.optimize(session, optimizing(job)) is None
        job.database.vacuum(session, job.policy().table_name)
    assert written(job, any_mysql) == before


@pytest.mark.parametrize("action", ["vacuum", "analyze"])
def test_vacuum_and_analyze_renew_the_statistics(job: MySqlJob, action: str) -> None:
    """Nothing is copied, and the plan's next estimate is right."""
    job.execute("ALTER TABLE events STATS_AUTO_RECALC = 0")
    before = file_bytes(job)
    certificate = job.run(job.policy(reclaim=action))
    assert certificate["reclaim"]["action"] == action
    assert file_bytes(job) >= before
    estimate = job.one(
        "SELECT n_rows FROM mysql.innodb_table_stats WHERE table_name = 'events' AND database_name = %s",
        (job.parameters["database"],),
    )
    assert 5_000 < estimate < 9_000  # it is a guess from twenty pages


SKIPS = {
    "FULLTEXT": (["ALTER TABLE events ADD FULLTEXT KEY words (note)"], "index words is FULLTEXT", ROOM),
    "SPATIAL": (
        [
            "ALTER TABLE events ADD place point",
            "UPDATE events SET place = point(0, 0)",
            "ALTER TABLE events MODIFY place point NOT NULL, ADD SPATIAL KEY here (place)",
        ],
        "index here is SPATIAL",
        ROOM,
    ),
    "too large": ([], r"the copy may take [\d,]+ bytes, more than guard.max_optimize_bytes 1,000,000", 10**6),
    "too little": (
        ["DELETE FROM events WHERE id BETWEEN 10 AND 2999", "ALTER TABLE events FORCE"],
        "0% of the rows were purged and 0% of the files is free: less than 10%",
        ROOM,
    ),
}


@pytest.mark.parametrize(("statements", "because", "room"), SKIPS.values(), ids=SKIPS)
def test_a_copy_that_would_hurt_is_left_out(job: MySqlJob, statements: list[str], because: str, room: int) -> None:
    """The reason is told, and the statistics are renewed all the same."""
    for statement in [*statements, "ANALYZE TABLE events"]:
        job.execute(statement)
    done = job.run(optimizing(job, room))["reclaim"]
    assert done["action"] == "vacuum"
    assert re.fullmatch(f"{because}.*", done["skipped"])
    assert f"Not optimized: {done['skipped']}" in done["line"]


TABLES = {
    "plain": "a int, KEY (a)",
    "fulltext": "a text, FULLTEXT KEY (a)",
    "spatial": "a point NOT NULL, SPATIAL KEY (a)",
    "virtual": "a int, b int AS (a + 1) VIRTUAL",
    "virtual, indexed": "a int, b int AS (a + 1) VIRTUAL, KEY (b)",
    "generated": "a int, b int AS (a + 1) STORED, KEY (b)",
    "unique text": "a varchar(20) UNIQUE, b longtext",
    "checked": "a int CHECK (a > 0)",
    "json": "a json, b varchar(20) DEFAULT 'x'",
    "child": "a bigint, FOREIGN KEY (a) REFERENCES events (id)",
}
PARTITIONED = " PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (9), PARTITION p1 VALUES LESS THAN MAXVALUE)"
OPTIONS = {"compressed": " ROW_FORMAT=COMPRESSED", "partitioned": PARTITIONED, "old format": " ROW_FORMAT=REDUNDANT"}
SHAPES = [(name, f"(id int PRIMARY KEY, {columns})") for name, columns in TABLES.items()] + [
    (name, f"(id int PRIMARY KEY){options}") for name, options in OPTIONS.items()
]


def test_what_is_called_online_the_server_calls_online(job: MySqlJob) -> None:
    """Of every kind of table the server is asked whether it can be rebuilt while others write to it."""
    disagreed = []
    for name, definition in SHAPES:
        job.execute(f"CREATE OR REPLACE TABLE t {definition}" if maria(job) else f"CREATE TABLE t {definition}")
        with job.database.session() as session:
            reason = next(
                mysql_reclaim._reasons(session, optimizing(job, table=f"{job.parameters['database']}.t")), None
            )
        disagreed += [(name, reason)] if rebuilds_online(job) != (reason is None) else []
        job.execute("DROP TABLE t")
    assert disagreed == []


def rebuilds_online(job: MySqlJob) -> bool:
    """Ask the server, by a statement that must be refused when it is not so."""
    with job.open() as connection, connection.cursor() as cursor:
        try:
            cursor.execute("ALTER TABLE t FORCE, ALGORITHM=INPLACE, LOCK=NONE")
        except MySQLdb.OperationalError as error:
            if error.args[0] not in (1845, 1846):
                raise
            return False
    return True


def maria(job: MySqlJob) -> bool:
    """Tell which of the two answers."""
    return bool(job.one("SELECT version() LIKE '%MariaDB%'"))


@pytest.mark.parametrize(
    "setting", ["old_alter_table = 1", "alter_algorithm = 'COPY'", "innodb_optimize_fulltext_only = 1"]
)
def test_settings_under_which_optimize_is_another_thing(job: MySqlJob, setting: str) -> None:
    """It would lock writers out, or do nothing of the kind."""
    if setting.startswith("alter") and not maria(job):
        return
    name = setting.partition(" ")[0]
    job.execute(f"SET GLOBAL {setting}")
    try:
        with job.database.session() as session:
            reason = str(job.database.optimize(session, optimizing(job)))
            # To MariaDB two of these are one.
            assert re.match(rf"with the server's setting ({name}|alter_algorithm)=(ON|COPY) OPTIMIZE is no", reason)
    finally:
        job.execute(f"SET GLOBAL {name} = DEFAULT")


def test_a_failure_that_the_server_only_tells_of_is_none_of_success(job: MySqlJob) -> None:
    """While a transaction has the table open OPTIMIZE ends with a row that says so: a retry may help."""
    run = job.start(optimizing(job))[0].run
    with job.open(autocommit=False) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM events WHERE id = 1")
        with job.database.session() as session, pytest.raises(StatementTimedOut, match="Lock wait timeout exceeded"):
            job.database.optimize(session, optimizing(job))
        reader.rollback()
    assert reclaim(job.site, run).skipped.startswith("0% of the rows were purged")
    assert job.one("SELECT count(*) FROM events") == 10_000


def test_a_copy_that_is_left_out_is_no_green_task(job: MySqlJob) -> None:
    """The task is skipped with the reason, and its figures are kept; a copy that was made is told."""
    context: Any = {"ti": SimpleNamespace(xcom_push=lambda key, value: kept.update({key: value}))}
    kept: dict[str, Any] = {}
    for room, skipped in ((10**6, True), (ROOM, False)):
        certificate = job.run(optimizing(job, room, name=f"with_{room}", restored="purge"))
        operator = ReclaimOperator(task_id="reclaim", conn_id="my", run=certificate["run"])
        if skipped:
            with pytest.raises(AirflowSkipException, match="Not optimized: the copy may take"):
                operator.run_step(job.site, context)
            assert kept["reclaimed"]["action"] == "vacuum"
            job.execute("UPDATE events SET at = '2023-01-01' WHERE id BETWEEN 3000 AND 6000")
        else:
            assert operator.run_step(job.site, context)["action"] == "optimize"


def test_room_must_be_named() -> None:
    """No server of the family tells over SQL how much disk is free: whoever wants a copy must know."""
    with pytest.raises(PolicyInvalid, match=r"say by guard\.max_optimize_bytes"):
        MySqlJob(parameters={"database": "shop"}).policy(reclaim="optimize")


def test_growth_is_no_gift() -> None:
    """A table that others filled meanwhile has given nothing back."""
    done = Reclaimed("optimize", "", {"disk_bytes": 10.0}, {"disk_bytes": 30.0}, 0.1, 5)
    assert done.bytes_given_back == -20
