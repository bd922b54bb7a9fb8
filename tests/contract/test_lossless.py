"""Every value of every type comes back from the archive bit for bit, or the type is refused by name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from airflow_dbhygiene.errors import NotLossless, PlanRefused
from airflow_dbhygiene.policy import ColdTable, Parquet
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.restore import Wish, restore
from tests.job import Job
from tests.servers.postgres import PostgresServer

PREPARE = """
CREATE SCHEMA odd;
CREATE EXTENSION citext SCHEMA odd;
CREATE EXTENSION hstore SCHEMA odd;
CREATE EXTENSION ltree SCHEMA odd;
CREATE EXTENSION cube SCHEMA odd;
CREATE EXTENSION seg SCHEMA odd;
CREATE EXTENSION isn SCHEMA odd;
CREATE TYPE odd."Mood; %s" AS ENUM ('', 'so so', 'it''s "fine"', '😀');
CREATE TYPE odd.inner_part AS (a text, b numeric);
CREATE TYPE odd.pair AS (a text, b int, c odd.inner_part, d odd.inner_part[]);
CREATE DOMAIN odd.short_text AS text CHECK (length(VALUE) < 9);
CREATE DOMAIN odd.two_places AS numeric(6, 2);
CREATE DOMAIN odd.days AS date[];
"""

TEXTS = [
    *("''", "' '", "'plain'", "'NULL'", "'\\N'", "'\\.'", "E'\\\\.\\n'", "E'a\\n\\\\.\\nb'", "E'ends with newline\\n'"),
    *(
        "E'\\r\\n'",
        "E'\\r'",
        "E'\\t'",
        "E'ends with tab\\t'",
        "'ends with backslash\\'",
        "'\"'",
        "'a,b'",
        "''''",
        "'a\"\"b'",
    ),
    *("'größe 表 😀🏳️‍🌈'", "E'\\u0301'", "E'\\x01\\x7f'", "E'\\ufeff'", "repeat('x', 1000000)", "repeat('😀', 30000)"),
]

# Type → SQL of values beyond NULL, which every column has too.
TYPES: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "0", "32767"],
    "integer": ["-2147483648", "0", "2147483647"],
    "bigint": ["'-9223372036854775808'", "0", "9223372036854775807"],
    "real": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "'1e-45'", "'3.4028235e38'", "0.1", "1.0000001", "16777217"],
    "double precision": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "'5e-324'", "'1.7976931348623157e308'", "0.1"],
    "text": TEXTS,
    "character varying": TEXTS,
    "character varying(7)": ["''", "'x  '", "'1234567'"],
    "character(5)": ["''", "'a'", "'12345'", "E'\\n'", "'ü'"],
    'pg_catalog."char"': ["'a'", "''", "'\"'", "'\\'"],
    "name": ["''", "'select'", "repeat('n', 63)"],
    "bytea": ["''", "'\\x00'", "'\\x00ff0a0d5c2e22'", "decode(repeat('00ff', 20000), 'hex')"],
    "date": ["'0001-01-01'", "'9999-12-31'", "'1582-10-10'", "'2024-02-29'"],
    "timestamp without time zone": ["'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'2024-03-31 02:30:00.000001'"],
    "timestamp with time zone": [
        "'0001-01-01 00:00+00'",
        "'9999-12-31 23:59:59.999999+00'",
        "'2024-10-27 00:30:00.5+00'",
    ],
    "timestamp(0) with time zone": ["'2024-01-01 00:00:01+00'"],
    "timestamp(3) without time zone": ["'2024-01-01 00:00:01.123'"],
    "time without time zone": ["'00:00'", "'24:00'", "'23:59:59.999999'"],
    "time with time zone": ["'24:00:00-15:59'", "'00:00+15:59'", "'12:34:56.789+05:30'"],
    "interval": [
        "'1 day'",
        "'24:00'",
        "'1 mon -1 day +00:00:01'",
        "'-178000000 years'",
        "'0'",
        "'0.000001 s'",
        "'-1:00'",
    ],
    "interval day to second(2)": ["'1 day 00:00:01.25'"],
    "numeric": [
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "0",
        "0.00",
        "1.10",
        "-1e1000",
        "1e-500",
        "repeat('9', 2000)::numeric",
    ],
    "numeric(10,2)": ["0", "-99999999.99", "99999999.99", "0.01"],
    "numeric(5)": ["0", "-99999"],
    "numeric(38,10)": ["-9999999999999999999999999999.9999999999", "0.0000000001"],
    "numeric(38,38)": ["0.99999999999999999999999999999999999999"],
    "numeric(39,1)": ["99999999999999999999999999999999999999.9", "'NaN'"],
    "money": ["'-92233720368547758.08'", "0", "1.5"],
    "uuid": ["'00000000-0000-0000-0000-000000000000'", "'FFFFFFFF-ffff-ffff-ffff-ffffffffffff'"],
    "json": ['\'{"a":1,"a" : 2,  "b":1.0}\'', "'null'", "' [ ] '", "'\"\\u0041\\n\"'", "'1e1000'"],
    "jsonb": ['\'{"a":1,"a":2,"b":1.0}\'', "'null'", "'[]'", "'\"\\u00fc\"'", "'1.000e2'", "'{\"\": [null, {}]}'"],
    "jsonpath": ["'$.a[*] ? (@ > 1)'", "'strict $'"],
    "xml": [
        "'<a b=\"1\">x &amp; y</a>'",
        "'text only'",
        "''",
        "'<?xml version=\"1.0\"?><a/>'",
        "'<a/><b/>'",
        "'<!-- c -->'",
    ],
    "inet": ["'::'", "'1.2.3.4'", "'1.2.3.4/8'", "'fe80::1/64'", "'0.0.0.0/0'"],
    "cidr": ["'10.0.0.0/8'", "'::/0'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
    "bit(3)": ["B'101'", "B'000'"],
    "bit varying": ["B''", "B'0000000001'", "repeat('10', 500)::varbit"],
    "point": ["'(1.1,-0)'", "'(NaN,Infinity)'"],
    "line": ["'{1,-1,0.1}'"],
    "lseg": ["'[(0,0),(1,1)]'"],
    "box": ["'(2,2),(0.1,1)'"],
    "path": ["'[(0,0),(1,1)]'", "'((0,0),(1,1),(2,0.3))'"],
    "polygon": ["'((0,0),(1,1),(2,0))'"],
    "circle": ["'<(0.1,0),5>'"],
    "tsvector": ["'a:1A fat:2B,4C ''o''''clock'''", "''"],
    "tsquery": ["'fat & (rat:AB | !cat:*) <2> x'", "''"],
    "oid": ["0", "4294967295"],
    "xid": ["'4294967295'"],
    "xid8": ["'18446744073709551615'"],
    "cid": ["'7'"],
    "tid": ["'(4294967295,65535)'"],
    "pg_lsn": ["'FFFFFFFF/FFFFFFFF'"],
    "pg_snapshot": ["'10:20:10,14'"],
    "txid_snapshot": ["'10:20:10,14'"],
    "int2vector": ["'1 2 3'", "''"],
    "oidvector": ["'1 2'"],
    "integer[]": ["'{}'", "'{NULL,1}'", "'[0:1]={1,2}'", "'[-1:0][2:3]={{1,2},{3,NULL}}'", "'{{{1}}}'"],
    "text[]": [
        "'{}'",
        '\'{"",NULL,"NULL","a,b","{","\\\\","\\"",null}\'',
        "ARRAY[E'a\\nb', ' ', '😀']",
        "ARRAY[['a'],['b']]",
    ],
    "bytea[]": ["ARRAY['\\x00ff'::bytea, ''::bytea]"],
    "double precision[]": ["'{NaN,-0,Infinity,5e-324}'"],
    "numeric(6,2)[]": ["'{1,NaN,-0.01}'"],
    "timestamp with time zone[]": ["'{infinity,-infinity,\"2024-10-27 00:30:00+00\"}'"],
    "date[]": ["'{infinity,\"4713-01-01 BC\",5874897-12-31}'"],
    "interval[]": ["'{1 day,24:00}'"],
    "json[]": ['ARRAY[\'{"a":1,"a":2}\'::json]'],
    "int4range": ["'empty'", "'(,)'", "'[1,)'", "'[-2147483648,5)'"],
    "int8range": ["'[1,9223372036854775807)'"],
    "numrange": ["'[1.0,1.00]'", "'(,NaN)'", "'[-Infinity,5]'"],
    "daterange": ["'[2024-01-01,)'", "'[-infinity,infinity]'"],
    "tsrange": ["'(2024-01-01 00:00,2024-01-02]'"],
    "tstzrange": ["'[2024-10-27 00:30+00,infinity)'", "'empty'"],
    "int4multirange": ["'{}'", "'{[1,2),[5,6)}'", "'{(,)}'"],
    "nummultirange": ["'{[1.10,2.0]}'"],
    "tstzmultirange": ["'{[2024-01-01 00:00+00,)}'"],
    "int4range[]": ["'{empty,\"[1,2)\"}'"],
    'odd."Mood; %s"': ["''", "'so so'", "'it''s \"fine\"'", "'😀'"],
    'odd."Mood; %s"[]': ["ARRAY['', 'so so', NULL]::odd.\"Mood; %s\"[]"],
    "odd.pair": [
        "ROW('', NULL, ROW(E'a\\n\"(,)', 1.00), ARRAY[ROW('x', 0.0)::odd.inner_part, NULL])",
        "ROW(NULL, NULL, NULL, NULL)",
        "ROW('\\', 1, NULL, '{}')",
    ],
    "odd.pair[]": ["ARRAY[ROW('', 1, NULL, NULL)::odd.pair, NULL]"],
    "odd.short_text": ["''", "E'a\\n'"],
    "odd.two_places": ["1", "-0.01"],
    "odd.days": ["'{infinity,NULL}'"],
    "odd.short_text[]": ["'{a,\"\"}'"],
    "odd.citext": ["'MiXed'", "''"],
    "odd.hstore": ['\'a=>1, "b c"=>NULL, ""=>""\'', "''"],
    "odd.ltree": ["'Top.Science'", "''"],
    "odd.lquery": ["'*.Science@*'"],
    "odd.cube": ["'(0.1,2),(3,4)'"],
    "odd.seg": ["'1.00 .. 2'", "'~5.0'"],
    "odd.isbn13": ["'978-0-393-04002-9'"],
}

NEWER: dict[int, dict[str, list[str]]] = {
    15: {"numeric(5,-2)": ["1234567", "-99"], "numeric(3,5)": ["0.00999"]},
    17: {"interval(3)": ["'infinity'", "'-infinity'"]},
}

# Archived as text because the policy says so: values that Parquet's own types cannot hold.
AS_TEXT: dict[str, list[str]] = {
    "date": ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'", "'0001-01-01'"],
    "timestamp without time zone": ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31 23:59:59.999999'"],
    "timestamp with time zone": ["'infinity'", "'-infinity'", "'4713-01-01 00:00+00 BC'", "'0044-03-15 12:00+00 BC'"],
    "numeric(8,3)": ["'NaN'", "1"],
    "character(4)": ["'a'", "''"],
    "double precision": ["'-0'", "0.1", "'NaN'"],
    "boolean": ["true", "false"],
    "bytea": ["''", "'\\x00ff'"],
    "bigint": ["'-9223372036854775808'"],
}


def version(job: Job) -> int:
    """Give the server's major version."""
    return int(job.one("SHOW server_version_num")) // 10_000


