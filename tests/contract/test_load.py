"""What makes a purge pause: the load that the server shows, against the policy's limits, on each engine."""

from __future__ import annotations

import struct
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from airflow_dbhygiene.databases.postgres import PostgresDatabase
from airflow_dbhygiene.databases.postgres.load import busy
from airflow_dbhygiene.errors import DatabaseUnavailable, NotFound, Paused, PlanRefused, PrivilegeMissing
from airflow_dbhygiene.ledger import Ledger
from airflow_dbhygiene.pacing.reasons import pause_reason
from airflow_dbhygiene.policy import Pace
from airflow_dbhygiene.policy.names import TableName
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.verify import verify
from tests.job import EVENTS, Job
from tests.mysql_job import EVENTS as MYSQL_EVENTS
from tests.mysql_job import MySqlJob
from tests.servers.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import MySqlByFlavour
    from tests.servers.mysql import MySqlServer


def reasons(job: Job, **limits: Any) -> Callable[[], str | None]:
    """Plan a run under limits; give what asks why its purge would pause now."""
    ticket, *_ = job.start(job.policy(pace=Pace(**limits)))

    def ask() -> str | None:
        database = job.site.database
        with database.session() as session:
            return pause_reason(database, session, Ledger(session).existing_run(ticket.run))

    return ask


def until(ask: Callable[[], str | None], *, there: bool) -> str | None:
    """Ask until there is a reason, or none, for half a minute at most."""
    end = time.monotonic() + 30
    while bool(answer := ask()) is not there and time.monotonic() < end:
        time.sleep(0.05)
    return answer


