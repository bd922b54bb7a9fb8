"""A column's type changes under a run, on every engine: the next step refuses by its name, and nothing is deleted.

Invariants 6, 8, 9 and 10. When the type is what it was, the run goes on: rows whose values are what was archived go,
all others stay.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import MySQLdb
import psycopg
import pytest

from airflow_dbhygiene.databases.mysql import MySqlSession
from airflow_dbhygiene.databases.postgres import PostgresSession
from airflow_dbhygiene.databases.protocol import Facts
from airflow_dbhygiene.errors import HygieneError, SchemaChanged
from airflow_dbhygiene.policy import ColdTable
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.reclaim import reclaim
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.verify import verify
from tests.job import AS_OF, Job, window_of
from tests.mysql_job import MySqlJob
from tests.servers.postgres import PostgresServer

STEPS: Final = {"archive": archive, "verify": verify, "purge": purge}
ORDER: Final = tuple(STEPS)


@dataclass(frozen=True)
class Change:
    """A column's type before and after."""

    column: str
    before: str
    after: str


def _changes(column: str, before: str, *after: str) -> tuple[Change, ...]:
    return tuple(Change(column, before, each) for each in after)


POSTGRES: Final = (
    *_changes("code", "varchar(20)", "varchar(30)", "varchar(12)", "text", 'varchar(20) COLLATE "C"'),
    *_changes("price", "numeric(10,2)", "numeric(12,2)", "numeric(10,3)", "double precision", "text"),
    *_changes("made", "timestamp(6)", "timestamp(0)", "timestamp(6) with time zone", "date"),
    *_changes("n", "integer", "bigint", "smallint", "text"),
    *_changes("at", "timestamp with time zone", "timestamp without time zone", "timestamp(3) with time zone"),
    *_changes("id", "bigint", "integer", "text", "numeric"),
)
MYSQL: Final = (
    *_changes("code", "varchar(20)", "varchar(30)", "varchar(12)", "text", "varchar(20) COLLATE utf8mb4_bin"),
    *_changes("code", "varchar(20)", "varchar(20) CHARACTER SET latin1", "varbinary(20)"),
    *_changes("price", "decimal(10,2)", "decimal(12,2)", "decimal(10,3)", "double", "varchar(20)"),
    *_changes("made", "datetime(6)", "datetime", "timestamp(6)", "date"),
    *_changes("n", "int", "bigint", "smallint", "int unsigned", "varchar(20)"),
    *_changes("kind", "enum('a','b')", "enum('a','b','c')", "enum('b','a')", "varchar(1)"),
    *_changes("at", "datetime NOT NULL", "datetime(3) NOT NULL", "timestamp NOT NULL"),
    *_changes("id", "bigint NOT NULL", "bigint unsigned NOT NULL", "int NOT NULL", "varchar(20) NOT NULL"),
)

ROWS: Final = "SELECT id, code, price, n, note FROM events ORDER BY id"


@pytest.fixture
def typed_job(events_job: Job) -> Job:
    """Give a job whose events have columns of many types, and values that each change above leaves alone."""
    if isinstance(events_job, MySqlJob):
        events_job.execute(
            "ALTER TABLE events ADD code varchar(20) DEFAULT 'cd', ADD price decimal(10,2) DEFAULT 10.5,"
            " ADD made datetime(6) DEFAULT '2023-05-01', ADD n int DEFAULT 7, ADD kind enum('a','b') DEFAULT 'b'"
        )
        return events_job
    events_job.execute(
        "CREATE TYPE kind AS ENUM ('a', 'b'); ALTER TABLE events ADD code varchar(20) DEFAULT 'cd',"
        " ADD price numeric(10,2) DEFAULT 10.5, ADD made timestamp(6) DEFAULT '2023-05-01', ADD n int DEFAULT 7,"
        " ADD kind kind DEFAULT 'b'; ALTER TABLE events ALTER code DROP DEFAULT, ALTER price DROP DEFAULT,"
        " ALTER made DROP DEFAULT, ALTER n DROP DEFAULT"
    )
    return events_job


@pytest.fixture
def policy(request: pytest.FixtureRequest, typed_job: Job) -> Any:
    """Give the policy, with the store that is asked for; few rows make for a quick ALTER TABLE."""
    typed_job.execute("DELETE FROM events WHERE id BETWEEN 200 AND 9799")
    typed_job.execute("ANALYZE TABLE events" if isinstance(typed_job, MySqlJob) else "ANALYZE events")
    cold = {"archive": ColdTable("dbhygiene.cold_events")}
    return typed_job.policy(**(cold if getattr(request, "param", "") == "cold table" else {}))