def columns_of(job: Job) -> dict[str, tuple[str, list[str]]]:
    """Name a column for each type that the server knows: name → type and values."""
    types = TYPES | {name: values for at, more in NEWER.items() if version(job) >= at for name, values in more.items()}
    plain = {f"c{i} {kind}"[:60]: (kind, values) for i, (kind, values) in enumerate(types.items())}
    return plain | {f"t{i} {kind}"[:60]: (kind, values) for i, (kind, values) in enumerate(AS_TEXT.items())}


def fill(job: Job, columns: dict[str, tuple[str, list[str]]]) -> None:
    """Make a table with one row per value: in row n each column has its n-th value, or NULL."""
    names = {name: sql.Identifier(name) for name in columns}
    spelled = [sql.SQL("{} {}").format(names[name], sql.SQL(kind)) for name, (kind, _) in columns.items()]  # type: ignore[arg-type]
    extra = (
        "gen text GENERATED ALWAYS AS (id::text || E'\\n') STORED, always bigint GENERATED ALWAYS AS IDENTITY,"
        " by_default int GENERATED BY DEFAULT AS IDENTITY"
    )
    with psycopg.connect(job.dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz, {}, gone int, {})").format(
                sql.SQL(extra), sql.SQL(", ").join(spelled)
            )
        )
        connection.execute("CREATE INDEX ON events (at, id)")
        for n in range(max(len(values) for _, values in columns.values()) + 1):
            given = [(names[name], values[n]) for name, (_, values) in columns.items() if n < len(values)]
            connection.execute(
                sql.SQL("INSERT INTO events (id, at{}) VALUES ({}, '2023-01-01'{})").format(
                    sql.SQL("").join(sql.SQL(", {}").format(name) for name, _ in given),
                    sql.Literal(n),
                    sql.SQL("").join(sql.SQL(", {}").format(sql.SQL(value)) for _, value in given),  # type: ignore[arg-type]
                )
            )
        connection.execute("ALTER TABLE events DROP gone")
        connection.execute("CREATE TABLE original AS TABLE events; ANALYZE events")


