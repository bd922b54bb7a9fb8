"""Nothing that stands in a name, a value or a predicate is ever run: a corpus through the whole job, on every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_dbhygiene.errors import HygieneError, PolicyInvalid
from airflow_dbhygiene.policy import Matching, OlderThan
from airflow_dbhygiene.policy.names import TableName
from airflow_dbhygiene.steps.hold import HoldWish, list_holds, place_hold, release_hold
from airflow_dbhygiene.steps.pause import list_pauses, pause, resume
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify_archive import verify_archive
from tests.job import Job
from tests.mysql_job import MySqlJob

pytestmark = pytest.mark.rights(
    "all", "its names are too odd for scripts, and it calls functions that others may not see"
)

# Quotes of all kinds, ends of statements, comments, placeholders of every driver, format strings, escapes, wildcards.
NAMES = (
    """x"; DROP TABLE victim; --""",
    "x`; DROP TABLE victim; #",
    """it's 100%s %(a)s %% %d""",
    "{0} {a} {{}} ${b} $1 :c ?",
    "back\\slash \\' \\\"",
    "/* größe */ 表 é",
    "a.b",
    "SELECT",
)
VALUES = (
    *NAMES,
    "'; DROP TABLE victim; --",
    "' OR '1'='1",
    "\\",
    "\\'",
    "''",
    '"',
    "$$ $x$ $$",
    "%",
    "_",
    "line\nbreak\ttab\r",
    "\x01\x7f",
    "😀",
    "X'00'",
    "NULL",
)


@dataclass(frozen=True)
class Odd:
    """A table whose every name is odd, on one engine, and a victim beside it."""

    job: Job
    quote: Callable[[str], str]
    literal: Callable[[str], str]
    name: TableName
    key: str
    at: str
    note: str

    @property
    def mysql(self) -> bool:
        """Tell the engine's family."""
        return isinstance(self.job, MySqlJob)

    @property
    def spelled(self) -> str:
        """Write the table's name as SQL."""
        return f"{self.quote(self.name.schema)}.{self.quote(self.name.table)}"

    def policy(self, **changes: Any) -> Any:
        """Take all rows, whose age is known."""
        stale = OlderThan(self.at, keep="300 days", zone="UTC")
        return self.job.policy(**{"table": str(self.name), "stale": stale} | changes)

    def rows(self) -> list[tuple[Any, ...]]:
        """Give all rows."""
        return sorted(self.job.execute(f"SELECT {self.quote(self.key)}, {self.quote(self.note)} FROM {self.spelled}"))


@pytest.fixture
def make(events_job: Job) -> Iterator[Callable[[int], Odd]]:
    """Give a function that makes a table with odd names, other ones for each number."""
    job, schemas = events_job, []
    mysql = isinstance(job, MySqlJob)

    def quote(name: str) -> str:
        return "`" + name.replace("`", "``") + "`" if mysql else '"' + name.replace('"', '""') + '"'

    def literal(value: str) -> str:
        text = value.replace("'", "''")
        return "'" + (text.replace("\\", "\\\\") if mysql else text) + "'"

    def odd(number: int) -> Odd:
        schema, table, key, at, note = (NAMES[(number + i) % len(NAMES)] for i in range(5))
        schema = f"{number} {schema}" if mysql else schema  # its schemas are the server's, not a database's
        made = Odd(job, quote, literal, TableName(schema, table), key, at, note)
        job.execute(f"CREATE SCHEMA {quote(schema)}".replace("%", "%%" if mysql else "%"))
        schemas.append(schema)
        moment, charset = ("datetime", "CHARACTER SET utf8mb4") if mysql else ("timestamptz", "")
        text = f"varchar(100) {charset}" + (" COLLATE utf8mb4_bin" if mysql else "")
        run(
            job,
            f"CREATE TABLE {made.spelled} ({quote(key)} {text} PRIMARY KEY, {quote(at)} {moment} NOT NULL, {quote(note)} {text})",
        )
        run(job, f"CREATE INDEX {quote('i; --')} ON {made.spelled} ({quote(at)}, {quote(key)})")
        for value in VALUES:
            run(job, f"INSERT INTO {made.spelled} VALUES ({literal(value)}, '2020-01-01 00:00:00', {literal(value)})")
        run(job, f"ANALYZE {'TABLE ' if mysql else ''}{made.spelled}")
        return made

    job.execute("CREATE TABLE victim (id int PRIMARY KEY)")
    job.execute("INSERT INTO victim VALUES (1)")
    yield odd
    assert job.execute("SELECT id FROM victim") == [(1,)]
    if mysql:
        for schema in schemas:
            run(job, f"DROP SCHEMA {quote(schema)}")


