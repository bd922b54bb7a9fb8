"""A plan cuts the stale rows into chunks, freezes them, and changes nothing until it is recorded."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pendulum
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_dbhygiene.errors import HygieneError, PlanRefused, PolicyInvalid, StatementTimedOut
from airflow_dbhygiene.ledger import Ledger
from airflow_dbhygiene.ledger.records import Run
from airflow_dbhygiene.policy import ColdTable, Expired, Guard, Matching, OlderThan, Parquet, Policy
from airflow_dbhygiene.steps.plan import Plan, make_plan, run_id_of
from airflow_dbhygiene.steps.report import describe
from tests.job import AS_OF, ORIGIN, Job, interval_of, window_of
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import FaultProxy


def cut(job: Job, most: int, name: str = "events", **guard: Any) -> Policy:
    """Give a policy whose run takes that many rows at most."""
    return job.policy(name=name, guard=Guard(max_fraction=1, max_rows=most, **{"min_chunk_rows": 400} | guard))


# What a run takes


def test_what_exceeds_the_guard_waits_for_the_next_run(job: Job) -> None:
    """The oldest rows go first; the plan and the report say how many wait and how many runs they take."""
    policy = cut(job, 1_000)
    plan = job.plan(policy)
    assert (plan.stale_rows, [chunk.planned_rows for chunk in plan.chunks]) == (1_000, [500, 500])
    assert plan.waiting_rows == pytest.approx(2_000, rel=0.1)
    assert f"waiting       about {plan.waiting_rows:,} more rows, for the next run" in plan.describe()
    certificate = job.run(policy)
    assert (certificate["rows_purged"], job.one("SELECT min(id) FROM events")) == (1_000, 1_000)
    assert certificate["runs_behind"] in (2, 3)
    assert "stale rows wait for" in describe(certificate)


@pytest.mark.parametrize(
    ("archive", "fix"),
    [
        (Parquet("file://archive/events"), "below the folder that a worker happens to run in: write 'file:///folder'"),
        (Parquet("s3://aws@cold/events?versionId=1"), r"objects would overwrite one another\. Leave it out"),
        (Parquet("s3://aws@cold/{name}"), r"\{name\} is filled in where policies are YAML: in Python write the name"),
        (ColdTable("cold.{table}"), r"\{table\} is filled in where policies are YAML"),
    ],
    ids=lambda value: getattr(value, "address", ""),
)
def test_an_archive_that_would_lie_where_nobody_means_it_to(job: Job, archive: Any, fix: str) -> None:
    """A dry run says so, and nothing is made."""
    with pytest.raises(PolicyInvalid, match=f"^archive of policy 'events': .*{fix}"):
        job.plan(job.policy(archive=archive))


def test_the_next_run_takes_what_waited(job: Job) -> None:
    """Run by run until nothing is stale, and the last one says that nothing waits."""
    taken = []
    for day in range(4):
        policy = cut(job, 1_300)
        window = window_of(policy, AS_OF.subtract(minutes=4 - day))
        certificate = job.run(policy, window) if job.plan(policy, window).stale_rows else None
        taken.append((certificate["rows_purged"], certificate["rows_waiting"] > 0) if certificate else None)
    assert taken == [(1_300, True), (1_300, True), (400, False), None]
    assert job.one("SELECT min(id) FROM events") == 3_000


def test_an_index_that_is_too_young_is_waited_for(job: Job) -> None:
    """PostgreSQL does not use it while transactions run that may see rows as they were before."""
    job.execute("DROP INDEX events_at_id; ALTER TABLE events SET (fillfactor = 50)")
    job.execute("VACUUM FULL ANALYZE events")
    with psycopg.connect(job.dsn) as older:
        older.execute("CREATE TABLE other (n int)")
        job.execute("UPDATE events SET at = at - interval '1 minute' WHERE id < 50")
        job.execute("CREATE INDEX events_at_id ON events (at, id)")
        with pytest.raises(StatementTimedOut, match="index events_at_id may not be used before"):
            job.plan(job.policy(guard=Guard(max_fraction=1)))
        older.commit()
        assert job.plan(job.policy(guard=Guard(max_fraction=1))).stale_rows == 3_000


@pytest.mark.parametrize("most", [2_999, 3_000, 3_001])
def test_the_guard_is_exact(job: Job, most: int) -> None:
    """One row more than the guard waits; as many as the guard do not."""
    plan = job.plan(cut(job, most))
    assert plan.stale_rows == min(most, 3_000)
    assert (plan.waiting_rows > 0) is (most < 3_000)
    assert (plan.chunks[-1].span.upper is None) is (most >= 3_000)


def test_nothing_stale_is_a_plan_without_chunks(job: Job) -> None:
    """It is recorded all the same: the run is on the books."""
    policy = job.policy(stale=OlderThan("at", keep="10 years"))
    assert job.start(policy) == ()
    assert job.one("SELECT count(*) FROM dbhygiene.run") == 1


def test_chunks_are_neither_too_many_nor_too_small(job: Job) -> None:
    """max_chunks and min_chunk_rows both hold, and no chunk is much smaller than the others."""
    assert len(job.plan(cut(job, 10**6, max_chunks=7, min_chunk_rows=1)).chunks) == 7
    assert [chunk.planned_rows for chunk in job.plan(cut(job, 10**6, min_chunk_rows=2_000)).chunks] == [3_000]
    chunks = job.plan(cut(job, 10**6, min_chunk_rows=1_300)).chunks
    assert [chunk.planned_rows for chunk in chunks] == [1_500, 1_500]
    assert [chunk.label for chunk in chunks] == ["chunk 1 · start → 2023-03-04", "chunk 2 · 2023-03-04 → 2023-05-06"]


ages = st.lists(
    st.sampled_from(["2020-01-01", "2020-01-02", "2021-05-05 12:00", "2023-12-31", "2024-05-01", None]), max_size=60
)

guards = st.builds(
    Guard,
    max_fraction=st.just(1.0),
    allow_full_scan=st.sampled_from([True]),
    max_rows=st.integers(1, 80),
    min_chunk_rows=st.integers(1, 30),
    max_chunks=st.integers(1, 12),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages, guards, st.booleans())
def test_chunks_hold_each_stale_row_exactly_once(
    job: Job,
    ages: list[str | None],
    guard: Guard,
    by_age: bool,  # noqa: FBT001 - drawn
) -> None:
    """Whatever the ages, in whichever walk: the chunks are the oldest rows that the guard allows, none twice."""
    fill(job, ages, by_age=by_age)
    plan = job.plan(job.policy(stale=Expired("at"), guard=guard))
    found = [rows_of(job, plan, chunk.span.lower, chunk.span.upper) for chunk in plan.chunks]
    order = "at, id" if by_age else "id"
    wanted = [
        row[0]
        for row in job.execute(f"SELECT id FROM events WHERE at < '{AS_OF}' ORDER BY {order} LIMIT {guard.max_rows}")
    ]
    assert [each for chunk in found for each in chunk] == wanted
    assert [len(chunk) for chunk in found] == [chunk.planned_rows for chunk in plan.chunks]
    assert len(plan.chunks) <= guard.max_chunks


def fill(job: Job, ages: list[str | None], *, by_age: bool) -> None:
    """Make rows of these ages, their keys in an order of their own."""
    job.execute("DROP TABLE events; CREATE TABLE events (id int PRIMARY KEY, at timestamptz)")
    keys = random.Random(len(ages)).sample(range(1000), len(ages))  # noqa: S311 - no secret
    with psycopg.connect(job.dsn) as connection:
        connection.cursor().executemany("INSERT INTO events VALUES (%s, %s)", list(zip(keys, ages, strict=True)))
    job.execute(("CREATE INDEX ON events (at, id);" if by_age else "") + "ANALYZE events")


def rows_of(job: Job, plan: Plan, lower: tuple[str, ...] | None, upper: tuple[str, ...] | None) -> list[int]:
    """Give the keys of a chunk by SQL of our own."""
    walk = ", ".join(plan.run.selection.walk)
    ends = [
        f"({walk}) {sign} ({', '.join(map(repr, place))})" for sign, place in ((">=", lower), ("<", upper)) if place
    ]
    where = " AND ".join([f"at < '{AS_OF}'", *ends])
    return [row[0] for row in job.execute(f"SELECT id FROM events WHERE {where} ORDER BY {walk}")]


# A dry run


def test_a_dry_run_changes_nothing_at_all(job: Job) -> None:
    """No row, no statistics, no table, no object, no write of any kind: not one transaction id is used up."""
    if job.role:
        job.role.connect().close()  # the administrator has made it by then
    snapshot = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
    before = job.one(snapshot), job.execute("SELECT relname FROM pg_class ORDER BY 1")
    plan = job.plan(job.policy())
    assert (job.one(snapshot), job.execute("SELECT relname FROM pg_class ORDER BY 1")) == before
    assert not job.folder.exists()
    assert len(plan.chunks) == 3


def test_a_dry_run_prints_what_the_run_executes(job: Job) -> None:
    """Rows, bytes, chunks, seconds, the walk and the very SQL that goes into the ledger."""
    policy = job.policy()
    plan = job.plan(policy)
    text = plan.describe()
    for part in (
        "public.events, about 10,000 rows",
        "3,000 rows in 3 chunks",
        "walk          at, id",
        "file:///cold",
        "2023-05-06",
    ):
        assert part in text
    assert plan.estimated_bytes == pytest.approx(0.3 * job.one("SELECT pg_table_size('events')"), rel=0.01)
    assert plan.estimated_seconds > 0
    job.start(policy)
    assert frozen(job, plan.run.run_id).selection == plan.run.selection


def test_the_estimate_learns_from_earlier_runs(job: Job) -> None:
    """A second run is reckoned by the first one's speed."""
    job.run(cut(job, 1_000))
    seconds = job.one("SELECT sum(archive_seconds + verify_seconds + purge_seconds) FROM dbhygiene.chunk")
    assert job.plan(job.policy()).estimated_seconds == pytest.approx(2_000 / (1_000 / seconds), rel=0.01)