@contextmanager
def busy_sessions(job: Job, count: int) -> Iterator[None]:
    """Keep sessions at work."""
    mysql = isinstance(job, MySqlJob)
    statement = "SELECT sleep(3)" if mysql else "SELECT pg_sleep(3)"
    threads = [threading.Thread(target=job.execute, args=(statement,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def test_sessions_that_the_role_may_not_see(events_job: Job) -> None:
    """A limit of what nobody shows is refused when it is planned; MySQL counts its sessions for everybody."""
    policy = events_job.policy(pace=Pace(max_active_sessions=3))
    if isinstance(events_job, MySqlJob):
        events_job.plan(policy)
        return
    with pytest.raises(PrivilegeMissing, match="may not see other sessions' state: GRANT pg_monitor TO"):
        events_job.plan(policy)


def test_sessions_that_just_begin(database: str) -> None:
    """For a moment they have no state, as if the role might not see them: no purge fails for it."""
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            psycopg.connect(database).close()

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with PostgresDatabase(lambda: psycopg.connect(database)).session() as session:
            for _ in range(500):
                assert not [*busy(session, TableName("public", "events"), Pace(max_active_sessions=100))]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.rights("monitor")
def test_other_sessions_at_work(events_job: Job) -> None:
    """Too many of them, and the purge pauses until they are done."""
    ask = reasons(events_job, max_active_sessions=3)
    assert until(ask, there=False) is None
    with busy_sessions(events_job, 5):
        assert "sessions are active, more than 3" in (until(ask, there=True) or "")
    assert until(ask, there=False) is None


def test_a_limit_that_the_engine_cannot_observe_is_refused(events_job: Job) -> None:
    """When it is planned, not when it would have mattered."""
    mysql = isinstance(events_job, MySqlJob)
    limits = (
        {"max_replica_lag_seconds": 5, "max_wal_kept_bytes": 10, "max_wal_fraction": 0.5}
        if mysql
        else {"max_history_list_length": 10}
    )
    for name, value in limits.items():
        with pytest.raises(PlanRefused, match=f"pace.{name}: a server of this kind cannot tell"):
            events_job.plan(events_job.policy(pace=Pace(**{name: value})))
    asked = "say in pace.max_replica_lag_seconds" if mysql else "tells of its standbys itself"
    with pytest.raises(PlanRefused, match=asked):
        events_job.plan(events_job.policy(pace=Pace(replica_conn_ids=("replica",))))


def test_old_row_versions_that_pile_up(mysql_database: dict[str, Any], tmp_path: Path) -> None:
    """A long reader keeps InnoDB from clearing them away: the purge adds no more until it is gone."""
    job = MySqlJob(folder=tmp_path, parameters=mysql_database)
    job.execute("CREATE TABLE events (id bigint PRIMARY KEY, at datetime NOT NULL, note text, KEY (at, id))")
    job.execute("INSERT INTO events VALUES (1, '2023-01-01', ''), (2, '2033-01-01', '')")
    ask = reasons(job, max_history_list_length=300)
    assert until(ask, there=False) is None
    with closing(job.open(autocommit=False)) as reader, closing(reader.cursor()) as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        cursor.execute("SELECT * FROM events")
        with closing(job.open()) as application, closing(application.cursor()) as writer:
            for number in range(500):
                writer.execute("UPDATE events SET note = %s", (str(number),))
        assert "InnoDB's history list has" in (until(ask, there=True) or "")

    def ask_while_others_write() -> str | None:
        job.execute("UPDATE events SET note = concat(note, 'x') WHERE id = 1")  # an idle MySQL leaves its list as it is
        return ask()

    assert until(ask_while_others_write, there=False) is None


@pytest.fixture
def job(database: str, tmp_path: Path) -> Job:
    """Give a job on PostgreSQL."""
    made = Job(database, tmp_path / "cold")
    made.execute(EVENTS)
    return made


def test_who_waits_for_the_whole_table_goes_first(job: Job) -> None:
    """Behind a change of the table that waits for a long reader all others queue: the purge steps aside."""
    ticket, *_ = job.start(job.policy(pace=Pace(max_pause_seconds=0.1)))
    for step in (archive, verify):
        step(job.site, ticket.run, ticket.chunk)
    alter = threading.Thread(target=job.execute, args=("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE; COMMIT",))
    with psycopg.connect(job.dsn) as reader:
        reader.execute("SELECT count(*) FROM events")
        alter.start()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass"
        while not job.one(waits):
            time.sleep(0.02)
        with pytest.raises(Paused, match=r"waits for \w+Lock on public\.events"):
            purge(job.site, ticket.run, ticket.chunk)
    alter.join()
    assert purge(job.site, ticket.run, ticket.chunk).state == "purged"


def test_who_has_locked_a_partition_comes_to_his_end(job: Job) -> None:
    """A batch that meets his partition would wait for him, and fail: none is begun."""
    job.execute(
        "ALTER TABLE events RENAME TO part; CREATE TABLE events (LIKE part INCLUDING ALL) PARTITION BY RANGE (id);"
        "ALTER TABLE events ATTACH PARTITION part DEFAULT; ANALYZE events"
    )
    ticket, *_ = job.start(job.policy(pace=Pace(max_pause_seconds=0.1)))
    for step in (archive, verify):
        step(job.site, ticket.run, ticket.chunk)
    with psycopg.connect(job.dsn) as owner:
        owner.execute("LOCK TABLE part IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Paused, match=r"holds \w+Lock on partition part of public\.events"):
            purge(job.site, ticket.run, ticket.chunk)
    assert purge(job.site, ticket.run, ticket.chunk).state == "purged"


@pytest.mark.parametrize("mode", ["SHARE", "ACCESS EXCLUSIVE"])
def test_who_has_locked_the_whole_table_comes_to_his_end(job: Job, mode: str) -> None:
    """CREATE INDEX, or VACUUM FULL, takes as long as it takes: the purge pauses, and no try of its task is lost."""
    ticket, *_ = job.start(job.policy(pace=Pace(max_pause_seconds=0.1)))
    for step in (archive, verify):
        step(job.site, ticket.run, ticket.chunk)
    with psycopg.connect(job.dsn) as owner:
        owner.execute(f"LOCK TABLE events IN {mode} MODE")
        with pytest.raises(Paused, match=r"session \d+ holds \w+Lock on public\.events"):
            purge(job.site, ticket.run, ticket.chunk)
    with psycopg.connect(job.dsn) as vacuum:
        vacuum.execute("LOCK TABLE events IN SHARE UPDATE EXCLUSIVE MODE")
        assert purge(job.site, ticket.run, ticket.chunk).state == "purged"


def test_a_replication_slot_that_nobody_reads(job: Job) -> None:
    """It keeps WAL until the disk is full: the purge does not add to it."""
    ask = reasons(job, max_wal_kept_bytes=2_000_000)
    assert ask() is None
    slot = f"dbhygiene_{job.dsn[-8:]}"
    job.execute("SELECT pg_create_physical_replication_slot(%s, true)", (slot,))
    try:
        job.execute("CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 4000)")
        assert f"replication slot {slot} keeps" in (ask() or "")
    finally:
        job.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
    assert ask() is None


def test_wal_that_would_force_a_checkpoint(job: Job) -> None:
    """Beyond its share of max_wal_size the purge waits until the next checkpoint has begun."""
    ask = reasons(job, max_wal_fraction=0.0005)
    job.execute("CHECKPOINT")
    assert ask() is None
    job.execute("CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 4000)")
    assert "of max_wal_size was written since the last checkpoint began, more than 0%" in (ask() or "")
    job.execute("CHECKPOINT")
    assert ask() is None


def test_a_standby_that_falls_behind(tmp_path: Path) -> None:
    """A real one: its replay is paused, and goes on."""
    with PostgresServer.start() as primary, primary.start_replica() as replica:
        made = Job(primary.create_database("shop"), tmp_path / "cold")
        made.execute(EVENTS)
        ask = reasons(made, max_replica_lag_seconds=0.5)
        assert until(ask, there=False) is None
        with psycopg.connect(replica.dsn(), autocommit=True) as standby:
            standby.execute("SELECT pg_wal_replay_pause()")
            made.execute("UPDATE events SET note = 'x' WHERE id < 100")
            assert "s behind, more than 0.5 s" in (until(ask, there=True) or "")
            standby.execute("SELECT pg_wal_replay_resume()")
        made.execute("UPDATE events SET note = 'y' WHERE id < 100")
        assert until(ask, there=False) is None


def test_a_standby_that_has_much_to_catch_up_with(job: Job) -> None:
    """After it was away its primary calls it by another word; it is behind all the same. A client plays the standby."""
    ask = reasons(job, max_replica_lag_seconds=0.5)
    begin = int(job.one("SELECT pg_current_wal_lsn() - '0/0'"))
    job.execute("CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    with closing(psycopg.connect(job.dsn, replication="1", autocommit=True)) as standby:
        standby.pgconn.send_query(f"START_REPLICATION {begin >> 32:X}/{begin & 0xFFFFFFFF:X}".encode())
        standby.pgconn.get_result()

        def say_where_it_is() -> str | None:
            standby.pgconn.put_copy_data(b"r" + struct.pack("!QQQqb", begin, begin, begin, 0, 0))
            standby.pgconn.flush()
            return ask()

        assert "s behind, more than 0.5 s" in (until(say_where_it_is, there=True) or "")
        assert job.one("SELECT state FROM pg_stat_replication") == "catchup"


def lag(job: MySqlJob) -> float | None:
    """Ask the replica how far behind it is; None while it stands still."""
    replica = job.database_elsewhere("replica")
    with replica.session() as session:
        (seconds,) = replica.replica_lags(session)
        return seconds


@contextmanager
def behind(job: MySqlJob, replica: MySqlServer) -> Iterator[None]:
    """Let the replica fall behind: a reader keeps it from writing."""
    with closing(replica.connect("shop")) as reader, closing(reader.cursor()) as cursor:
        cursor.execute("LOCK TABLES events READ")
        job.execute("UPDATE events SET note = 'x' WHERE id = 9999")
        until(lambda: "behind" if (lag(job) or 0) >= 1 else None, there=True)
        yield


@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_a_replica_that_falls_behind(flavour: str, mysql_by_flavour: MySqlByFlavour, tmp_path: Path) -> None:
    """A real one, asked itself: the purge waits while it is behind or stands still, and deletes nothing unasked."""
    kind = type(mysql_by_flavour(flavour))
    with kind.start() as primary, primary.start_replica() as replica:
        job = MySqlJob(folder=tmp_path, parameters=primary.create_database("shop"))
        job.servers = {"replica": replica.parameters()}
        for statement in MYSQL_EVENTS:
            job.execute(statement)
        until(lambda: "behind" if lag(job) != 0 else None, there=False)
        pace = Pace(max_replica_lag_seconds=0.5, replica_conn_ids=("replica",), max_pause_seconds=0.1)
        ticket, *_ = job.start(job.policy(pace=pace))
        for step in (archive, verify):
            step(job.site, ticket.run, ticket.chunk)
        with behind(job, replica), pytest.raises(Paused, match=r"replica replica is \d+ s behind, more than 0.5 s"):
            purge(job.site, ticket.run, ticket.chunk)
        replica.execute("STOP REPLICA")
        with pytest.raises(Paused, match="replica replica does not replicate"):
            purge(job.site, ticket.run, ticket.chunk)
        replica.stop()
        with pytest.raises(DatabaseUnavailable):
            purge(job.site, ticket.run, ticket.chunk)
        job.servers["replica"] = primary.parameters()
        with pytest.raises(NotFound, match="'replica' is no replica"):
            purge(job.site, ticket.run, ticket.chunk)
        assert job.execute("SELECT count(*) FROM events") == [(10_000,)]
        replica.restart()
        job.servers["replica"] = replica.parameters()
        assert until(lambda: "behind" if lag(job) != 0 else None, there=False) is None
        assert purge(job.site, ticket.run, ticket.chunk).state == "purged"
