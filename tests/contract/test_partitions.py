"""Partitioned tables and foreign keys: the whole job, and the way back, on every engine."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dbhygiene.databases.protocol import Restored
from airflow_dbhygiene.errors import (
    Paused,
    PlanRefused,
    PolicyInvalid,
    RowsReferenced,
    SchemaChanged,
    StatementFailed,
)
from airflow_dbhygiene.policy import Guard, Matching, Pace
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.hold import HoldWish, place_hold
from airflow_dbhygiene.steps.pause import pause
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify import verify
from tests.job import AS_OF, Job, window_of
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


# Holds and pauses

HEIRS = """
CREATE TABLE elder (id int, at timestamp);
CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (elder);
INSERT INTO heir SELECT n FROM generate_series(1, 600) AS n;
ANALYZE heir;
"""


def by_sql(job: Job, table: str) -> None:
    """Place a hold as a program without Airflow would."""
    job.execute(
        "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
        " VALUES ('by sql', %s, 'id < 100', 'case', 'legal')",
        (table,),
    )


def wish(table: str) -> HoldWish:
    """Want the rows below a hundred to stay."""
    return HoldWish(table, "case", "legal", where="id < 100", hold_id="case")


def test_a_hold_on_a_table_binds_its_partitions(job: Job) -> None:
    """Over two steps, and for a policy on the partition too; a hold on a partition alone is refused."""
    lay_out(job, "hash, each by range again")
    for partition in ("public.middle", "public.rest"):
        with pytest.raises(PolicyInvalid, match=rf"{partition} is a partition: name public\.parted"):
            place_hold(job.site, wish(partition))
    assert place_hold(job.site, wish("public.parted")).rows == 99
    stay = [row for row in rows_of(job, "middle") if row[0] < 100 or row[0] > STALE]
    certificate = job.run(policy_of(job, "middle"))
    assert 0 < certificate["rows_purged"] < STALE
    assert ([hold["hold"] for hold in certificate["holds"]], rows_of(job, "middle")) == (["case"], stay)
    job.run(policy_of(job, "parted"))
    assert [row[0] for row in rows_of(job)] == [*range(1, 100), *range(STALE + 1, ROWS + 1)]


def test_more_keys_of_several_columns_than_a_hold_takes_are_refused(job: Job) -> None:
    """The server would run out of stack, in every batch; two thousand bind."""
    lay_out(job, "range")
    keys = tuple((str(n), f"p{(ROWS - n) % 5}") for n in range(1, 2_002))
    with pytest.raises(PolicyInvalid, match=r"2,001 keys of \(id, place\) are more than one hold takes: .* each 2,000"):
        place_hold(job.site, HoldWish("public.parted", "case", "legal", keys=keys))
    assert place_hold(job.site, HoldWish("public.parted", "case", "legal", keys=keys[:2_000])).rows == ROWS
    assert job.plan(policy_of(job, "parted")).stale_rows == 0


def test_a_hold_on_a_parent_binds_its_heirs(job: Job) -> None:
    """Whoever counted its rows counted theirs."""
    job.execute(HEIRS)
    assert place_hold(job.site, wish("public.elder")).rows == 99
    job.run(policy_of(job, "heir"))
    assert len(rows_of(job, "heir")) == ROWS - STALE + 99


def test_a_hold_by_sql_on_a_partition_stops_its_table(job: Job) -> None:
    """Nobody checked it: it says which rows it means, and the table's other rows it does not tell apart."""
    lay_out(job, "range")
    tickets = job.start(policy_of(job, "parted"))
    archive(job.site, tickets[0].run, tickets[0].chunk)
    verify(job.site, tickets[0].run, tickets[0].chunk)
    by_sql(job, "public.low")
    said = r"hold 'by sql' names public\.low, a partition of public\.parted.*place it on public\.parted"
    with pytest.raises(PolicyInvalid, match=said):
        purge(job.site, tickets[0].run, tickets[0].chunk)
    with pytest.raises(PolicyInvalid, match=said):
        job.plan(policy_of(job, "parted", name="another"))
    assert len(rows_of(job)) == ROWS


def test_a_pause_of_a_partition_pauses_its_table_and_the_other_way_round(job: Job) -> None:
    """By the command it is refused, since there its table can be named."""
    lay_out(job, "range")
    pace = Pace(max_pause_seconds=0.1)
    for table, paused in (("parted", "low"), ("low", "parted")):
        tickets = job.start(policy_of(job, table, pace=pace))
        archive(job.site, tickets[0].run, tickets[0].chunk)
        verify(job.site, tickets[0].run, tickets[0].chunk)
        scope = f"table:public.{paused}"
        job.execute("DELETE FROM dbhygiene.pause")
        job.execute(
            "INSERT INTO dbhygiene.pause (scope, reason, placed_by) VALUES (%s, 'month end', 'finance')", (scope,)
        )
        with pytest.raises(Paused, match=rf"paused \({scope}\) by finance"):
            purge(job.site, tickets[0].run, tickets[0].chunk)
    with pytest.raises(PolicyInvalid, match=r"public\.low is a partition"):
        pause(job.site, "table:public.low", "month end", "finance")


def test_rows_that_return_into_a_partition_stay(job: Job) -> None:
    """The next run of their policy meets them there, and leaves them under the restore's hold."""
    lay_out(job, "list")
    policy = policy_of(job, "parted")
    run = job.run(policy)["run"]
    back = restore(job.site, Wish(run, "back", where="place IN ('p0', 'p1')", into="public.low"))
    assert back.restored == STALE * 2 // 5
    assert job.plan(policy, window_of(policy, AS_OF.add(days=1))).stale_rows == 0


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
