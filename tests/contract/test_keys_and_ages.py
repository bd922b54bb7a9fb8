"""The job ends right for every kind of key, age column and table, on each version of PostgreSQL."""

import dataclasses
from typing import Any

import pendulum
import pytest

from airflow_dbhygiene.errors import NotFound, PlanRefused, PolicyInvalid
from airflow_dbhygiene.policy import Expired, Guard, Matching, OlderThan, Policy
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.verify import verify
from tests.job import Job, interval_of, window_of


@dataclasses.dataclass(frozen=True)
class Key:
    """A kind of key: its columns, how number n is turned into one, and what must exist first."""

    columns: str
    values: str
    names: str = "k"
    before: str = ""


KEYS = {
    "bigint": Key("k bigint", "n * 4000000000000"),
    "smallest bigint": Key("k bigint", "'-9223372036854775808'::bigint + n"),
    "largest bigint": Key("k bigint", "'9223372036854775807'::bigint - n"),
    "int": Key("k int", "-n"),
    "smallint": Key("k smallint", "n - 300"),
    "text": Key("k text", "'ü' || n || E'\\n\\'\"\\\\'"),
    "text, C": Key('k text COLLATE "C"', "chr(97 + n % 26) || n"),
    "citext": Key("k citext", "chr(65 + n % 2 * 32 + n % 26) || n", before="CREATE EXTENSION citext;"),
    "varchar(20)": Key("k varchar(20)", "repeat(' ', n % 3) || n || repeat(' ', n % 5)"),
    "char(12)": Key("k char(12)", "repeat('x', n % 5) || n"),
    "uuid": Key("k uuid", "md5(n::text)::uuid"),
    "date": Key("k date", "date '1999-06-01' + n"),
    "timestamp": Key("k timestamp", "timestamp '1999-12-31 23:50' + n * interval '1.000001 s'"),
    "timestamptz": Key("k timestamptz", "timestamptz '1999-12-31 23:50+00' + n * interval '1.000001 s'"),
    "numeric": Key("k numeric", "n / 7.0"),
    "numeric(20,10)": Key("k numeric(20,10)", "(n - 5) / 1e10"),
    "bytea": Key("k bytea", "decode(lpad(to_hex(n * 77), 8, '0'), 'hex')"),
    "time": Key("k time", "time '00:00' + n * interval '1 s'"),
    "interval": Key("k interval", "n * interval '1 hour'"),
    "bpchar": Key("k bpchar", "n || repeat(' ', n % 3)"),
    "bit(12)": Key("k bit(12)", "n::bit(12)"),
    "int[]": Key("k int[]", "ARRAY[n % 7, n]"),
    "text[]": Key("k text[]", "ARRAY['a,\"b\"', n::text, '{}']"),
    "domain over int[]": Key("k pair", "ARRAY[n % 7, n]", before="CREATE DOMAIN pair AS int[];"),
    "int4range": Key("k int4range", "int4range(n, n + 3)"),
    "record": Key("k place", "ROW(n % 7, 't' || n)::place", before="CREATE TYPE place AS (a int, b text);"),
    "inet": Key("k inet", "'10.0.0.0'::inet + n"),
    "enum and int": Key(
        "k mood, j int", "(ARRAY['so', 'a''b'])[1 + n % 2]::mood, n", "k, j", "CREATE TYPE mood AS ENUM ('so', 'a''b');"
    ),
    "boolean and int": Key("k boolean, j int", "n % 2 = 0, n", "k, j"),
    "text, bigint and date": Key("k text, j bigint, d date", "'t' || n % 3, n, date '2020-01-01' + n % 7", "d, k, j"),
}

# One of each form: the walk's order is the server's, whatever the archive holds.
KEY_WALKS = (
    "bigint",
    "smallest bigint",
    "largest bigint",
    "text",
    "char(12)",
    "numeric",
    "numeric(20,10)",
    "interval",
    "text, bigint and date",
)


