"""How much clutter there is, at a cost that does not grow with the table."""

import asyncio
import json
import re
import threading
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from airflow_dbhygiene.errors import NotFound, PlanRefused, PolicyInvalid, PrivilegeMissing, StatementTimedOut
from airflow_dbhygiene.policy import Expired, Guard, Matching, OlderThan
from airflow_dbhygiene.sensors import ClutterSensor
from airflow_dbhygiene.steps.measure import Clutter, measure
from airflow_dbhygiene.triggers import ClutterTrigger
from tests.integration.test_refusals import make_role
from tests.job import AS_OF, Job, window_of


def clutter(job: Job, limits: dict[str, float], **changes: Any) -> Clutter:
    """Measure under a policy."""
    policy = job.policy(**changes)
    return measure(job.site, policy, window_of(policy), limits)


def test_stale_rows_are_counted_as_far_as_the_limit(job: Job) -> None:
    """At the limit the figure is "at least"; below it, it is exact."""
    assert clutter(job, {"stale_rows": 1_000}) == Clutter(
        {"stale_rows": 1_000.0}, {"stale_rows": 1_000}, ("stale_rows",)
    )
    assert clutter(job, {"stale_rows": 3_000}).is_above
    below = clutter(job, {"stale_rows": 3_001})
    assert (below.measured["stale_rows"], below.is_above) == (3_000, False)
    assert below.describe() == "stale_rows 3,000 (limit 3,001)"


def test_a_fraction_of_a_row_is_reached_by_the_next_one(job: Job) -> None:
    """A limit that is no whole number does not put itself out of reach."""
    assert clutter(job, {"stale_rows": 0.5}).is_above
    assert clutter(job, {"stale_rows": 2_999.5}).is_above
    assert not clutter(job, {"stale_rows": 3_000.5}).is_above


AGES = [
    ("timestamptz", {}, "'2022-12-31 00:00+00'"),
    ("timestamp", {"zone": "UTC"}, "'2022-12-31 00:00'"),
    ("timestamp", {"zone": "America/New_York"}, "'2022-12-30 19:00'"),
    ("date", {"zone": "UTC"}, "'2022-12-31'"),
    ("bigint", {"epoch": "s"}, "1672444800"),
    ("bigint", {"epoch": "ms"}, "1672444800000"),
]


@pytest.mark.parametrize(("kind", "settings", "oldest"), AGES, ids=[f"{age[0]} {age[1]}" for age in AGES])
def test_the_oldest_age_is_in_seconds(job: Job, kind: str, settings: dict[str, str], oldest: str) -> None:
    """By the database's own clock, whatever the type of the age column; rows without an age are left out."""
    ageless = "0" if kind == "bigint" else "'-infinity'"
    job.execute(
        f"DROP TABLE events; CREATE TABLE events (id int PRIMARY KEY, at {kind}); CREATE INDEX ON events (at, id);"
        f"INSERT INTO events VALUES (1, {oldest}), (2, NULL), (3, {ageless}); ANALYZE events"
    )
    wanted = float(job.one("SELECT extract(epoch FROM now() - timestamptz '2022-12-31 00:00+00')::float8"))
    found = clutter(job, {"oldest_age_seconds": 60}, stale=OlderThan("at", keep="300 days", **settings))
    assert found.measured["oldest_age_seconds"] == pytest.approx(wanted, abs=60)
    assert found.is_above


def test_nothing_stale_has_no_age(job: Job) -> None:
    """It is zero, and reaches no limit."""
    found = clutter(job, {"oldest_age_seconds": 1, "stale_rows": 1}, stale=OlderThan("at", keep="10 years"))
    assert (dict(found.measured), found.is_above) == ({"oldest_age_seconds": 0.0, "stale_rows": 0.0}, False)


def test_dead_rows_are_those_of_the_statistics(job: Job) -> None:
    """A deleted half shows as dead until a vacuum takes it away."""
    job.execute("ALTER TABLE events SET (autovacuum_enabled = false)")
    job.execute("DELETE FROM events WHERE id % 2 = 0")
    job.execute("ANALYZE events")
    found = clutter(job, {"dead_tuples": 5_000, "dead_ratio": 0.5})
    assert dict(found.measured) == {"dead_tuples": 5_000.0, "dead_ratio": 0.5}
    assert found.reached == ("dead_tuples", "dead_ratio")
    job.execute("VACUUM events")
    assert clutter(job, {"dead_tuples": 1}).measured["dead_tuples"] == 0