STALE: Final = 200


@pytest.mark.parametrize(
    ("step", "policy"),
    [("archive", "parquet"), ("verify", "parquet"), ("purge", "parquet"), ("purge", "cold table")],
    indirect=["policy"],
)
def test_a_type_that_changes_for_a_while(typed_job: Job, policy: Any, step: str) -> None:
    """Each step refuses by the column's name; with its type back the run ends, and every row is in one place."""
    before = typed_job.execute(ROWS)
    (ticket,) = typed_job.start(policy)
    for each in ORDER[: ORDER.index(step)]:
        STEPS[each](typed_job.site, ticket.run, ticket.chunk)
    faults = [fault for change in _changes_of(typed_job) if (fault := _fault(typed_job, step, ticket, change))]
    assert not faults, "\n".join(faults)
    for each in ORDER[ORDER.index(step) :]:
        STEPS[each](typed_job.site, ticket.run, ticket.chunk)
    reclaim(typed_job.site, ticket.run)
    told = report(typed_job.site, ticket.run)
    rewritten = step != "archive" and not isinstance(typed_job, MySqlJob)  # there versions are the rewriting's
    assert (told["rows_purged"], told["rows_drifted"]) == ((0, STALE) if rewritten else (STALE, 0))
    left = typed_job.execute(ROWS)
    assert left == (before if rewritten else before[STALE:])