def fill(job: Job, key: Key, *, index: bool = True) -> None:
    """Make 600 rows, the odd ones stale, with ages that rise in another order than the keys."""
    job.execute(
        f"{key.before} CREATE TABLE events ({key.columns}, n int, at timestamptz, PRIMARY KEY ({key.names}));"
        f"INSERT INTO events SELECT {key.values}, n,"
        " CASE WHEN n % 2 = 1 THEN timestamptz '2020-01-01 00:00+00' ELSE timestamptz '2024-02-01 00:00+00' END"
        " + (n * 7 % 600) / 3 * interval '1 minute' FROM generate_series(0, 599) AS n;"
        + (f"CREATE INDEX ON events (at, {key.names});" if index else "")
        + "ANALYZE events"
    )


def left(job: Job) -> list[int]:
    """Give the numbers of the rows that are left."""
    return [n for (n,) in job.execute("SELECT n FROM events ORDER BY n")]


@pytest.mark.parametrize("walk", ["age", "key"])
def test_every_kind_of_key_is_walked_compared_and_deleted(job: Job, walk: str, subtests: pytest.Subtests) -> None:
    """Several chunks and batches by (age, key) or by key: the stale rows leave, no other, and never row by row."""
    chosen = KEYS if walk == "age" else {name: KEYS[name] for name in KEY_WALKS}
    for number, (name, key) in enumerate(chosen.items()):
        with subtests.test(name):
            fill(job, key, index=walk == "age")
            check_the_odd_rows_leave(job, small_steps(job, name=f"key-{number}"))
        job.execute("DROP TABLE IF EXISTS events")


def test_every_kind_of_key_is_matched_row_by_row(job: Job, subtests: pytest.Subtests) -> None:
    """A row that changed after it was archived stays, and all others of its batch go."""
    for number, (name, key) in enumerate(KEYS.items()):
        with subtests.test(name):
            fill(job, key)
            tickets = job.start(small_steps(job, name=f"key-{number}"))
            for ticket in tickets:
                archive(job.site, ticket.run, ticket.chunk)
                verify(job.site, ticket.run, ticket.chunk)
            job.execute("UPDATE events SET at = at WHERE n = 299")
            certificate = job.finish(tickets)
            assert (certificate["rows_purged"], certificate["rows_drifted"]) == (299, 1)
            assert left(job) == [n for n in range(600) if n % 2 == 0 or n == 299]
        job.execute("DROP TABLE IF EXISTS events")


def check_the_odd_rows_leave(job: Job, policy: Policy) -> None:
    """Run the job and look at all that it left behind."""
    certificate = job.run(policy)
    assert left(job) == list(range(0, 600, 2))
    assert (certificate["rows_purged"], certificate["chunks"]) == (300, 2)
    assert certificate["batches"] == 8
    assert certificate["careful_batches"] == 0
    assert sorted(job.archived(certificate)["n"].to_pylist()) == list(range(1, 600, 2))


def small_steps(job: Job, **changes: Any) -> Policy:
    """Give a policy that cuts 300 rows into two chunks of several batches."""
    return job.policy(
        **{
            "guard": Guard(max_fraction=1, min_chunk_rows=150, allow_full_scan=True),
            "pace": {"max_batch_rows": 40, "target_batch_seconds": 60},
        }
        | changes
    )


LED, ANYHOW = Guard(max_fraction=1), Guard(max_fraction=1, allow_full_scan=True)


def walk_of(job: Job, guard: Guard = LED) -> tuple[str, ...]:
    """Plan, and tell the walk."""
    return job.plan(job.policy(guard=guard)).run.selection.walk


def test_the_walk_is_the_index_that_there_is(job: Job) -> None:
    """(age, key) when an index leads with them; otherwise the key alone, where the policy allows that."""
    fill(job, KEYS["bigint"], index=False)
    with pytest.raises(
        PlanRefused, match=r"no index leads.*CREATE INDEX CONCURRENTLY ON public\.events \(at, k\), or set"
    ):
        walk_of(job)
    with pytest.raises(PlanRefused, match="no index leads"):  # to see that none is stale, the whole table would be read
        job.plan(job.policy(guard=LED, stale=OlderThan("at", keep="90 years", zone="UTC")))
    assert walk_of(job, guard=ANYHOW) == ("k",)
    job.execute("CREATE INDEX ON events (at, k)")
    assert walk_of(job) == ("at", "k")