# A frozen plan


def frozen(job: Job, run_id: str) -> Run:
    """Read a run back from the ledger."""
    with job.site.database.session() as session:
        return Ledger(session).existing_run(run_id)


def test_a_retry_gives_the_same_tickets(job: Job) -> None:
    """Though policy and table have changed since: what the run will do was fixed when it began."""
    policy = job.policy()
    tickets = job.start(policy)
    before = frozen(job, tickets[0].run)
    job.execute("INSERT INTO events SELECT n, '2022-01-01', '' FROM generate_series(20000, 29999) n; ANALYZE events")
    changed = job.policy(stale=OlderThan("at", keep="1 day"), guard=Guard(max_rows=5))
    assert job.start(changed, window_of(policy)) == tickets
    assert frozen(job, tickets[0].run) == before
    assert before.policy == policy


def test_another_origin_is_another_run(job: Job) -> None:
    """Two DAG runs of one moment never share a plan; one DAG run's retries always do."""
    policy, other = job.policy(), ORIGIN | {"dag_run": "two"}
    assert run_id_of(policy, window_of(policy), ORIGIN) != run_id_of(policy, window_of(policy), other)
    assert run_id_of(policy, window_of(policy), ORIGIN) == run_id_of(policy, window_of(policy), dict(ORIGIN))


