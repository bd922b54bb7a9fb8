"""How much clutter there is on MariaDB and MySQL; what the server does not know is refused, and never small."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_dbhygiene.errors import NotFound, PlanRefused, PolicyInvalid
from airflow_dbhygiene.policy import Guard, OlderThan
from airflow_dbhygiene.steps.measure import Clutter, measure
from tests.job import window_of
from tests.mysql_job import EVENTS, MySqlJob

OF_FILES = ("disk_bytes", "free_bytes", "free_ratio")


@pytest.fixture
def job(mysql_database: dict[str, Any], tmp_path: Path) -> MySqlJob:
    """Give ten thousand events."""
    job = MySqlJob(folder=tmp_path, parameters=mysql_database)
    for statement in EVENTS:
        job.execute(statement)
    return job


def clutter(job: MySqlJob, limits: dict[str, float], **changes: Any) -> Clutter:
    """Measure under a policy."""
    policy = job.policy(**changes)
    return measure(job.site, policy, window_of(policy), limits)


def make_big(job: MySqlJob, name: str = "events") -> None:
    """Fill a table with forty megabytes, of which the server has no statistics yet."""
    job.execute(f"ALTER TABLE {name} STATS_AUTO_RECALC = 0, MODIFY note varchar(2000)")
    job.execute(
        f"INSERT INTO {name} SELECT a.id + 10000 * (b.id + 1), a.at, repeat('x', 1000) FROM events a"
        " JOIN (SELECT 0 AS id UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) b ORDER BY 1"
    )


def test_stale_rows_and_their_age(job: MySqlJob) -> None:
    """They are counted as far as the limit, and the age is by the server's clock."""
    now = float(job.one("SELECT unix_timestamp()"))
    found = clutter(job, {"stale_rows": 1_000, "oldest_age_seconds": 60})
    assert found.measured["stale_rows"] == 1_000
    assert found.measured["oldest_age_seconds"] == pytest.approx(now - 1_672_531_200, abs=60)
    below = clutter(job, {"stale_rows": 3_001})
    assert (below.measured["stale_rows"], below.is_above) == (3_000, False)
    young = clutter(job, {"oldest_age_seconds": 1}, stale=OlderThan("at", keep="10 years", zone="UTC"))
    assert (young.measured["oldest_age_seconds"], young.is_above) == (0, False)


def test_the_age_of_a_moment_depends_on_no_zone(job: MySqlJob) -> None:
    """A TIMESTAMP is one: the policy's zone is keep's calendar alone."""
    job.execute("ALTER TABLE events MODIFY at timestamp NOT NULL")
    now = float(job.one("SELECT unix_timestamp()"))
    for zone in ("UTC", "Asia/Tokyo"):
        found = clutter(job, {"oldest_age_seconds": 60}, stale=OlderThan("at", keep="300 days", zone=zone))
        oldest = float(job.one("SELECT unix_timestamp(min(at)) FROM events"))
        assert found.measured["oldest_age_seconds"] == pytest.approx(now - oldest, abs=60)


def test_a_date_that_is_none_has_no_age(job: MySqlJob) -> None:
    """A lenient server takes them: the row is named, and the sensor does not break."""
    with closing(job.open()) as lenient, closing(lenient.cursor()) as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
        cursor.execute("UPDATE events SET at = '2013-02-31' WHERE id = 5")
    with pytest.raises(PlanRefused, match="at of its oldest stale row is 2013-02-31 00:00:00, which is no date"):
        clutter(job, {"oldest_age_seconds": 60})


def test_sizes_are_the_servers(job: MySqlJob) -> None:
    """Rows and indexes by the statistics, files as they are on the disk."""
    make_big(job)
    job.execute("ANALYZE TABLE events")
    found = clutter(job, {"table_bytes": 1, "index_bytes": 1, "disk_bytes": 1}).measured
    (file,) = Path(job.one("SELECT @@datadir")).glob(f"{job.parameters['database']}/events.ibd")
    assert found["disk_bytes"] == pytest.approx(file.stat().st_size, rel=0.01)
    assert 40e6 < found["table_bytes"] < found["disk_bytes"]
    assert 1e5 < found["index_bytes"] < 1e7


def test_free_space_shows_what_a_purge_left(job: MySqlJob) -> None:
    """After most rows are gone much of the file is free."""
    make_big(job)
    before = clutter(job, {"free_ratio": 0.5}).measured["free_ratio"]
    job.execute("DELETE FROM events WHERE id BETWEEN 10000 AND 46000")
    wait_for_purge(job, "free_ratio", 0.3)
    found = clutter(job, {"free_ratio": 0.3, "free_bytes": 1e7})
    assert found.reached == ("free_ratio", "free_bytes")
    assert before < 0.25


def wait_for_purge(job: MySqlJob, name: str, least: float) -> None:
    """Wait until the server has purged deleted rows' last versions."""
    for _ in range(200):
        if clutter(job, {name: least}).is_above:
            return
        job.execute("DO sleep(0.1)")
    raise AssertionError(f"{name} stays {clutter(job, {name: least}).measured}")