@pytest.mark.parametrize("index", ["(at)", "(at, n)", "(at) INCLUDE (k)"])
def test_an_index_on_the_age_alone_is_a_walk_where_few_rows_share_one(job: Job, index: str) -> None:
    """Each batch sorts the rows of one age by their keys. The job is the same, and never goes row by row."""
    fill(job, KEYS["bigint"], index=False)
    job.execute(f"CREATE INDEX ON events {index}")
    assert walk_of(job) == ("at", "k")
    check_the_odd_rows_leave(job, small_steps(job))


def test_an_index_on_the_age_alone_of_a_partitioned_table_is_a_walk(job: Job) -> None:
    """Rows of one age lie in one partition, or in several."""
    for parts in ("RANGE (at)", "HASH (k)"):
        bounds = ("FROM (MINVALUE) TO ('2013-01-01 02:00')", "FROM ('2013-01-01 02:00') TO (MAXVALUE)")
        if parts == "HASH (k)":
            bounds = ("WITH (modulus 2, remainder 0)", "WITH (modulus 2, remainder 1)")
        fill(job, KEYS["bigint"], index=False)
        job.execute(
            f"ALTER TABLE events RENAME TO plain; CREATE TABLE events (LIKE plain) PARTITION BY {parts};"
            f" CREATE TABLE low PARTITION OF events FOR VALUES {bounds[0]};"
            f" CREATE TABLE high PARTITION OF events FOR VALUES {bounds[1]};"
            f" ALTER TABLE events ADD PRIMARY KEY (k{', at' if parts == 'RANGE (at)' else ''});"
            " INSERT INTO events SELECT * FROM plain; CREATE INDEX ON events (at); ANALYZE events"
        )
        assert walk_of(job) == ("at", "k")
        job.execute("DROP TABLE events, plain")


@pytest.mark.parametrize("seconds", ["greatest(n - 6000, 0)", "n % 2"], ids=["one is common", "there are few"])
def test_an_index_on_the_age_alone_is_none_where_many_rows_share_one(job: Job, seconds: str) -> None:
    """Of a day with a million rows each batch would sort the million."""
    job.execute(
        "CREATE TABLE events (k bigint PRIMARY KEY, at timestamptz NOT NULL);"
        f" INSERT INTO events SELECT n, '2013-01-01'::timestamptz + {seconds} * interval '1 second'"
        " FROM generate_series(1, 12000) AS n; CREATE INDEX ON events (at); ANALYZE events"
    )
    assert walk_of(job) == ("k",)


def test_rows_without_an_age_are_of_no_age(job: Job) -> None:
    """Of a column like deleted_at, where hardly any row has a value, or none has for now."""
    job.execute(
        "CREATE TABLE events (k bigint PRIMARY KEY, at timestamptz); CREATE INDEX ON events (at);"
        " INSERT INTO events SELECT n, CASE WHEN n <= 3 THEN '2013-01-01'::timestamptz + n * interval '1 s' END"
        " FROM generate_series(1, 20000) AS n; ANALYZE events"
    )
    assert walk_of(job) == ("at", "k")
    job.execute("UPDATE events SET at = NULL; ANALYZE events")
    assert walk_of(job) == ("at", "k")


def test_partitions_by_age_lead_to_it_as_an_index_does(job: Job) -> None:
    """The others are not read."""
    fill(job, KEYS["bigint"], index=False)
    job.execute(
        "ALTER TABLE events RENAME TO plain; CREATE TABLE events (LIKE plain, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);"
        " CREATE TABLE events_all PARTITION OF events DEFAULT; INSERT INTO events SELECT * FROM plain; ANALYZE events"
    )
    assert walk_of(job) == ("k", "at")


INDEXES = {
    "key first": "(k, at)",
    "descending": "(at DESC, k)",
    "nulls first": "(at NULLS FIRST, k)",
    "partial": "(at, k) WHERE n > 0",
    "an expression": "(at, (k + 0))",
}