@pytest.mark.parametrize("policy", ["cold table"], indirect=True)
def test_a_type_that_changes_only_while_rows_are_copied(
    typed_job: Job, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After all checks before it: the copies would not be what was planned, so that none of them counts."""
    (ticket,) = typed_job.start(policy)
    cold_tables = type(typed_job.site.database.cold_tables)
    copy = cold_tables.copy

    def copied(*args: Any) -> int:
        _alter(typed_job, "price", "numeric(14,4)")
        return copy(*args)

    monkeypatch.setattr(cold_tables, "copy", staticmethod(copied))
    with pytest.raises(SchemaChanged, match="price"):
        archive(typed_job.site, ticket.run, ticket.chunk)
    monkeypatch.undo()
    _alter(typed_job, "price", "numeric(10,2)")
    for step in ORDER:
        STEPS[step](typed_job.site, ticket.run, ticket.chunk)
    assert report(typed_job.site, ticket.run)["rows_purged"] == STALE


@pytest.mark.parametrize("step", ["verify", "purge"])
def test_a_type_that_rounds_values_and_comes_back(typed_job: Job, policy: Any, step: str) -> None:
    """The values do not: their rows have drifted, and stay."""
    typed_job.execute("UPDATE events SET price = 1.25 WHERE id < 50")
    (ticket,) = typed_job.start(policy)
    for each in ORDER[: ORDER.index(step)]:
        STEPS[each](typed_job.site, ticket.run, ticket.chunk)
    for kind in ("numeric(10,1)", "numeric(10,2)"):
        _alter(typed_job, "price", kind)
    rounded = typed_job.execute(ROWS)
    for each in ORDER[ORDER.index(step) :]:
        STEPS[each](typed_job.site, ticket.run, ticket.chunk)
    drifted = 50 if isinstance(typed_job, MySqlJob) else STALE
    told = report(typed_job.site, ticket.run)
    assert (told["rows_purged"], told["rows_drifted"]) == (STALE - drifted, drifted)
    assert typed_job.execute(ROWS) == rounded[:drifted] + rounded[STALE:]
    assert {str(price) for price in typed_job.archived(told).column("price").to_pylist()[:50]} == {"1.25"}


@pytest.mark.parametrize("every_server", [PostgresServer], indirect=True)
@pytest.mark.parametrize("step", ORDER)
def test_a_label_that_is_added(typed_job: Job, policy: Any, step: str) -> None:
    """To a type of PostgreSQL's, which no column's definition shows: another run takes the rows."""
    (ticket,) = typed_job.start(policy)
    for each in ORDER[: ORDER.index(step)]:
        STEPS[each](typed_job.site, ticket.run, ticket.chunk)
    typed_job.execute("ALTER TYPE kind ADD VALUE 'c'")
    with pytest.raises(SchemaChanged, match="the labels of a type are others"):
        STEPS[step](typed_job.site, ticket.run, ticket.chunk)
    assert typed_job.one("SELECT count(*) FROM events WHERE id < 200") == STALE
    later = window_of(policy, AS_OF.add(minutes=1))
    assert typed_job.run(policy, later)["rows_purged"] == STALE


@pytest.mark.parametrize(
    "change", [Change("price", "numeric(10,2)", "numeric(14,4)"), Change("id", "bigint", "id_then")]
)
def test_what_changes_while_it_is_inspected(
    typed_job: Job, policy: Any, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before whichever statement: a plan is made of one table, and of no half of the table that it was before."""
    torn, number, ran = [], 0, 1
    while ran >= number:
        number += 1
        with monkeypatch.context() as patched:
            counted = _before_statement(patched, typed_job, number, change)
            facts = None
            with contextlib.suppress(HygieneError):
                facts = _facts(typed_job, policy)
            ran = counted()
        if facts is not None and _is_torn(facts, _facts(typed_job, policy)):
            torn.append(number)
        _change(typed_job, change, back=True)
    assert number > 8
    assert not torn


def _facts(job: Job, policy: Any) -> Facts:
    with job.site.database.session() as session:
        return job.site.database.inspect(session, policy)


def _is_torn(facts: Facts, now: Facts) -> bool:
    """Tell whether facts whose digest later steps would agree with are those of another table."""
    same = (facts.columns, facts.key, facts.ddl) == (now.columns, now.key, now.ddl)
    return facts.fingerprint == now.fingerprint and not same


def _before_statement(patched: pytest.MonkeyPatch, job: Job, number: int, change: Change) -> Callable[[], int]:
    """Let the table change before a statement of that number; give what tells how many there were."""
    kind: Any = MySqlSession if isinstance(job, MySqlJob) else PostgresSession
    execute, begun = kind.execute, 0

    def executed(*args: Any, **kwargs: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun == number:
            with contextlib.suppress(psycopg.Error, MySQLdb.Error):  # whose locks hold it off
                _change(job, change)
        return execute(*args, **kwargs)

    patched.setattr(kind, "execute", executed)
    return lambda: begun


def _change(job: Job, change: Change, *, back: bool = False) -> None:
    """Give a column another type, or another name, without waiting for whoever reads the table."""
    mysql = isinstance(job, MySqlJob)
    wait = "SET lock_wait_timeout = 1" if mysql else "SET lock_timeout = 100"
    first, last = (change.after, change.before) if back else (change.before, change.after)
    if change.column == "price":
        job.execute(
            f"{wait}; ALTER TABLE events {'MODIFY' if mysql else 'ALTER'} price {'' if mysql else 'TYPE'} {last}"
        )
        return
    first, last = (change.after, change.column) if back else (change.column, change.after)
    names = job.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'events' AND column_name = 'id_then'"
    )
    if bool(names) == back:
        job.execute(f"{wait}; ALTER TABLE events RENAME COLUMN {first} TO {last}")


def _changes_of(job: Job) -> tuple[Change, ...]:
    return MYSQL if isinstance(job, MySqlJob) else POSTGRES


def _fault(job: Job, step: str, ticket: Any, change: Change) -> str | None:
    """Make a change, expect its refusal, and take it back."""
    count = job.one("SELECT count(*) FROM events")
    _alter(job, change.column, change.after)
    try:
        STEPS[step](job.site, ticket.run, ticket.chunk)
    except SchemaChanged as error:
        wanted = f"«`{change.column}` " if isinstance(job, MySqlJob) else f"«{change.column} "
        fault = None if str(error).count(wanted) == 2 else f"{change}: {error}"
    except Exception as error:  # noqa: BLE001 - told with all others
        fault = f"{change}: {error!r}"
    else:
        fault = f"{change}: not refused"
    _alter(job, change.column, change.before)
    if job.one("SELECT count(*) FROM events") != count:
        return f"{change}: rows are gone"
    return fault


def _alter(job: Job, column: str, kind: str) -> None:
    if isinstance(job, MySqlJob):
        job.execute(f"ALTER TABLE events MODIFY {column} {kind}")
        return
    plain = kind.replace(' COLLATE "C"', "")
    job.execute(f"SET timezone = 'UTC'; ALTER TABLE events ALTER {column} TYPE {kind} USING {column}::{plain}")