def test_partitions_count_together_and_odd_names_are_found(job: MySqlJob) -> None:
    """Their files have names of their own; a table whose name differs by case is another one."""
    job.execute(
        "CREATE TABLE `Ta ble-é%` (id bigint, at datetime, PRIMARY KEY (id, at)) PARTITION BY RANGE (id)"
        " (PARTITION `p 0` VALUES LESS THAN (5000), PARTITION p1 VALUES LESS THAN MAXVALUE)"
    )
    job.execute("CREATE TABLE `ta ble-é%` (id bigint PRIMARY KEY, at datetime)")
    database = job.parameters["database"]
    two, one = (
        clutter(job, {"disk_bytes": 1}, table=f'{database}."{name}"').measured["disk_bytes"]
        for name in ("Ta ble-é%", "ta ble-é%")
    )
    assert two == 2 * one > 0


def test_statistics_from_another_time_are_refused(job: MySqlJob) -> None:
    """Forty megabytes came, and the statistics say thirty kilobytes: a limit would never be reached."""
    job.execute("CREATE TABLE later LIKE events")
    make_big(job, "later")
    table = f"{job.parameters['database']}.later"
    for name in ("table_bytes", "index_bytes"):
        with pytest.raises(PlanRefused, match=r"cannot be believed.*Run ANALYZE TABLE"):
            clutter(job, {name: 10**6}, table=table)
    assert clutter(job, {"disk_bytes": 10**6}, table=table).is_above
    job.execute("ANALYZE TABLE later")
    assert clutter(job, {"table_bytes": 10**6}, table=table).is_above


@pytest.mark.parametrize("name", OF_FILES)
def test_a_table_without_a_file_of_its_own_is_refused(job: MySqlJob, name: str) -> None:
    """In a shared tablespace the free space is everybody's."""
    job.execute("SET GLOBAL innodb_file_per_table = 0")
    try:
        job.execute("CREATE TABLE shared LIKE events")
        table = f"{job.parameters['database']}.shared"
        with pytest.raises(PlanRefused, match="no file of its own"):
            clutter(job, {name: 0.5}, table=table)
        assert not clutter(job, {"table_bytes": 10**9}, table=table).is_above
    finally:
        job.execute("SET GLOBAL innodb_file_per_table = 1")


def test_the_history_list_grows_while_a_snapshot_is_open(job: MySqlJob) -> None:
    """And is refused where the server does not count it."""
    with job.open(autocommit=False) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM events")
        for number in range(60):
            job.execute(f"UPDATE events SET note = concat(note, '!') WHERE id = {number}")
        assert clutter(job, {"history_list_length": 50}).is_above
        reader.rollback()
    if job.one("SELECT version() LIKE '%MariaDB%'"):
        return  # it always counts
    job.execute("SET GLOBAL innodb_monitor_disable = 'trx_rseg_history_len'")
    try:
        with pytest.raises(PlanRefused, match="innodb_monitor_enable"):
            clutter(job, {"history_list_length": 50})
    finally:
        job.execute("SET GLOBAL innodb_monitor_enable = 'trx_rseg_history_len'")


@pytest.mark.parametrize("name", ["dead_tuples", "dead_ratio"])
def test_what_is_of_postgresql_is_refused_by_name(job: MySqlJob, name: str) -> None:
    """Zero dead tuples for ever would call every table clean."""
    known = "stale_rows, oldest_age_seconds, free_bytes, free_ratio, history_list_length, table_bytes"
    with pytest.raises(PolicyInvalid, match=re.escape(f"at_least.{name} is not measured on mysql: take {known}")):
        clutter(job, {"stale_rows": 1, name: 1})


@pytest.mark.parametrize("name", ["table_bytes", "free_bytes", "stale_rows"])
def test_what_is_not_there_is_not_small(job: MySqlJob, name: str) -> None:
    """A table that was renamed must not read as "no clutter" for ever; nor does a view have a size."""
    database = job.parameters["database"]
    with pytest.raises(NotFound, match="does not exist"):
        clutter(job, {name: 1}, table=f"{database}.event")
    job.execute("CREATE VIEW seen AS SELECT * FROM events")
    with pytest.raises(PlanRefused):
        clutter(job, {name: 1}, table=f"{database}.seen", guard=Guard())


def test_ranges_of_the_age_lead_to_it_as_an_index_does(job: MySqlJob) -> None:
    """The other partitions are not read."""
    job.execute("ALTER TABLE events DROP KEY events_at_id, DROP PRIMARY KEY, ADD PRIMARY KEY (id, at)")
    with pytest.raises(PlanRefused):
        clutter(job, {"stale_rows": 1}, guard=Guard())
    job.execute("ALTER TABLE events PARTITION BY RANGE (to_days(at)) (PARTITION rest VALUES LESS THAN MAXVALUE)")
    assert clutter(job, {"stale_rows": 1}, guard=Guard()).is_above


def test_a_count_without_an_index_is_refused(job: MySqlJob) -> None:
    """It would read the whole table every minute; the message has the index that helps, in this server's own words."""
    job.execute("ALTER TABLE events DROP KEY events_at_id")
    with pytest.raises(PlanRefused, match=r"ALTER TABLE `\w+`\.`events` ADD INDEX \(`at`, `id`\)"):
        clutter(job, {"stale_rows": 1}, guard=Guard())