def test_an_index_of_another_order_is_no_walk(job: Job, subtests: pytest.Subtests) -> None:
    """What does not hold all rows in ascending order of age and key would lose or repeat some."""
    fill(job, KEYS["bigint"], index=False)
    for name, columns in INDEXES.items():
        with subtests.test(name):
            job.execute(f"CREATE INDEX ON events {columns}")
            assert walk_of(job, guard=ANYHOW if name == "key first" else LED) == ("k",)


def test_an_index_of_another_collation_is_no_walk(job: Job) -> None:
    """Its order is not the order of the comparison."""
    fill(job, KEYS["text"], index=False)
    job.execute('CREATE INDEX ON events (at, k COLLATE "POSIX")')
    assert walk_of(job, guard=ANYHOW) == ("k",)


def test_an_index_with_more_columns_is_a_walk(job: Job) -> None:
    """It leads with age and key: what follows does no harm."""
    fill(job, KEYS["bigint"], index=False)
    job.execute("CREATE INDEX ON events (at, k, n) INCLUDE (n)")
    assert job.plan(job.policy()).run.selection.walk == ("at", "k")


PARTITIONED = """
CREATE TABLE events (k bigint, n int, at timestamptz NOT NULL, PRIMARY KEY (at, k)) PARTITION BY RANGE (at);
CREATE TABLE "part; 1" PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2020-01-01 01:00+00');
CREATE TABLE part_2 PARTITION OF events FOR VALUES FROM ('2020-01-01 01:00+00') TO ('2024-01-01') PARTITION BY HASH (k);
CREATE TABLE part_2_a PARTITION OF part_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE part_2_b PARTITION OF part_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE part_3 PARTITION OF events DEFAULT;
INSERT INTO events SELECT n, n, CASE WHEN n % 2 = 1 THEN timestamptz '2020-01-01 00:00+00'
    ELSE timestamptz '2024-02-01 00:00+00' END + n / 3 * interval '1 minute' FROM generate_series(0, 599) AS n;
ANALYZE events;
"""


def test_partitions_and_their_partitions_are_one_table(job: Job) -> None:
    """A table partitioned by its age, one partition by hash again: rows leave whichever leaf they are in."""
    job.execute(PARTITIONED)
    certificate = job.run(small_steps(job))
    assert left(job) == list(range(0, 600, 2))
    assert (certificate["rows_purged"], certificate["careful_batches"]) == (300, 0)
    assert certificate["rows_before"] == 600


def test_rows_of_one_moment_are_walked_by_their_key(job: Job) -> None:
    """Chunks and batches end in the middle of a timestamp that hundreds of rows share."""
    fill(job, KEYS["bigint"])
    job.execute("UPDATE events SET at = '2020-01-01 00:00+00' WHERE n % 2 = 1; ANALYZE events")
    certificate = job.run(small_steps(job))
    assert left(job) == list(range(0, 600, 2))
    assert (certificate["chunks"], certificate["careful_batches"]) == (2, 0)


# Age column, the policy's settings, ages that are just too young, and ages that are just stale on 2024-03-01
# in New York, which is 05:00 UTC.
AGES = [
    ("timestamptz", {}, ["'2024-03-01 05:00+00'"], ["'2024-03-01 04:59:59.999999+00'", "'0001-01-02 00:00+00'"]),
    ("timestamp", {"zone": "America/New_York"}, ["'2024-03-01 00:00'"], ["'2024-02-29 23:59:59.999999'"]),
    ("timestamp", {"zone": "UTC"}, ["'2024-03-01 05:00'"], ["'2024-03-01 04:59:59.999999'"]),
    ("timestamp(3)", {"zone": "UTC"}, ["'2024-03-01 05:00'"], ["'2024-03-01 04:59:59.999'"]),
    ("date", {"zone": "America/New_York"}, ["'2024-03-01'"], ["'2024-02-29'", "'0001-01-02'"]),
    ("bigint", {"epoch": "s"}, ["1709269200"], ["1709269199", "1"]),
    ("integer", {"epoch": "s"}, ["1709269200"], ["1709269199"]),
    ("bigint", {"epoch": "ms"}, ["1709269200000"], ["1709269199999", "1"]),
]
AGELESS = {
    "timestamptz": ["NULL", "'-infinity'", "'infinity'", "'0044-03-15 BC'", "'0001-01-01'"],
    "bigint": ["NULL", "0", "-1"],
}
CUTOFF = pendulum.datetime(2024, 3, 1, 5)