def run(job: Job, statement: str) -> None:
    """Run SQL as it stands: without values no driver looks for placeholders."""
    job.execute(statement)


@pytest.mark.parametrize("number", range(0, len(NAMES), 3))
def test_odd_names_and_values_go_through_the_whole_job(make: Callable[[int], Odd], number: int) -> None:
    """Planned, held by keys, archived, verified, purged, restored by a condition, paused, verified again: all exact."""
    odd = make(number)
    job, before = odd.job, odd.rows()
    assert len(before) == len(VALUES)
    held = VALUES[number : number + 3]
    hold = place_hold(job.site, HoldWish(str(odd.name), VALUES[8], VALUES[9], keys=tuple((key,) for key in held)))
    assert (hold.rows, hold.hold.reason, hold.hold.placed_by) == (3, VALUES[8], VALUES[9])
    certificate = job.run(odd.policy())
    assert (certificate["state"], certificate["rows_purged"]) == ("done", len(VALUES) - 3)
    assert odd.rows() == sorted((value, value) for value in held)
    assert sorted(job.archived(certificate).column(odd.key).to_pylist()) == sorted(set(VALUES) - set(held))
    chosen = VALUES[11]
    where = f"{odd.quote(odd.note)} = {odd.literal(chosen)}"
    assert restore(job.site, Wish(certificate["run"], VALUES[9], where=where)).restored == 1
    assert odd.rows() == sorted((value, value) for value in (*held, chosen))
    assert restore(job.site, Wish(certificate["run"], VALUES[8])).restored == len(VALUES) - 4
    assert odd.rows() == before
    assert verify_archive(job.site, policy="events").findings == []
    release_hold(job.site, hold.hold.hold_id, VALUES[8])
    assert {each.hold_id for each in list_holds(job.site)} == {f"restored {VALUES[i]}" for i in (8, 9)}
    scope = f"table:{odd.name}"
    assert [pause(job.site, scope, VALUES[8], VALUES[9])] == list(list_pauses(job.site))
    assert resume(job.site, scope) == scope


def test_odd_values_in_a_condition_select_what_they_say(make: Callable[[int], Odd]) -> None:
    """Each value as a literal of a policy's own SQL takes its own row, and no other."""
    odd = make(0)
    for value in VALUES:
        if "\x01" in value:
            continue
        stale = Matching(f"{odd.quote(odd.note)} = {odd.literal(value)}")
        plan = odd.job.plan(odd.policy(stale=stale, guard={"max_fraction": 1, "allow_full_scan": True}))
        assert plan.stale_rows == 1, value