def values_of(column: pa.ChunkedArray) -> Iterator[Any]:
    """Give a column's values in a form that the server casts to the column's type."""
    for value in column.to_pylist():
        yield repr(value) if isinstance(value, float) else value


def differing(job: Job, archived: pa.Table) -> list[str]:
    """Load the archive beside the original, each value by a cast of its own, and name the columns that differ."""
    types = dict(
        job.execute(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'original'::regclass AND attnum > 0"
        )
    )
    different = []
    with psycopg.connect(job.dsn, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'; SET lc_monetary = 'C'")
        connection.execute("CREATE TABLE back AS TABLE original WITH NO DATA")
        names = [name for name in archived.column_names if name in types]
        cast = sql.SQL(", ").join(sql.SQL("%s::{}").format(sql.SQL(types[name])) for name in names)  # type: ignore[arg-type]
        listed = sql.SQL(", ").join(map(sql.Identifier, names))
        insert = _escaped(sql.SQL("INSERT INTO back ({}) VALUES ({})").format(listed, cast))
        rows = zip(*(values_of(archived.column(name)) for name in names), strict=True)
        for row in rows:
            connection.execute(insert, row)
        for name in types:
            compared = sql.SQL(
                "SELECT count(*), count(*) FILTER (WHERE ROW(o.{0})::record *= ROW(b.{0})::record)"
                " FROM original o FULL JOIN back b USING (id)"
            ).format(sql.Identifier(name))
            total, equal = connection.execute(compared).fetchone()  # type: ignore[misc]
            if total != equal:
                different.append(name)
    return different


def _escaped(statement: sql.Composed) -> sql.SQL:
    """Double the percent signs of names, which psycopg would take for placeholders."""
    return sql.SQL(statement.as_string().replace("Mood; %s", "Mood; %%s"))  # type: ignore[arg-type]


def test_every_type_survives_the_archive(job: Job) -> None:
    """NULL, the empty, the smallest, the largest and the odd of every type come back as the same bytes."""
    job.execute(PREPARE)
    columns = columns_of(job)
    fill(job, columns)
    as_text = tuple(name for name in columns if name.startswith("t"))
    certificate = job.run(job.policy(archive=Parquet("file:///cold", as_text=as_text)))
    rows = job.one("SELECT count(*) FROM original")
    assert (certificate["rows_purged"], certificate["state"]) == (rows, "done")
    assert job.one("SELECT count(*) FROM events") == 0
    assert job.one("SELECT compared_rows FROM dbhygiene.chunk") == rows
    assert differing(job, job.archived(certificate)) == []


@pytest.mark.parametrize("place", ["cold.events", "there@cold.events"])
def test_every_type_survives_in_a_cold_table(job: Job, place: str) -> None:
    """The same values, infinite dates and NaN included, are there and come back, all as the same bytes."""
    other = f"{conninfo_to_dict(job.dsn)['dbname']}_there"
    job.elsewhere["there"] = make_conninfo(job.dsn, dbname=other)
    job.execute(f"CREATE DATABASE {other}")
    try:
        for each in (job, Job(job.elsewhere["there"], job.folder)):
            each.execute(PREPARE)
            each.execute("CREATE SCHEMA cold")
        columns = columns_of(job)
        fill(job, columns)
        certificate = job.run(job.policy(archive=ColdTable(place)))
        rows = job.one("SELECT count(*) FROM original")
        assert (certificate["rows_purged"], job.one("SELECT count(*) FROM events")) == (rows, 0)
        assert restore(job.site, Wish(certificate["run"], "back")).restored == rows
        for name in columns:
            same = sql.SQL(
                "SELECT count(*) FILTER (WHERE ROW(o.{0})::record *= ROW(e.{0})::record) FROM original o"
            ).format(sql.Identifier(name))
            assert job.one(same.as_string() + " JOIN events e USING (id)") == rows, name
    finally:
        job.execute(f"DROP DATABASE {other} WITH (FORCE)")


def test_the_comparison_sees_what_equality_does_not(job: Job) -> None:
    """The test above would notice a lost zero, a lost sign, a day turned into hours."""
    fill(job, {"n": ("numeric", ["1.00"]), "f": ("float8", ["'-0'"]), "i": ("interval", ["'1 day'"])})
    archived = job.archived(job.run(job.policy()))
    for name, value in (("n", "1.0"), ("f", 0.0), ("i", "24:00:00")):
        column = archived.column_names.index(name)
        values = pa.array([value, None], archived.schema.field(name).type)
        job.execute("DROP TABLE IF EXISTS back")
        assert differing(job, archived.set_column(column, name, values)) == [name]


@pytest.mark.parametrize("verify", ["sample", "content"])
def test_settings_of_the_database_change_nothing(job: Job, verify: str) -> None:
    """Formats, zones and string syntax that an administrator has set do not reach the archive."""
    job.execute(PREPARE)
    some = (
        "interval",
        "date",
        "timestamp with time zone",
        "text[]",
        "double precision[]",
        "money",
        "xml",
        "bytea",
        "json",
    )
    columns = {f"c{i}": (kind, TYPES[kind]) for i, kind in enumerate(some)}
    fill(job, columns)
    for setting in (
        *(
            "datestyle = 'German'",
            "intervalstyle = 'sql_standard'",
            "timezone = 'Asia/Kathmandu'",
            "bytea_output = 'escape'",
        ),
        *(
            "extra_float_digits = -2",
            "array_nulls = off",
            "xmloption = 'document'",
            "standard_conforming_strings = off",
        ),
    ):
        job.execute(f"ALTER DATABASE {job.one('SELECT current_database()')} SET {setting}")
    certificate = job.run(job.policy(verify=verify))
    for setting in ("array_nulls", "xmloption", "extra_float_digits", "datestyle", "standard_conforming_strings"):
        job.execute(f"ALTER DATABASE {job.one('SELECT current_database()')} RESET {setting}")
    assert differing(job, job.archived(certificate)) == []


REFUSED = [
    *("regclass", "regtype", "regproc", "regprocedure", "aclitem", "refcursor", "regclass[]", "pg_ndistinct"),
    *("odd.holder", "odd.holder[]", "odd.a_class", "odd.classes", "odd.class_range"),
]


def test_types_that_cannot_come_back_are_refused_by_name(job: Job) -> None:
    """An object's name read back may mean another object: also inside arrays, composites, domains and ranges."""
    columns = ", ".join(f'"Odd {kind}" {kind}' for kind in REFUSED)
    job.execute(
        "CREATE SCHEMA odd; CREATE TYPE odd.holder AS (a int, b regclass); CREATE DOMAIN odd.a_class AS regclass;"
        "CREATE TYPE odd.classes AS (a odd.a_class[]); CREATE TYPE odd.class_range AS RANGE (subtype = regclass);"
        f"CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz, {columns}); ANALYZE events"
    )
    with pytest.raises(PlanRefused) as refused:
        job.plan(job.policy())
    for kind in REFUSED:
        message = f"column Odd {kind} has type {kind}, whose values cannot be archived exactly"
        assert any(message in refusal.replace("pg_catalog.", "") for refusal in refused.value.refusals)
    assert len(refused.value.refusals) == len(REFUSED)


ODD_DATES = [
    ("date", "infinity"),
    ("date", "-infinity"),
    ("date", "0044-03-15 BC"),
    ("date", "10000-01-01"),
    ("timestamp", "infinity"),
    ("timestamp", "-infinity"),
    ("timestamptz", "infinity"),
    ("timestamptz", "-infinity"),
    ("timestamptz", "0001-12-31 23:59:59+00 BC"),
    ("timestamptz", "294276-12-31 23:59:59.999999+00"),
    ("numeric(8,3)", "NaN"),
]


def test_a_value_that_parquet_cannot_hold_stops_the_archive(job: Job) -> None:
    """The error names column and way out, nothing is deleted; taken that way, the value comes back."""
    for number, (kind, value) in enumerate(ODD_DATES):
        job.execute(
            "DROP TABLE IF EXISTS events, original, back;"
            f"CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz, odd {kind});"
            f"INSERT INTO events VALUES (1, '2023-01-01', NULL), (2, '2023-01-01', '{value}'); ANALYZE events;"
            "CREATE TABLE original AS TABLE events"
        )
        (ticket,) = job.start(job.policy(name=f"native-{number}"))
        with pytest.raises(NotLossless, match=r"column odd .*archive\.as_text: \[odd\]"):
            archive(job.site, ticket.run, ticket.chunk)
        assert job.one("SELECT count(*) FROM events") == 2
        as_text = Parquet("file:///cold", as_text=("odd",))
        certificate = job.run(job.policy(name=f"text-{number}", archive=as_text))
        assert certificate["rows_purged"] == 2
        assert differing(job, job.archived(certificate)) == [], (kind, value)


def test_another_encoding_is_refused(any_postgres: PostgresServer, tmp_path: Path) -> None:
    """The ledger's labels and the archive are UTF-8; table and column names are read right all the same."""
    job = Job(any_postgres.dsn("latin"), tmp_path / "cold")
    with psycopg.connect(any_postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        job.execute('CREATE TABLE "größe" (id text PRIMARY KEY, at timestamptz, "maß" regclass); ANALYZE "größe"')
        with pytest.raises(PlanRefused, match=r"(?s)public\.größe.*encoding is LATIN1.*column maß has type"):
            job.plan(job.policy(table="public.größe"))
    finally:
        any_postgres.drop_database("latin")