def test_an_age_is_exact_to_the_last_digit(job: Job, subtests: pytest.Subtests) -> None:
    """Rows before the cutoff leave; rows at it, without an age, or with one before all time, never do."""
    for number, (kind, settings, young, stale) in enumerate(AGES):
        with subtests.test(f"{kind} {settings}"):
            stays = [*young, *AGELESS["bigint" if kind in ("bigint", "integer") else "timestamptz"]]
            values = ", ".join(f"({n}, {value})" for n, value in enumerate([*stays, *stale]))
            job.execute(f"CREATE TABLE events (k int PRIMARY KEY, at {kind})")
            job.execute(f"INSERT INTO events VALUES {values}; ANALYZE events")
            policy = job.policy(name=f"age-{number}", stale=Expired("at", **settings))
            certificate = job.run(policy, window_of(policy, CUTOFF))
            assert certificate["rows_purged"] == len(stale)
            assert job.execute("SELECT k FROM events ORDER BY k") == [(n,) for n in range(len(stays))]
        job.execute("DROP TABLE events")


def test_a_window_takes_its_start_and_not_its_end(job: Job) -> None:
    """Half-open, so that consecutive windows share no row and miss none."""
    job.execute(
        "CREATE TABLE events (k int PRIMARY KEY, at timestamptz); INSERT INTO events"
        " SELECT n, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour' FROM generate_series(0, 72) n;"
        "ANALYZE events"
    )
    policy = job.policy(stale=Expired("at"), window="interval")
    days = [pendulum.datetime(2024, 1, day) for day in (1, 2, 3)]
    certificates = [job.run(policy, interval_of(policy, *pair)) for pair in ((days[1], days[2]), (days[0], days[1]))]
    assert [each["rows_purged"] for each in certificates] == [24, 24]
    assert job.one("SELECT min(k) FROM events") == 48


MISFITS = [
    ("text", "stale.column at is text, which tells no age. Use a timestamp, date or epoch column"),
    ("interval", "stale.column at is interval, which tells no age"),
    ("timestamp", "stale.zone is missing: column at is timestamp without time zone"),
    ("date", "stale.zone is missing: column at is date"),
    ("bigint", "stale.epoch is missing: column at is bigint; say whether it counts 's' or 'ms'"),
]


def test_an_age_that_could_be_misread_is_refused(job: Job, subtests: pytest.Subtests) -> None:
    """A zone or a unit is never guessed."""
    for kind, said in MISFITS:
        with subtests.test(kind):
            job.execute(
                f"DROP TABLE IF EXISTS events; CREATE TABLE events (k int PRIMARY KEY, at {kind}); ANALYZE events"
            )
            with pytest.raises(PolicyInvalid, match=said):
                job.plan(job.policy(stale=OlderThan("at", keep="1 day")))


def test_an_unknown_age_column_is_refused_with_the_known_ones(job: Job) -> None:
    """A slip of the pen is corrected at once."""
    job.execute("CREATE TABLE events (k int PRIMARY KEY, created timestamptz); ANALYZE events")
    with pytest.raises(NotFound, match=r"'at' is not a column of public\.events; its columns are k, created"):
        job.plan(job.policy())


def test_an_expression_selects_beside_or_instead_of_an_age(job: Job) -> None:
    """Where narrows an age; Matching needs none. A NULL answer is no yes."""
    fill(job, KEYS["bigint"])
    job.execute(
        "ALTER TABLE events ADD note text; UPDATE events SET note = 'a) OR (b %s {} ;' WHERE n < 100; ANALYZE events"
    )
    where = "note = 'a) OR (b %s {} ;' OR n > 590"
    assert job.run(job.policy(stale=OlderThan("at", keep="300 days", where=where)))["rows_purged"] == 50 + 5
    assert job.run(job.policy(name="matching", stale=Matching(where)))["rows_purged"] == 50 + 4