def test_later_steps_need_nothing_but_the_ledger(job: Job) -> None:
    """The policy file may be edited, even broken, while a run is under way."""
    tickets = job.start(job.policy())
    certificate = job.finish(tickets)
    assert json.loads(json.dumps(certificate))["rows_purged"] == 3_000


def test_a_ticket_is_plain_values(job: Job) -> None:
    """XCom carries them as JSON, and they tell nothing that the ledger does not know better."""
    ticket = job.start(job.policy())[0].as_dict()
    assert set(ticket) == {"conn_id", "run", "chunk", "label"}
    assert json.loads(json.dumps(ticket)) == ticket


# Windows


def test_runs_of_a_windowed_policy_tile(job: Job) -> None:
    """A backfill over intervals, in any order, ends in exactly the rows that one cumulative run leaves."""
    policy = job.policy(stale=OlderThan("at", keep="1 month"), window="interval")
    months = [pendulum.datetime(2023, month, 1) for month in range(2, 9)]
    intervals = list(itertools.pairwise(months))
    purged = [job.run(policy, interval_of(policy, *interval))["rows_purged"] for interval in reversed(intervals)]
    assert purged == [24 * days for days in (30, 31, 30, 31, 28, 31)]
    assert job.one("SELECT min(at) FROM events") == pendulum.datetime(2023, 7, 1)


