"""Every type of MariaDB and MySQL with its edge values: archived, purged, restored, and compared by the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from airflow_dbhygiene.errors import NotLossless, PlanRefused
from airflow_dbhygiene.policy import ColdTable, Matching, Parquet
from airflow_dbhygiene.steps.restore import Wish, restore
from tests.mysql_job import MySqlJob
from tests.servers.mysql import MySqlServer

INTEGERS = {
    f"{kind}{sign}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if not sign else (0, 2**bits - 1)
    for kind, bits in (("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32), ("bigint", 64))
    for sign in ("", " unsigned")
}
TEXTS = (
    "X'411F421F'",
    "''",
    "'plain'",
    r"'line\nbreak\n'",
    r"'back\\slash\ttab\r'",
    '\'"quoted", "\'',
    "','",
    "'trailing  '",
    "'😀é'",
)
BYTES = ("''", "X'00'", "X'0D0A2C22'", "X'FFFE00'")

COLUMNS: dict[str, tuple[str, ...]] = {
    **{kind: tuple(map(str, (*edges, 0))) for kind, edges in INTEGERS.items()},
    "int(5) unsigned zerofill": ("0", "42"),
    "bool": ("0", "1"),
    "decimal(10,3)": ("0", "-9999999.999", "9999999.999", "0.001"),
    "decimal(38,10)": ("1.0000000001", "-9999999999999999999999999999.9999999999"),
    "decimal(65,30)": (f"{'9' * 35}.{'9' * 30}", f"-{'9' * 35}.{'9' * 30}", "0.000000000000000000000000000001"),
    "decimal(5,5)": ("0.99999", "-0.00001"),
    "float": ("1.0000001", "1.0000002", "16777217", "3.40282346e38", "-1.17549435e-38", "0.1"),
    "float(7,3)": ("1234.567", "-0.001"),
    "double": ("0.1", "0.30000000000000004", "1.7976931348623157e308", "4.9e-324", "-2.2250738585072014e-308", "1e15"),
    "double(10,3)": ("1234567.891", "0.001"),
    "bit(1)": ("b'0'", "b'1'"),
    "bit(64)": ("0", "18446744073709551615", "b'101'"),
    "date": ("'1000-01-01'", "'9999-12-31'", "'2024-02-29'", "'0001-01-01'"),
    "datetime": ("'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'2013-03-31 02:30:00'"),
    "datetime(6)": ("'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'"),
    "timestamp": ("'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2013-10-27 01:30:00'"),
    "timestamp(6)": ("'1970-01-01 00:00:01.000001'", "'2013-03-31 02:30:00.5'"),
    "time": ("'-838:59:59'", "'838:59:59'", "'24:00:00'", "'00:00:00'"),
    "time(6)": ("'-00:00:00.000001'", "'838:59:58.999999'"),
    "year": ("'0000'", "1901", "2000", "2155"),
    "char(20)": TEXTS,
    "varchar(50)": TEXTS,
    "tinytext": TEXTS,
    "text": (*TEXTS, "repeat('x\\ny,\"', 10000)"),
    "mediumtext": (*TEXTS, "repeat('\"', 200000)"),
    "longtext": (*TEXTS, "repeat('long ', 100000)"),
    "varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin": TEXTS,
    "varchar(50) CHARACTER SET utf8mb3": ("''", "'é€'"),
    "varchar(50) CHARACTER SET ascii": ("''", "'~ a'"),
    "varchar(50) CHARACTER SET latin1": ("''", "'é€ÿ'", "X'80818D8F909D9F'"),
    "varchar(50) CHARACTER SET sjis": ("_sjis X'82A0835C'", "''"),
    "varchar(50) CHARACTER SET gbk": ("'漢字'",),
    "varchar(50) CHARACTER SET ucs2": ("'é漢'",),
    "varchar(50) CHARACTER SET utf16": ("'😀é'",),
    "char(5) CHARACTER SET utf32": ("'😀é '",),
    "varchar(50) CHARACTER SET koi8r": ("'Ж\"'",),
    "binary(4)": ("X'00'", "X'41200000'", "X'FFFFFFFF'"),
    "varbinary(50)": BYTES,
    "tinyblob": BYTES,
    "blob": BYTES,
    "mediumblob": BYTES,
    "longblob": (*BYTES, "repeat(X'000D0A22', 100000)"),
    "enum('a','b''c','d,e','é')": ("'a'", "'b''c'", "'d,e'", "'é'"),
    "set('x','y','z z')": ("''", "'x'", "'x,y,z z'"),
    "enum('ä','ö') CHARACTER SET latin1": ("'ä'", "'ö'"),
    "json": ("""'{"a": [1, 2.5, null, "é", {"b": ""}]}'""", "'[]'", "'null'", "'12345678901234567890'", "'1e100'"),
    "geometry": (
        "st_geomfromtext('POINT(1 2)')",
        "st_geomfromtext('POLYGON((0 0,1 0,1 1,0 0))')",
        "st_geomfromtext('POINT(1 2)', 4326)",
    ),
    "point": ("st_geomfromtext('POINT(0 0)')",),
}
MARIADB = {
    "uuid": ("'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'"),
    "inet6": ("'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.1'"),
    "inet4": ("'192.0.2.1'", "'0.0.0.0'"),
    "varchar(100) COMPRESSED": TEXTS,
}
MYSQL = {"vector(3)": ("to_vector('[1,2,3.5]')",)}

NAMES = ("plain", "with space", "quo`te", 'dou"ble', "per%cent", "select", "ünïcode", "Upper")


@pytest.fixture
def job(mysql_database: dict[str, Any], tmp_path: Path) -> MySqlJob:
    """Give an empty database."""
    return MySqlJob(folder=tmp_path, parameters=mysql_database)


def columns_of(server: MySqlServer) -> dict[str, tuple[str, ...]]:
    """Give the types that a server has."""
    return COLUMNS | (MARIADB if server.flavour == "mariadb" else MYSQL)


def lay_out(job: MySqlJob, kinds: dict[str, tuple[str, ...]]) -> list[str]:
    """Make a table with a column of each type, a row for each value, and one of NULLs; give the columns' names."""
    names = [f"{NAMES[i % len(NAMES)]} {i}" for i in range(len(kinds))]
    quoted = ["`" + name.replace("`", "``") + "`" for name in names]
    spelled = zip(quoted, kinds, strict=True)
    with job.open(charset="utf8mb4") as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES,STRICT_ALL_TABLES', time_zone = '+00:00'")
        definitions = ", ".join(f"{name} {kind} NULL" for name, kind in spelled)
        cursor.execute(f"CREATE TABLE everything (id bigint PRIMARY KEY, {definitions}) ROW_FORMAT=DYNAMIC")
        cursor.execute("INSERT INTO everything (id) VALUES (0)")
        number = 0
        for name, values in zip(quoted, kinds.values(), strict=True):
            for value in values:
                number += 1
                cursor.execute(f"INSERT INTO everything (id, {name}) VALUES ({number}, {value})")
        cursor.execute("ANALYZE TABLE everything")
    return quoted