NAMES = [
    ("public", "events", "k", "at"),
    ("my schema", "My Table", "The Key", "The Age"),
    ('qu"ote', 'ta"b""le', 'k"ey', "a''ge"),
    ("semi;colon", "x; DROP TABLE y", "k;", "a--ge /* */"),
    ("50%", "%s", "%(k)s", "100%% {at}"),
    ("größe", "表😀", "ключ", "età"),
    ("select", "order", "user", "table"),
    ("UPPER", "CamelCase", "Key", "AT"),
    ("back\\slash", "a.b.c", "$1", "E'x"),
    ("x" * 63, "t" * 63, "k" * 63, "a" * 63),
    ("{braces}", "{0}", "{k}", "hot"),
    ("_dbhygiene_archived", "_dbhygiene_check", "archived", "_dbhygiene_key_0"),
]


@pytest.mark.parametrize("disturbed", [False, True], ids=["undisturbed", "row by row"])
def test_any_name_works(job: Job, subtests: pytest.Subtests, *, disturbed: bool) -> None:
    """Quotes, semicolons, percent signs, braces, reserved words and capitals are names like any other."""
    for number, names in enumerate(NAMES):
        with subtests.test(" ".join(names)):
            check_names(job, f"names-{number}", names, disturbed=disturbed)
        job.execute("DROP TABLE child CASCADE")


def check_names(job: Job, name: str, names: tuple[str, ...], *, disturbed: bool) -> None:
    """Purge a table of such names, with a child that keeps one row, and perhaps a row that comes in between."""
    s, t, k, a = (f'"{each.replace(chr(34), chr(34) * 2)}"' for each in names)
    job.execute(
        f"CREATE SCHEMA IF NOT EXISTS {s}; CREATE TABLE {s}.{t} ({k} int PRIMARY KEY, {a} timestamptz, plain text);"
        f"CREATE INDEX ON {s}.{t} ({a}, {k}); INSERT INTO {s}.{t}"
        f" SELECT n, timestamptz '2023-01-01 00:00+00' + n * interval '1 day', '' FROM generate_series(0, 99) n;"
        f"CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES {s}.{t}); CREATE INDEX ON child (parent);"
        f"INSERT INTO child VALUES (1, 5); ANALYZE {s}.{t}"
    )
    stale = OlderThan(names[3], keep="400 days", where=f"{k} <> 7")
    tickets = job.start(job.policy(name=name, table=f"{s}.{t}", stale=stale, children="skip"))
    if disturbed:
        job.execute(
            f"INSERT INTO {s}.{t} VALUES (1000, '2023-01-02', 'late'); UPDATE {s}.{t} SET plain = 'x' WHERE {k} = 9"
        )
    certificate = job.finish(tickets)
    assert certificate["state"] == "done"
    assert [n for (n,) in job.execute(f"SELECT {k} FROM {s}.{t} WHERE {k} < 27 ORDER BY 1")] == [5, 7, 25, 26]


def test_missing_things_are_named(job: Job) -> None:
    """Schema, table or another spelling of it: names are not folded."""
    job.execute("CREATE TABLE events (k int PRIMARY KEY, at timestamptz); ANALYZE events")
    for table in ("public.Events", "nowhere.events", "public.event"):
        with pytest.raises(NotFound, match=f"table {table} does not exist.*not folded"):
            job.plan(job.policy(table=table))


def test_guards_hold_on_every_version(job: Job) -> None:
    """Estimates come from the planner, whose form differs between versions."""
    fill(job, KEYS["bigint"])
    with pytest.raises(PlanRefused, match=r"300 of about 600 rows are stale, more than guard.max_fraction 0.25"):
        job.plan(job.policy(guard=Guard(max_fraction=0.25)))