def test_an_interval_is_taken_as_a_whole(job: Job) -> None:
    """No run of another interval would take the rest, and the report would say for ever that it waits."""
    fields = {"stale": OlderThan("at", keep="1 month"), "window": "interval"}
    one_less, all_of_february = (job.policy(guard=Guard(max_fraction=1, max_rows=n), **fields) for n in (671, 672))
    window = interval_of(one_less, pendulum.datetime(2023, 3, 1), pendulum.datetime(2023, 4, 1))
    with pytest.raises(PlanRefused, match=r"rows of this interval are stale, more than guard\.max_rows 671.*raise"):
        job.plan(one_less, window)
    assert job.plan(all_of_february, window).stale_rows == 672


def test_a_windowed_run_can_be_done_again(job: Job) -> None:
    """Rows that came late into a past window are taken by a new run over it, and nothing else is."""
    policy = job.policy(stale=OlderThan("at", keep="1 month"), window="interval")
    window = interval_of(policy, pendulum.datetime(2023, 2, 1), pendulum.datetime(2023, 3, 1))
    job.run(policy, window)
    job.execute("INSERT INTO events VALUES (20000, '2023-01-15', 'late')")
    again = make_plan(job.site, policy, window, ORIGIN | {"dag_run": "again"})
    assert again.stale_rows == 1


# The walk


def fill_half_stale(job: Job, order: str) -> None:
    """Make 20,000 rows, half of them stale, whose keys are given out in an order of their own."""
    job.execute(
        "DROP TABLE events; CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz NOT NULL, what text);"
        f"INSERT INTO events SELECT row_number() OVER (ORDER BY {order}),"
        " timestamptz '2022-06-01' + minute * interval '18 minutes', repeat('x', 200)"
        " FROM generate_series(1, 20000) AS minute ORDER BY 1;"
        "CREATE INDEX ON events (at, id); ANALYZE events"
    )


def test_rows_that_lie_in_the_order_of_their_age_are_walked_by_age(job: Job) -> None:
    """The stale half lies together, and nothing else is read."""
    fill_half_stale(job, "minute")
    assert job.plan(job.policy(guard=Guard(max_fraction=1))).run.selection.walk == ("at", "id")


def test_rows_that_do_not_are_walked_by_key(job: Job) -> None:
    """By age each batch would visit nearly all pages, to take a few rows from each."""
    fill_half_stale(job, "md5(minute::text)")
    policy = job.policy(guard=Guard(max_fraction=1))
    plan = job.plan(policy)
    assert plan.run.selection.walk == ("id",)
    assert job.run(policy)["rows_purged"] == plan.stale_rows > 5_000


def test_by_age_all_the_same_where_the_key_is_scattered_too(job: Job) -> None:
    """Nothing would be gained."""
    fill_half_stale(job, "md5(minute::text)")
    job.execute("CREATE TABLE mixed AS SELECT * FROM events ORDER BY md5(id::text); DROP TABLE events")
    job.execute("ALTER TABLE mixed RENAME TO events; ALTER TABLE events ADD PRIMARY KEY (id)")
    job.execute("ALTER TABLE events ALTER at SET NOT NULL; CREATE INDEX ON events (at, id); ANALYZE events")
    assert job.plan(job.policy(guard=Guard(max_fraction=1))).run.selection.walk == ("at", "id")


def test_few_stale_rows_are_walked_by_age_wherever_they_lie(job: Job) -> None:
    """A run reads what it takes, not the table."""
    fill_half_stale(job, "md5(minute::text)")
    job.execute("UPDATE events SET at = at + interval '10 years' WHERE id % 1000 > 0; ANALYZE events")
    assert job.plan(job.policy()).run.selection.walk == ("at", "id")


def test_when_rows_must_wait_the_oldest_go_first(job: Job) -> None:
    """However much cheaper another order is."""
    fill_half_stale(job, "md5(minute::text)")
    plan = job.plan(cut(job, 5_000))
    assert (plan.run.selection.walk, plan.waiting_rows > 0) == (("at", "id"), True)


# Matching


def test_an_expression_needs_no_age(job: Job) -> None:
    """By key, however long it is kept; the cutoff is none."""
    plan = job.plan(job.policy(stale=Matching("id % 2 = 0")))
    assert (plan.stale_rows, plan.run.cutoff, plan.run.selection.walk) == (5_000, None, ("id",))


def test_a_refused_plan_is_not_recorded(job: Job) -> None:
    """The run can be planned once the table is mended."""
    job.execute("ALTER TABLE events DROP CONSTRAINT events_pkey")
    with pytest.raises(PlanRefused):
        job.start(job.policy())
    job.execute("ALTER TABLE events ADD PRIMARY KEY (id)")
    assert len(job.start(job.policy())) == 3