def test_sizes_are_the_servers(job: Job) -> None:
    """With the partitions' own, where there are any."""
    found = clutter(job, {"table_bytes": 1, "index_bytes": 10**12, "disk_bytes": 10**12})
    assert found.measured["disk_bytes"] == job.one("SELECT pg_total_relation_size('events')")
    assert found.measured["table_bytes"] == job.one("SELECT pg_table_size('events')")
    assert found.measured["index_bytes"] == job.one("SELECT pg_indexes_size('events')")
    assert found.reached == ("table_bytes",)
    job.execute(
        "CREATE TABLE parted (id bigint, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        "CREATE TABLE part PARTITION OF parted DEFAULT; INSERT INTO parted SELECT id, at FROM events; ANALYZE parted"
    )
    assert clutter(job, {"table_bytes": 1}, table="public.parted").measured["table_bytes"] > 400_000


@pytest.mark.parametrize("name", ["dead_tuples", "dead_ratio"])
def test_lost_statistics_are_refused(job: Job, name: str) -> None:
    """After a crash they begin at zero, and zero dead tuples would call the table clean."""
    job.execute("ALTER TABLE events SET (autovacuum_enabled = false)")
    job.execute("DELETE FROM events WHERE id % 2 = 0; DELETE FROM events WHERE id = 1")
    job.execute("SELECT pg_stat_force_next_flush(), pg_stat_reset_single_table_counters('events'::regclass)")
    with pytest.raises(PlanRefused, match=r"statistics are lost.*run ANALYZE"):
        clutter(job, {name: 0.5})
    job.execute("DELETE FROM events WHERE id = 3")
    with pytest.raises(PlanRefused, match="statistics are lost"):
        clutter(job, {name: 0.5})
    assert clutter(job, {"disk_bytes": 1}).is_above
    job.execute("ANALYZE events")
    assert clutter(job, {name: 0.5}).is_above
    job.execute("DELETE FROM events")
    job.execute("VACUUM (TRUNCATE false) events")
    assert not clutter(job, {name: 0.1}).is_above


@pytest.mark.parametrize("name", ["free_bytes", "free_ratio", "history_list_length"])
def test_what_is_of_mysql_is_refused_by_name(job: Job, name: str) -> None:
    """Zero for ever would call every table clean."""
    known = "stale_rows, oldest_age_seconds, dead_tuples, dead_ratio, table_bytes, index_bytes, disk_bytes"
    with pytest.raises(PolicyInvalid, match=f"at_least.{name} is not measured on postgresql: take {known}"):
        clutter(job, {"stale_rows": 1, name: 1})


def test_one_of_several_limits_is_enough(job: Job) -> None:
    """The limits that are reached are named."""
    found = clutter(job, {"stale_rows": 10**6, "dead_ratio": 0.9, "table_bytes": 1})
    assert found.reached == ("table_bytes",)


def test_who_has_locked_the_table_is_not_waited_for(job: Job) -> None:
    """A VACUUM FULL takes hours, and a triggerer has few threads: they would all wait for it."""
    with psycopg.connect(job.dsn) as owner:
        owner.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        end = threading.Timer(5, owner.rollback)
        end.start()
        with pytest.raises(StatementTimedOut):
            clutter(job, {"disk_bytes": 1})
        end.cancel()


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({}, "at_least is empty: give a limit for one or more of stale_rows"),
    ({"stale": 5}, "at_least.stale is not a measure; known are stale_rows"),
    ({"stale_rows": 0}, "at_least.stale_rows is 0: give a number above zero"),
    ({"stale_rows": -1}, "at_least.stale_rows is -1"),
    ({"stale_rows": True}, "at_least.stale_rows is True"),
    ({"stale_rows": "5"}, "at_least.stale_rows is '5'"),
    ({"dead_ratio": float("nan")}, "at_least.dead_ratio is nan"),
    ({"dead_tuples": float("inf")}, "at_least.dead_tuples is inf"),
]


@pytest.mark.parametrize(("limits", "said"), LIMITS, ids=[limit[1][:30] for limit in LIMITS])
def test_a_limit_that_means_nothing_is_refused(job: Job, limits: dict[str, Any], said: str) -> None:
    """One that anything reaches, or nothing ever does, would make the sensor a decoration."""
    with pytest.raises(PolicyInvalid, match=re.escape(said)):
        clutter(job, limits)


@pytest.mark.parametrize("measured", ["stale_rows", "oldest_age_seconds"])
def test_a_count_without_an_index_is_refused(job: Job, measured: str) -> None:
    """It would read the whole table every minute; the message has the index that helps."""
    job.execute("DROP INDEX events_at_id")
    with pytest.raises(
        PlanRefused, match=r"CREATE INDEX CONCURRENTLY ON public\.events \(at, id\).*guard\.allow_full_scan"
    ):
        clutter(job, {measured: 1}, guard=Guard())
    assert clutter(job, {measured: 1}, guard=Guard(allow_full_scan=True)).is_above
    assert clutter(job, {"table_bytes": 1}).is_above


