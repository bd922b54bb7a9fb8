"""Partitioned tables and foreign keys: the whole job, and the way back, on every engine."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dbhygiene.databases.protocol import Restored
from airflow_dbhygiene.errors import PlanRefused, RowsReferenced, SchemaChanged, StatementFailed
from airflow_dbhygiene.policy import Guard, Matching, Pace
from airflow_dbhygiene.steps.restore import Wish, restore
from tests.job import Job
from tests.mysql_job import MySqlJob

pytestmark = pytest.mark.rights("restore")

ROWS, STALE = 600, 400

POSTGRES = {
    "range": (
        "PARTITION BY RANGE (id)",
        (
            "CREATE TABLE low PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (100);"
            "CREATE TABLE middle PARTITION OF parted FOR VALUES FROM (100) TO (300);"
            "CREATE TABLE rest PARTITION OF parted DEFAULT"
        ),
    ),
    "list": (
        "PARTITION BY LIST (place)",
        (
            "CREATE TABLE low PARTITION OF parted FOR VALUES IN ('p0', 'p1');"
            "CREATE TABLE middle PARTITION OF parted FOR VALUES IN ('p2');"
            "CREATE TABLE rest PARTITION OF parted DEFAULT"
        ),
    ),
    "hash, each by range again": (
        "PARTITION BY HASH (id)",
        (
            "CREATE TABLE low PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
            "CREATE TABLE rest PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY RANGE (place);"
            "CREATE TABLE middle PARTITION OF rest FOR VALUES FROM ('p0') TO ('p2');"
            "CREATE TABLE other PARTITION OF rest DEFAULT"
        ),
    ),
}
MYSQL = {
    "range": "PARTITION BY RANGE (id) (PARTITION low VALUES LESS THAN (100), PARTITION middle VALUES LESS THAN (300),"
    " PARTITION rest VALUES LESS THAN MAXVALUE)",
    "list": "PARTITION BY LIST COLUMNS (place) (PARTITION low VALUES IN ('p0', 'p1'), PARTITION middle VALUES IN ('p2'),"
    " PARTITION rest VALUES IN ('p3', 'p4'))",
    "hash": "PARTITION BY HASH (id) PARTITIONS 3",
    "key": "PARTITION BY KEY (place) PARTITIONS 3",
    "range, each by hash again": "PARTITION BY RANGE (id) SUBPARTITION BY HASH (id) SUBPARTITIONS 2"
    " (PARTITION low VALUES LESS THAN (100), PARTITION rest VALUES LESS THAN MAXVALUE)",
}
MOVED = {
    False: (
        (
            "ALTER TABLE parted DETACH PARTITION rest; DROP TABLE rest;"
            "CREATE TABLE rest PARTITION OF parted FOR VALUES FROM (300) TO (1000)"
        ),
        (
            "DROP TABLE low; ALTER TABLE parted DETACH PARTITION middle;"
            "ALTER TABLE parted ATTACH PARTITION middle FOR VALUES FROM (0) TO (300)"
        ),
    ),
    True: ("ALTER TABLE parted REORGANIZE PARTITION low, middle INTO (PARTITION wide VALUES LESS THAN (300))",),
}


def lay_out(job: Job, kind: str) -> None:
    """Make a table that is partitioned so, of six hundred rows in the reverse order of their partitions."""
    key = "PRIMARY KEY (id, place)"
    columns = "id int NOT NULL, place varchar(10) NOT NULL, at datetime NOT NULL, note varchar(20)"
    rows = [f"({ROWS - n}, 'p{n % 5}', '2023-01-01 00:00:00', 'row {n}')" for n in range(ROWS)]
    if isinstance(job, MySqlJob):
        statements = [f"CREATE TABLE parted ({columns}, {key}) {MYSQL[kind]}"]
    else:
        by, parts = POSTGRES[kind]
        statements = [f"CREATE TABLE parted ({columns.replace('datetime', 'timestamp')}, {key}) {by}; {parts}"]
    for statement in (*statements, f"INSERT INTO parted VALUES {', '.join(rows)}"):
        job.execute(statement)
    job.execute("ANALYZE TABLE parted" if isinstance(job, MySqlJob) else "ANALYZE parted")


def policy_of(job: Job, table: str, **changes: Any) -> Any:
    """Give a policy of small steps for a table beside events."""
    schema = job.policy().table.partition(".")[0]
    return job.policy(
        **{
            "name": table,
            "table": f"{schema}.{table}",
            "stale": Matching(f"id <= {STALE}"),
            "guard": Guard(max_fraction=1, min_chunk_rows=150),
            "pace": Pace(max_batch_rows=100, target_batch_seconds=60),
        }
        | changes
    )


def rows_of(job: Job, table: str = "parted") -> list[tuple[Any, ...]]:
    """Give all rows."""
    return job.execute(f"SELECT * FROM {table} ORDER BY id")


def test_a_partitioned_table_is_one_table(events_job: Job, subtests: pytest.Subtests) -> None:
    """Stale rows leave whichever partition they are in, and return to it, however the table is partitioned."""
    for number, kind in enumerate(MYSQL if isinstance(events_job, MySqlJob) else POSTGRES):
        with subtests.test(kind):
            lay_out(events_job, kind)
            before = rows_of(events_job)
            policy = policy_of(events_job, "parted", name=f"parted-{number}", restored="purge")
            certificate = events_job.run(policy)
            assert (certificate["rows_purged"], certificate["careful_batches"]) == (STALE, 0)
            assert rows_of(events_job) == before[STALE:]
            assert restore(events_job.site, Wish(certificate["run"], f"back {number}")) == Restored(STALE, 0)
            assert rows_of(events_job) == before
        events_job.execute("DROP TABLE parted")


def test_an_empty_partitioned_table_has_nothing_stale(events_job: Job) -> None:
    """Each empty partition has its page, which is no sign that the server does not know its rows."""
    lay_out(events_job, "range")
    events_job.execute("DELETE FROM parted WHERE id > 1")
    events_job.execute("ANALYZE TABLE parted" if isinstance(events_job, MySqlJob) else "VACUUM ANALYZE parted")
    assert events_job.run(policy_of(events_job, "parted"))["rows_purged"] == 1
    events_job.execute("ANALYZE TABLE parted" if isinstance(events_job, MySqlJob) else "VACUUM ANALYZE parted")
    assert events_job.plan(policy_of(events_job, "parted", name="again")).stale_rows == 0


def test_rows_return_to_the_partitions_that_there_are(events_job: Job) -> None:
    """Partitions were merged since: rows go where such rows go now."""
    lay_out(events_job, "range")
    before = rows_of(events_job)
    run = events_job.run(policy_of(events_job, "parted"))["run"]
    mysql = isinstance(events_job, MySqlJob)
    kept = before[STALE:]
    for statement in MOVED[mysql]:
        events_job.execute(statement)
    if not mysql:  # the rows of the dropped partition were fresh
        listed = ", ".join(f"({row[0]}, '{row[1]}', '{row[2]}', '{row[3]}')" for row in kept)
        events_job.execute(f"INSERT INTO parted VALUES {listed}")
    assert restore(events_job.site, Wish(run, "back")) == Restored(STALE, 0)
    assert rows_of(events_job) == before


def test_a_row_without_a_partition_stops_the_restore(events_job: Job) -> None:
    """Its partition was dropped, and none takes its place: the error names the table, and nothing is half done."""
    lay_out(events_job, "list")
    run = events_job.run(policy_of(events_job, "parted"))["run"]
    mysql = isinstance(events_job, MySqlJob)
    drop = "ALTER TABLE parted DROP PARTITION middle, rest" if mysql else "DROP TABLE middle, rest"
    events_job.execute(drop)
    left = rows_of(events_job)
    with pytest.raises(StatementFailed, match=r"partition"):
        restore(events_job.site, Wish(run, "back"))
    assert rows_of(events_job) == left


# Foreign keys

FAMILY = (
    "CREATE TABLE parents (id int PRIMARY KEY, at {moment}, note varchar(20))",
    (
        "CREATE TABLE children (id int PRIMARY KEY, parent int NOT NULL, note varchar(20),"
        " CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parents (id))"
    ),
    "CREATE INDEX children_parent ON children (parent)",
)


def test_parents_and_children_leave_and_return_in_order(events_job: Job) -> None:
    """Children first on the way out, parents first on the way back; the other order is refused, and told."""
    moment = "datetime" if isinstance(events_job, MySqlJob) else "timestamp"
    for statement in FAMILY:
        events_job.execute(statement.format(moment=moment))
    values = [f"({n}, '2023-01-01 00:00:00', 'parent {n}')" for n in range(ROWS)]
    events_job.execute(f"INSERT INTO parents VALUES {', '.join(values)}")
    values = [f"({n}, {n % ROWS}, 'child {n}')" for n in range(2 * ROWS)]
    events_job.execute(f"INSERT INTO children VALUES {', '.join(values)}")
    for table in ("parents", "children"):
        events_job.execute(f"ANALYZE {'TABLE ' * isinstance(events_job, MySqlJob)}{table}")
    before = rows_of(events_job, "parents"), rows_of(events_job, "children")
    parents = policy_of(events_job, "parents")
    with pytest.raises(PlanRefused, match=r"children.*of_parent.*purge those first"):
        events_job.plan(parents)
    children = events_job.run(policy_of(events_job, "children", stale=Matching(f"parent <= {STALE}")))["run"]
    gone = events_job.run(parents)["run"]
    assert len(rows_of(events_job, "parents")) == ROWS - STALE - 1
    with pytest.raises(RowsReferenced, match=r"(?s)of_parent.*Restore the rows that .*children points at first"):
        restore(events_job.site, Wish(children, "too soon"))
    assert len(rows_of(events_job, "children")) == 2 * (ROWS - STALE - 1)
    assert restore(events_job.site, Wish(gone, "first")) == Restored(STALE + 1, 0)
    assert restore(events_job.site, Wish(children, "second")) == Restored(2 * (STALE + 1), 0)
    assert (rows_of(events_job, "parents"), rows_of(events_job, "children")) == before


# Columns that the server computes


def test_a_column_that_is_computed_in_another_way_now_is_noticed(events_job: Job) -> None:
    """What the server computes again is compared with what was archived, like all else."""
    mysql = isinstance(events_job, MySqlJob)
    stored = "twice int GENERATED ALWAYS AS (id * {}) STORED"
    events_job.execute(f"CREATE TABLE made (id int PRIMARY KEY, {stored.format(2)})")
    events_job.execute("INSERT INTO made (id) VALUES (1), (2)")
    events_job.execute(f"ANALYZE {'TABLE ' * mysql}made")
    run = events_job.run(policy_of(events_job, "made"))["run"]
    events_job.execute("ALTER TABLE made DROP COLUMN twice")
    events_job.execute(f"ALTER TABLE made ADD COLUMN {stored.format(3)}")
    with pytest.raises(SchemaChanged, match=r"2 of 2 rows came back changed .* computed in another way"):
        restore(events_job.site, Wish(run, "changed"))
    events_job.execute("ALTER TABLE made DROP COLUMN twice")
    events_job.execute(f"ALTER TABLE made ADD COLUMN {stored.format(2)}")
    assert restore(events_job.site, Wish(run, "as it was")) == Restored(2, 0)
    assert rows_of(events_job, "made") == [(1, 2), (2, 4)]