def dump(job: MySqlJob, quoted: list[str], kinds: dict[str, tuple[str, ...]]) -> list[tuple[Any, ...]]:
    """Read all values as the server's own bytes, and floats as doubles."""
    floats = [f"CAST({name} * 1e0 AS CHAR)" for name, kind in zip(quoted, kinds, strict=True) if kind[:2] == "fl"]
    values = [f"hex(CAST({name} AS BINARY))" for name in quoted]
    return job.execute(f"SELECT id, {', '.join([*values, *floats])} FROM everything ORDER BY id")


@pytest.mark.parametrize("place", [None, "", "there@"], ids=["parquet", "cold", "cold elsewhere"])
def test_every_type_comes_back_equal(job: MySqlJob, any_mysql: MySqlServer, place: str | None) -> None:
    """Archived, verified in full, purged and restored: the server finds every value as it was."""
    kinds = columns_of(any_mysql)
    quoted = lay_out(job, kinds)
    before = dump(job, quoted, kinds)
    database = job.parameters["database"]
    job.execute(f"CREATE DATABASE {database}_cold")
    job.servers["there"] = job.parameters
    archive = Parquet("file:///cold") if place is None else ColdTable(f"{place}{database}_cold.everything")
    policy = job.policy(table=f"{database}.everything", stale=Matching("id >= 0"), archive=archive)
    certificate = job.run(policy)
    assert certificate["rows_purged"] == len(before)
    assert job.one("SELECT count(*) FROM everything") == 0
    assert job.one("SELECT sum(compared_rows) FROM dbhygiene.chunk") == len(before)
    assert restore(job.site, Wish(certificate["run"], "back")).restored == len(before)
    assert dump(job, quoted, kinds) == before
    job.execute(f"DROP DATABASE {database}_cold")