def test_a_table_without_key_is_refused_alike(job: Job) -> None:
    """A sensor on what the plan will refuse says why, and does not break."""
    job.execute("DROP INDEX events_at_id; ALTER TABLE events DROP CONSTRAINT events_pkey")
    with pytest.raises(PlanRefused):
        clutter(job, {"stale_rows": 1}, guard=Guard())


def test_an_expression_has_no_age_to_measure(job: Job) -> None:
    """And no index that is sure to lead to its rows."""
    with pytest.raises(PolicyInvalid, match="policy 'events' has no age column"):
        clutter(job, {"oldest_age_seconds": 1}, stale=Matching("id > 5"), guard=Guard(allow_full_scan=True))
    with pytest.raises(PlanRefused, match="allow_full_scan"):
        clutter(job, {"stale_rows": 1}, stale=Matching("id > 5"), guard=Guard())
    assert clutter(job, {"stale_rows": 100}, stale=Matching("id > 5"), guard=Guard(allow_full_scan=True)).is_above


@pytest.mark.parametrize("measured", ["stale_rows", "dead_tuples", "table_bytes", "dead_ratio"])
def test_what_is_not_there_is_not_small(job: Job, measured: str) -> None:
    """A table that was renamed must not read as "no clutter" for ever."""
    with pytest.raises(NotFound, match=r"table public\.event does not exist"):
        clutter(job, {measured: 1}, table="public.event")


def test_what_may_not_be_read_is_not_small(job: Job) -> None:
    """Neither must a lost privilege."""
    role = make_role(job)
    with pytest.raises(PrivilegeMissing):
        clutter(role, {"stale_rows": 1})


def test_a_threshold_costs_what_the_threshold_is(job: Job) -> None:
    """On 500,000 rows, nine tenths of them stale, a check up to 1,000 reads a few dozen pages of 4,000."""
    job.execute(
        "INSERT INTO events SELECT n, timestamptz '2020-01-01 00:00+00' + n * interval '1 minute', repeat('x', 40)"
        " FROM generate_series(10000, 509999) n"
    )
    job.execute("VACUUM ANALYZE events")
    pages = job.one("SELECT relpages FROM pg_class WHERE relname = 'events'")
    assert pages > 4_000
    before = read_pages(job)
    assert clutter(job, {"stale_rows": 1_000, "oldest_age_seconds": 1}).is_above
    assert read_pages(job) - before < 60
    clutter(job, {"stale_rows": 1_000}, stale=Expired("at", where="note = 'never'"), guard=Guard())
    assert read_pages(job) - before > 1_000


def read_pages(job: Job) -> int:
    """Give the pages of the table and its indexes that were read so far, from memory or from disk."""
    job.execute("SELECT pg_stat_force_next_flush()")
    return int(
        job.one(
            "SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit FROM pg_statio_user_tables"
            " WHERE relname = 'events'"
        )
    )


@pytest.mark.rights("all", "Airflow's connection is the administrator's here")
def test_a_trigger_takes_the_policy_of_another_version(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The triggerer may be older than the worker that has deferred: it only measures, by what it knows."""
    monkeypatch.setenv("AIRFLOW_CONN_PG", job.dsn)
    policy = job.policy()
    window = window_of(policy)
    trigger = ClutterTrigger(
        policy_json=json.dumps({**json.loads(policy.json_text), "tide": "low"}),
        as_of=window.as_of.isoformat(),
        since=None,
        cutoff=str(window.cutoff),
        limits={"stale_rows": 3_000},
        poke_interval=0.1,
        patience_seconds=1,
    )
    assert asyncio.run(trigger._look()) == {"stale_rows": 3_000.0}


@pytest.mark.rights("all", "Airflow's connection is the administrator's here")
@pytest.mark.parametrize(("kind", "ends"), [("scheduled", TaskDeferred), ("backfill", AirflowSkipException)])
def test_a_backfill_never_waits(job: Job, monkeypatch: pytest.MonkeyPatch, kind: str, ends: type[Exception]) -> None:
    """Its first empty interval would keep all others waiting for a week."""
    monkeypatch.setenv("AIRFLOW_CONN_PG", job.dsn)
    sense = ClutterSensor(task_id="sense", policy=job.policy(), at_least={"stale_rows": 10**6}, on_below="wait")
    context: Any = {"dag_run": SimpleNamespace(run_type=kind, run_after=AS_OF, dag_id="events", run_id="one")}
    with pytest.raises(ends):
        sense.execute(context)
