"""What PostgreSQL makes of our statements where tables have many partitions, or other indexes beside the walk's.

Seen in its own plans and locks: a batch reads what it deletes and little more.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
from psycopg import sql

from airflow_dbhygiene.databases.postgres.session import PostgresSession
from airflow_dbhygiene.databases.postgres.walk import within
from airflow_dbhygiene.databases.protocol import Selection, Span
from airflow_dbhygiene.policy import ColdTable, Expired, Guard, Matching, Policy
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.verify import verify
from tests.job import Job

if TYPE_CHECKING:
    import pytest

DAYS, A_DAY = 60, 200

PARTED = f"""
DO $$ BEGIN
CREATE TABLE parted (id bigint, at timestamptz NOT NULL, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
FOR day IN 0..{DAYS - 1} LOOP
    EXECUTE format('CREATE TABLE parted_%s PARTITION OF parted FOR VALUES FROM (%L) TO (%L)', day,
                   timestamptz '2023-01-01 00:00+00' + day * interval '1 day',
                   timestamptz '2023-01-02 00:00+00' + day * interval '1 day');
END LOOP;
END $$;
CREATE INDEX ON parted (at, id);
INSERT INTO parted SELECT n, timestamptz '2023-01-01 00:00+00' + n * interval '1 day' / {A_DAY}, 'row ' || n
FROM generate_series(0, {DAYS * A_DAY - 1}) AS n;
ANALYZE parted;
"""
TWICE_INDEXED = """
CREATE TABLE loads (id bigint PRIMARY KEY, at timestamptz NOT NULL);
INSERT INTO loads SELECT n, timestamptz '2023-01-01 00:00+00' + n / 10000 * interval '1 day'
FROM generate_series(0, 59999) AS n;
CREATE INDEX loads_walk ON loads (at, id);
CREATE INDEX loads_at ON loads (at);
ANALYZE loads;
"""


@contextmanager
def reading(job: Job) -> Iterator[tuple[PostgresSession, Reading]]:
    """Give a session in a transaction like a batch's, and what it has read by its end, which undoes it."""
    found = Reading()
    with psycopg.connect(job.dsn) as connection:
        session = PostgresSession(connection)
        with session.transaction(walking=True):
            yield session, found
            found.rows = int(session.execute(_ROWS)[0][0])
            found.locks = int(session.execute(_LOCKS)[0][0])
            session.rollback()


@dataclass
class Reading:
    """What a transaction read of the users' tables, and how many tables and indexes it has locked."""

    rows: int = 0
    locks: int = 0


_ROWS = "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_xact_user_tables"
_LOCKS = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"


def policy_of(job: Job, table: str) -> Policy:
    """Give a policy by age."""
    return job.policy(table=f"public.{table}", stale=Expired("at"), guard=Guard(max_fraction=1))


def batch_of(job: Job, selection: Selection, skipped: int, rows: int) -> pa.Table:
    """Give some stale rows in the middle, and their versions."""
    with job.site.database.read(selection, Span(None, None), None, skipped + rows, None) as batches:
        return pa.Table.from_batches(batches).slice(skipped)


def test_a_batch_of_a_partitioned_table_locks_the_partitions_that_it_is_in(job: Job) -> None:
    """However many others there are; each has three indexes and two tables to lock."""
    job.execute(PARTED)
    run = job.plan(policy_of(job, "parted")).run
    rows = batch_of(job, run.selection, 30 * A_DAY + 10, A_DAY)
    with reading(job) as (session, found):
        assert job.site.database.delete(session, run.selection, rows, None, run.server)
    assert found.rows <= 2 * A_DAY
    assert found.locks < DAYS


def test_verify_and_the_careful_path_look_up_their_rows_in_a_partitioned_table(job: Job) -> None:
    """And do not read it whole."""
    job.execute(PARTED)
    selection = job.plan(policy_of(job, "parted")).run.selection
    rows = batch_of(job, selection, 30 * A_DAY + 10, A_DAY)
    with reading(job) as (session, careful):
        outcomes = job.site.database.delete_carefully(session, selection, rows, range(rows.num_rows), None)
    assert outcomes.purged == rows.num_rows
    assert careful.rows <= 6 * rows.num_rows
    with reading(job) as (session, verified):
        assert job.site.database.differing(session, selection, rows) == (rows.num_rows, 0)
    assert verified.rows <= 4 * rows.num_rows


def test_a_batch_follows_the_walk_whatever_other_indexes_there_are(job: Job) -> None:
    """One on the age alone, where ten thousand rows share a timestamp."""
    job.execute(TWICE_INDEXED)
    run = job.plan(policy_of(job, "loads")).run
    rows = batch_of(job, run.selection, 25_000, 100)
    with reading(job) as (session, found):
        assert job.site.database.delete(session, run.selection, rows, None, run.server)
    assert found.rows <= 2 * rows.num_rows


def test_copies_are_made_page_by_page_and_compared_by_several_processes(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks up, by the place where they lay, the rows of some of the copies."""
    job.execute("CREATE SCHEMA cold;" + TWICE_INDEXED)
    policy = policy_of(job, "loads").model_copy(update={"archive": ColdTable("cold.loads")})
    plans = noted_plans(monkeypatch)
    for ticket in job.start(policy):
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    copied = next(plan for plan in plans if plan[0] == "ModifyTable")
    assert copied[-2:] == ["Bitmap Heap Scan", "Bitmap Index Scan"]
    compared = plans[-1]
    assert compared[:2] == ["Aggregate", "Gather"]
    assert compared[compared.index("Nested Loop") :][-1] == "Tid Scan"


def noted_plans(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Note how the server goes about statements that name the cold table, from the whole to its parts."""
    noted: list[list[str]] = []
    execute = PostgresSession.execute

    def noting(name: str) -> None:
        original = getattr(PostgresSession, name)

        def called(session: PostgresSession, statement: Any, values: Any = ()) -> Any:
            if isinstance(statement, sql.Composed) and '"cold"."loads"' in statement.as_string():
                explain = sql.SQL("EXPLAIN (FORMAT json) {}").format(statement)
                noted.append(list(kinds(execute(session, explain, values)[0][0][0]["Plan"])))
            return original(session, statement, values)

        monkeypatch.setattr(PostgresSession, name, called)

    noting("execute")
    noting("change")
    return noted


def kinds(node: dict[str, Any]) -> Iterator[str]:
    """Name a plan's nodes."""
    yield node["Node Type"]
    for child in node.get("Plans", ()):
        yield from kinds(child)


def test_bounds_mean_what_the_comparison_of_whole_places_means(job: Job) -> None:
    """Whatever the places: of infinite moments, of the same moment, of names that are one in two spellings."""
    job.execute(
        "CREATE EXTENSION citext;"
        "CREATE TABLE places (at timestamptz, name citext, id int, PRIMARY KEY (at, name, id));"
        "INSERT INTO places SELECT at::timestamptz, name, id"
        " FROM unnest(ARRAY['-infinity', '2023-01-01', '2023-01-02', 'infinity']) AS at,"
        " (VALUES ('a', 1), ('A', 2), ('b', 1)) AS named(name, id); ANALYZE places"
    )
    policy = job.policy(table="public.places", stale=Matching("true"), guard=Guard(max_fraction=1))
    selection = job.plan(policy).run.selection
    plain = "(at, name, id) >= (%s::timestamptz, %s::citext, %s) AND (at, name, id) < (%s::timestamptz, %s, %s)"
    with psycopg.connect(job.dsn) as connection:
        places = connection.execute("SELECT at::text, name::text, id::text FROM places").fetchall()
        for lower, upper in itertools.product(places, repeat=2):
            written = within(selection, Span(lower, upper))
            differing = sql.SQL("SELECT count(*) FROM places WHERE ({}) IS DISTINCT FROM ({})").format(
                sql.SQL(plain), written
            )
            assert connection.execute(differing, (*lower, *upper)).fetchone() == (0,), written.as_string()