# Secrets

PASSWORD = "correct-horse-battery"  # noqa: S105 - this test's own


@pytest.fixture
def secretive(job: Job) -> Job:
    """Give a job whose role has a password that would be recognised."""
    role = f"owner_{job.one('SELECT current_database()')}"
    job.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    return Job(psycopg.conninfo.make_conninfo(job.dsn, user=role, password=PASSWORD), job.folder)


def told(job: Job, connect: Any, step: Any) -> str:
    """Run a step over another connection and give all that its error and its causes say."""
    broken = Job(job.dsn, job.folder, connect=connect)
    with pytest.raises(HygieneError) as failed:
        step(broken)
    said, error = [], failed.value
    while error is not None:
        said += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    return "\n".join([*said, *broken.told])


def test_a_wrong_password_is_not_repeated(secretive: Job) -> None:
    """Nor is the role's own, and the advice is about the login."""
    wrong = psycopg.conninfo.make_conninfo(secretive.dsn, password="wrong-donkey-staple")  # noqa: S106 - on purpose
    text = told(secretive, lambda: psycopg.connect(wrong), lambda job: job.plan(job.policy()))
    assert "password authentication failed" in text
    assert "login" in text
    assert "donkey" not in text


def test_a_host_that_is_down_gives_no_secret_away(secretive: Job, postgres: PostgresServer) -> None:
    """Address and fault, no more."""
    with FaultProxy((postgres.host, postgres.port)) as proxy:
        proxy.refuse = True
        away = psycopg.conninfo.make_conninfo(secretive.dsn, port=proxy.port)
        text = told(secretive, lambda: psycopg.connect(away), lambda job: job.plan(job.policy()))
    assert PASSWORD not in text


def test_the_reader_gives_no_secret_away(secretive: Job) -> None:
    """The second driver opens a connection of its own, here after the password was changed behind its back."""
    ticket, *_ = secretive.start(secretive.policy())
    database = secretive.site.database
    role, plan = secretive.one("SELECT current_user"), frozen(secretive, ticket.run)

    def connect() -> psycopg.Connection[Any]:
        connection = psycopg.connect(secretive.dsn, autocommit=True)
        connection.execute(f"ALTER ROLE {role} PASSWORD 'changed'")
        return connection

    def read(job: Job) -> None:
        with job.site.database.read(plan.selection, chunk.span, None, 10, None) as batches:
            list(batches)

    with database.session() as session:
        chunk = Ledger(session).chunk(ticket.run, ticket.chunk)
    text = told(secretive, connect, read)
    assert "authentication" in text
    assert PASSWORD not in text


def test_the_ledger_and_the_archive_hold_no_secret(secretive: Job, tmp_path: Path) -> None:
    """Neither plan, nor notes, nor certificate."""
    certificate = secretive.run(secretive.policy())
    assert PASSWORD not in json.dumps(certificate)
    assert PASSWORD not in str(secretive.execute("SELECT * FROM dbhygiene.run"))
    assert not any(PASSWORD.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("spelled", ["public.events", '"public"."events"', 'public."events"'])
def test_a_hold_binds_however_its_table_is_spelled(job: Job, spelled: str) -> None:
    """Held rows are not counted, not archived and not deleted; when the hold is released they go."""
    job.start(job.policy(name="first"))
    job.execute(
        "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
        " VALUES ('case 1', %s, 'id < 1000', 'court', 'anna')",
        (spelled,),
    )
    assert job.run(job.policy(name="second"))["rows_purged"] == 2_000
    job.execute("UPDATE dbhygiene.hold SET released_at = now()")
    assert job.run(job.policy(name="third"))["rows_purged"] == 1_000


def test_a_hold_that_cannot_be_read_stops_every_plan(job: Job) -> None:
    """It might protect this very table: nobody guesses."""
    job.start(job.policy(name="first"))
    job.execute(
        "INSERT INTO dbhygiene.hold (hold_id, table_name, predicate, reason, placed_by)"
        " VALUES ('case 1', 'events', 'true', 'court', 'anna')"
    )
    with pytest.raises(PolicyInvalid, match=r"'events' is not schema\.table"):
        job.plan(job.policy(name="second"))