POSTGRES_EFFECTS = (
    *("nextval('s') > 0", "setval('s', 1) > 0", "pg_sleep(1) IS NULL", "pg_catalog.pg_sleep(1) IS NULL"),
    *('"pg_sleep"(1) IS NULL', "PG_SLEEP (1) IS NULL", "lo_unlink(1) = 1", "lo_create(0) > 0", "lo_import('/x') > 0"),
    *(
        "pg_terminate_backend(1)",
        "pg_cancel_backend(1)",
        "pg_advisory_lock(1) IS NULL",
        "random() < 1",
    ),
    *(
        "set_config('a.b', '1', false) = '1'",
        "pg_read_file('/x') = ''",
        "pg_ls_dir('/') IS NOT NULL",
        "pg_reload_conf()",
    ),
    *(
        "query_to_xml('DELETE FROM victim', true, true, '') IS NULL",
        "gen_random_uuid() IS NULL",
        "pg_switch_wal() > '0/0'",
    ),
    *("pg_notify('a', 'b') IS NULL", "wipe(id)", "Public.Wipe(id)"),
    *("public.quiet(id)", "id = (WITH gone AS (DELETE FROM victim RETURNING id) SELECT id FROM gone)", "id = 1 INTO x"),
    *('U&"pg\\005fsleep"(1) IS NULL', "(events).wipe", "(events.*).wipe", "events.wipe", "id OPERATOR(public.~~~) 1"),
    *("id::odd_type IS NULL", "CAST(id AS odd_type) IS NULL"),
)
MYSQL_EFFECTS = (
    *(
        "sleep(1) = 0",
        "`sleep`(1) = 0",
        "SLEEP (1) = 0",
        "benchmark(10, 1) = 0",
        "get_lock('a', 1) = 1",
        "release_lock('a')",
    ),
    *(
        "load_file('/x') IS NULL",
        "@a := 1",
        "(@a := id) > 0",
        "id = @a",
        "id = @@autocommit",
        "rand() < 1",
        "uuid() = ''",
    ),
    *("last_insert_id(5) = 5", "id = 1 INTO OUTFILE '/x'", "id = 1 INTO @a", "id = 1 INTO DUMPFILE '/x'", "wipe(id)"),
    *("id = 1 PROCEDURE ANALYSE()", "id = (SELECT 1)", "id = 1 /*! OR sleep(1) */", "id = 1 # x", "id = 1 -- x"),
    *(
        "nextval(s) > 0",
        "id = 1 LOCK IN SHARE MODE",
        "id = 1 FOR UPDATE",
        "master_pos_wait('a', 1) = 1",
        "is_free_lock('a')",
    ),
    *(
        "NEXT VALUE FOR s > 0",
        "id = 1 LIMIT 1",
        "name_const('a', 1) = sleep(1)",
        "updatexml(1, concat(1, sleep(1)), 1) = 1",
    ),
)


def test_a_predicate_with_an_effect_is_refused(make: Callable[[int], Odd]) -> None:
    """As a policy's condition, as a hold's and as a restore's: before anything of it is run."""
    odd = make(0)
    job, table = odd.job, odd.job.policy().table
    if not odd.mysql:
        job.execute(
            """
            CREATE SEQUENCE s;
            CREATE FUNCTION wipe(bigint) RETURNS bool LANGUAGE sql AS 'DELETE FROM victim RETURNING true';
            CREATE FUNCTION wipe(events) RETURNS bool LANGUAGE sql AS 'DELETE FROM victim RETURNING true';
            CREATE FUNCTION quiet(bigint) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT true';
            CREATE FUNCTION pair(bigint, int) RETURNS bool LANGUAGE sql AS 'DELETE FROM victim RETURNING true';
            CREATE OPERATOR ~~~ (LEFTARG = bigint, RIGHTARG = int, FUNCTION = pair);
            CREATE TYPE odd_type AS (a int);
            CREATE FUNCTION odd_cast(bigint) RETURNS odd_type LANGUAGE sql AS 'DELETE FROM victim RETURNING NULL::odd_type';
            CREATE CAST (bigint AS odd_type) WITH FUNCTION odd_cast(bigint);
            """
        )
    else:
        job.execute("SET GLOBAL log_bin_trust_function_creators = 1")
        job.execute("CREATE FUNCTION wipe(i bigint) RETURNS int DETERMINISTIC BEGIN DELETE FROM victim; RETURN 1; END")
    job.start(job.policy())
    passed = [text for text in (MYSQL_EFFECTS if odd.mysql else POSTGRES_EFFECTS) if not _refused(job, table, text)]
    assert passed == []
    assert list_holds(job.site) == ()
    assert job.execute("SELECT id FROM victim") == [(1,)]


def _refused(job: Job, table: str, text: str) -> bool:
    """Tell whether the package refuses a condition, of a policy and of a hold: what only the server rejects is too late."""
    refusals = 0
    for use in (
        lambda: job.plan(job.policy(stale=Matching(text), guard={"max_fraction": 1, "allow_full_scan": True})),
        lambda: place_hold(job.site, HoldWish(table, "x", "x", where=text)),
    ):
        try:
            use()
        except PolicyInvalid:
            refusals += 1
        except HygieneError:
            pass
    return refusals == 2