def test_archives_open_elsewhere_with_natural_types(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """DuckDB and pyarrow read the objects as they are: numbers as numbers, moments as moments."""
    kinds = {
        kind: columns_of(any_mysql)[kind] for kind in ("bigint unsigned", "decimal(10,3)", "float", "timestamp(6)")
    }
    lay_out(job, kinds)
    policy = job.policy(table=f"{job.parameters['database']}.everything", stale=Matching("id >= 0"))
    certificate = job.run(policy)
    types = [field.type for field in job.archived(certificate).schema][1:5]
    assert types == [pa.uint64(), pa.decimal128(10, 3), pa.float32(), pa.timestamp("us", tz="UTC")]
    path = next(job.folder.rglob("*.parquet"))
    query = f'SELECT max("plain 0"), max("with space 1") FROM \'{path}\''
    ((most, digits),) = duckdb.execute(query).fetchall()
    assert most == 2**64 - 1
    assert str(digits) == "9999999.999"


@pytest.mark.parametrize("as_text", [(), ("at",)], ids=["native", "as text"])
def test_zero_dates_need_text(job: MySqlJob, as_text: tuple[str, ...]) -> None:
    """A date that is none stops the archive by name; as the server's text it is kept exactly."""
    with job.open() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("CREATE TABLE odd (id int PRIMARY KEY, at datetime)")
        cursor.execute("INSERT INTO odd VALUES (1, '0000-00-00'), (2, '2013-00-00'), (3, '2013-01-01')")
        cursor.execute("ANALYZE TABLE odd")
    place = Parquet("file:///cold", as_text=as_text)
    policy = job.policy(table=f"{job.parameters['database']}.odd", stale=Matching("id > 0"), archive=place)
    if not as_text:
        with pytest.raises(NotLossless, match="as_text"):
            job.run(policy)
        assert job.one("SELECT count(*) FROM odd") == 3
        return
    certificate = job.run(policy)
    restore(job.site, Wish(certificate["run"], "back"))
    texts = [row[0] for row in job.execute("SELECT CAST(at AS CHAR) FROM odd ORDER BY id")]
    assert texts == ["0000-00-00 00:00:00", "2013-00-00 00:00:00", "2013-01-01 00:00:00"]


def test_generated_and_invisible_columns(job: MySqlJob) -> None:
    """What the server computes is archived, and computed again; what SELECT * hides is archived too."""
    job.execute(
        "CREATE TABLE odd (id bigint AUTO_INCREMENT PRIMARY KEY, a int, twice int AS (a * 2) STORED,"
        " thrice int AS (a * 3) VIRTUAL, hidden varchar(10) DEFAULT 'h' INVISIBLE)"
    )
    job.execute("INSERT INTO odd (a, hidden) VALUES (1, 'x'), (2, 'y')")
    job.execute("ANALYZE TABLE odd")
    everything = "SELECT id, a, twice, thrice, hidden FROM odd ORDER BY id"
    before = job.execute(everything)
    policy = job.policy(table=f"{job.parameters['database']}.odd", stale=Matching("a > 0"))
    certificate = job.run(policy)
    assert job.archived(certificate).column("hidden").to_pylist() == ["x", "y"]
    restore(job.site, Wish(certificate["run"], "back"))
    assert job.execute(everything) == before


KEYS = {
    "int unsigned": ("0", "4294967295", "7"),
    "decimal(30,10)": ("1.5", "-3", "1234567890123456789.0123456789"),
    "varchar(20)": ("'a'", "'B'", "'ç'", "'z z'", "''"),
    "varchar(20) CHARACTER SET latin1": ("'a'", "'é'", "'Z'"),
    "char(5) COLLATE utf8mb4_bin": ("'A'", "'a'", "'b'"),
    "varbinary(10)": ("X'00'", "X'FF22'", "''"),
    "datetime(6)": ("'2013-01-01 00:00:00.000001'", "'2013-01-01'"),
    "timestamp": ("'2013-01-01 00:00:01'", "'2013-01-02'"),
    "date": ("'2013-01-01'", "'1999-12-31'"),
    "time(3)": ("'-10:00:00.001'", "'25:00:00'"),
    "year": ("'0000'", "2000", "1999"),
    "bit(8)": ("0", "255", "7"),
    "varchar(20) CHARACTER SET sjis": ("_sjis X'82A0'", "'a'"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key(job: MySqlJob, kind: str) -> None:
    """Rows go by keys of any type, in small batches and composite keys too, and come back."""
    job.execute(f"CREATE TABLE keyed (k {kind} NOT NULL, n int NOT NULL, note text, PRIMARY KEY (k, n))")
    for value in KEYS[kind]:
        for n in range(3):
            job.execute(f"INSERT INTO keyed VALUES ({value}, {n}, 'x')")
    job.execute("ANALYZE TABLE keyed")
    rows = 3 * len(KEYS[kind])
    guard = {"max_fraction": 1, "min_chunk_rows": 3}
    table = f"{job.parameters['database']}.keyed"
    policy = job.policy(table=table, stale=Matching("note = 'x'"), guard=guard)
    tickets = job.start(policy)
    assert len(tickets) > 1
    certificate = job.finish(tickets)
    assert certificate["rows_purged"] == rows, json.dumps(certificate)
    assert job.one("SELECT count(*) FROM keyed") == 0
    assert job.one("SELECT count(*) FROM dbhygiene.batch WHERE careful") == 0
    assert restore(job.site, Wish(certificate["run"], "back")).restored == rows


def test_keys_that_are_no_identity_are_refused(job: MySqlJob) -> None:
    """Floating point and labels cannot be keys here, by name."""
    for kind, value in (("float", "1"), ("enum('b','a')", "'a'")):
        job.execute(f"CREATE TABLE keyed (k {kind} PRIMARY KEY)")
        job.execute(f"INSERT INTO keyed VALUES ({value})")
        policy = job.policy(table=f"{job.parameters['database']}.keyed", stale=Matching("k > 0"))
        with pytest.raises(PlanRefused, match="key column k"):
            job.plan(policy)
        job.execute("DROP TABLE keyed")
