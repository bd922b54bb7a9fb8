"""Every type of MariaDB and MySQL with its edge values: archived, purged, restored, and compared by the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from airflow_dbhygiene.errors import NotLossless, PlanRefused
from airflow_dbhygiene.policy import ColdTable, Matching, Parquet
from airflow_dbhygiene.steps.restore import Wish, restore
from tests.conftest import MySqlByFlavour
from tests.mysql_job import MySqlJob
from tests.servers.mysql import MySqlServer
from tests.values.mysql import columns_of

NAMES = ("plain", "with space", "quo`te", 'dou"ble', "per%cent", "select", "ünïcode", "Upper")


@pytest.fixture
def job(mysql_database: dict[str, Any], tmp_path: Path) -> MySqlJob:
    """Give an empty database."""
    return MySqlJob(folder=tmp_path, parameters=mysql_database)


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
    kinds = columns_of(any_mysql.flavour)
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


@pytest.mark.parametrize("place", [None, ""], ids=["parquet", "cold"])
@pytest.mark.parametrize("kind", ["bigint", "date", "decimal(11,2)"])
def test_a_table_of_its_key_alone(job: MySqlJob, kind: str, place: str | None) -> None:
    """A row whose line is one number or moment, with nothing in quotes, comes over and back as any other."""
    name = job.parameters["database"]
    job.execute(f"CREATE TABLE bare (id {kind} PRIMARY KEY)")
    job.execute("INSERT INTO bare VALUES (20130101), (20130102), (20130103)")
    before = job.execute("SELECT id FROM bare ORDER BY id")
    job.execute("ANALYZE TABLE bare")
    archive = Parquet("file:///cold") if place is None else ColdTable(f"{name}.bare_cold")
    policy = job.policy(table=f"{name}.bare", stale=Matching("id IS NOT NULL"), archive=archive)
    certificate = job.run(policy)
    assert (certificate["rows_purged"], job.one("SELECT count(*) FROM bare")) == (3, 0)
    assert job.one("SELECT count(*) FROM dbhygiene.batch WHERE careful") == 0
    assert restore(job.site, Wish(certificate["run"], "back")).restored == 3
    assert job.execute("SELECT id FROM bare ORDER BY id") == before


def test_archives_open_elsewhere_with_natural_types(job: MySqlJob, any_mysql: MySqlServer) -> None:
    """DuckDB and pyarrow read the objects as they are: numbers as numbers, moments as moments."""
    kinds = {
        kind: columns_of(any_mysql.flavour)[kind]
        for kind in ("bigint unsigned", "decimal(10,3)", "float", "timestamp(6)")
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


def test_zero_dates_come_back_from_cold_tables(job: MySqlJob) -> None:
    """A cold table holds them as they are, and so does all that reads it."""
    zero_dates(job)
    name = job.parameters["database"]
    job.servers["there"] = job.parameters
    for number, place in enumerate((f"{name}.beside", f"there@{name}.elsewhere")):
        policy = job.policy(
            name=f"odd-{number}",
            table=f"{name}.odd",
            stale=Matching("id > 0"),
            archive=ColdTable(place),
            restored="purge",
        )
        certificate = job.run(policy)
        assert certificate["rows_purged"] == 3
        assert restore(job.site, Wish(certificate["run"], place)).restored == 3
        assert texts(job) == ["0000-00-00 00:00:00", "2013-00-00 00:00:00", "2013-01-01 00:00:00"]


def zero_dates(job: MySqlJob) -> None:
    """Make a table with dates that are none."""
    with job.open() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("CREATE TABLE odd (id int PRIMARY KEY, at datetime)")
        cursor.execute("INSERT INTO odd VALUES (1, '0000-00-00'), (2, '2013-00-00'), (3, '2013-01-01')")
        cursor.execute("ANALYZE TABLE odd")


def texts(job: MySqlJob) -> list[str]:
    """Read the dates as the server writes them."""
    return [row[0] for row in job.execute("SELECT CAST(at AS CHAR) FROM odd ORDER BY id")]


@pytest.mark.parametrize("as_text", [(), ("at",)], ids=["native", "as text"])
def test_zero_dates_need_text(job: MySqlJob, as_text: tuple[str, ...]) -> None:
    """A date that is none stops the archive by name; as the server's text it is kept exactly."""
    zero_dates(job)
    place = Parquet("file:///cold", as_text=as_text)
    policy = job.policy(table=f"{job.parameters['database']}.odd", stale=Matching("id > 0"), archive=place)
    if not as_text:
        with pytest.raises(NotLossless, match="as_text"):
            job.run(policy)
        assert job.one("SELECT count(*) FROM odd") == 3
        return
    certificate = job.run(policy)
    restore(job.site, Wish(certificate["run"], "back"))
    assert texts(job) == ["0000-00-00 00:00:00", "2013-00-00 00:00:00", "2013-01-01 00:00:00"]


INSIDE_JSON = {
    "JSON_OBJECT('price', 1.10)": False,
    "JSON_OBJECT('price', 1.5)": False,
    "JSON_ARRAY(TIMESTAMP'2024-01-01 00:00:00')": False,
    "JSON_ARRAY(DATE'2024-01-01')": False,
    "JSON_ARRAY(TIME'24:00:00')": False,
    "JSON_ARRAY(X'00FF')": False,
    "JSON_OBJECT('many', 18446744073709551615, 'real', 1.5e0, 'yes', true, 'none', NULL)": True,
    "'-0.0'": True,
}


@pytest.mark.parametrize("beside", [False, True], ids=["parquet", "cold table"])
def test_json_that_its_text_does_not_tell_is_refused(mysql: MySqlJob, *, beside: bool) -> None:
    """In MySQL a document may hold a DECIMAL or a moment, which would come back as a DOUBLE or a string."""
    place = ColdTable("cold_json.odd") if beside else Parquet("file:///cold")
    for number, (value, exact) in enumerate(INSIDE_JSON.items()):
        mysql.execute("CREATE TABLE odd (id int PRIMARY KEY, doc json)")
        mysql.execute(f"INSERT INTO odd VALUES (1, {value}), (2, NULL)")
        mysql.execute("ANALYZE TABLE odd")
        table = f"{mysql.parameters['database']}.odd"
        policy = mysql.policy(name=f"json-{number}", table=table, stale=Matching("id > 0"), archive=place)
        if exact:
            assert mysql.run(policy)["rows_purged"] == 2, value
        else:
            with pytest.raises(NotLossless, match=r"column doc .*DECIMAL"):
                mysql.run(policy)
            mysql.execute("UPDATE odd SET doc = JSON_QUOTE(CAST(doc AS CHAR))")
            mysql.execute("UPDATE odd SET doc = JSON_UNQUOTE(doc)")
            assert mysql.run(policy.model_copy(update={"name": f"again-{number}"}))["rows_purged"] == 2, value
        mysql.execute("DROP TABLE odd")


@pytest.fixture
def mysql(mysql_by_flavour: MySqlByFlavour, tmp_path: Path) -> Iterator[MySqlJob]:
    """Give an empty database of MySQL, whose JSON is a type of its own."""
    server = mysql_by_flavour("mysql")
    server.create_database("cold_json")
    yield MySqlJob(folder=tmp_path, parameters=server.create_database("json"))
    for name in ("json", "cold_json", "dbhygiene"):
        server.drop_database(name)


def test_json_updated_in_place_is_archived(mysql: MySqlJob) -> None:
    """Room that a document was left with is no sign of anything."""
    mysql.execute("CREATE TABLE odd (id int PRIMARY KEY, doc json)")
    mysql.execute("""INSERT INTO odd VALUES (1, '{"a": "a long text", "b": [1, 2, 3]}')""")
    mysql.execute("UPDATE odd SET doc = JSON_SET(doc, '$.a', 'short')")
    mysql.execute("UPDATE odd SET doc = JSON_REMOVE(doc, '$.b[1]')")
    mysql.execute("ANALYZE TABLE odd")
    assert mysql.one("SELECT JSON_STORAGE_FREE(doc) FROM odd") > 0
    table = f"{mysql.parameters['database']}.odd"
    assert mysql.run(mysql.policy(table=table, stale=Matching("id > 0")))["rows_purged"] == 1


@pytest.mark.parametrize("beside", [False, True], ids=["parquet", "cold table"])
def test_an_enum_without_a_label_is_refused_before_it_is_archived(job: MySqlJob, *, beside: bool) -> None:
    """What servers that were not strict made of unknown labels cannot be written to one that is."""
    name = job.parameters["database"]
    with job.open() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("CREATE TABLE odd (id int PRIMARY KEY, size enum('s','m'))")
        cursor.execute("INSERT INTO odd VALUES (1, 's'), (2, 'xxl'), (3, NULL)")
        cursor.execute("ANALYZE TABLE odd")
    place = ColdTable(f"{name}.odd_cold") if beside else Parquet("file:///cold")
    with pytest.raises(NotLossless, match=r"column size .* leave such rows out with stale.where size <> ''"):
        job.run(job.policy(table=f"{name}.odd", stale=Matching("id > 0"), archive=place))
    where = "size <> '' OR size IS NULL"
    certificate = job.run(job.policy(name="known", table=f"{name}.odd", stale=Matching(where), archive=place))
    assert certificate["rows_purged"] == 2
    assert restore(job.site, Wish(certificate["run"], "back")).restored == 2


@pytest.mark.parametrize("beside", [False, True], ids=["parquet", "cold table"])
def test_more_columns_than_a_strict_server_makes(
    mysql_by_flavour: MySqlByFlavour, tmp_path: Path, *, beside: bool
) -> None:
    """A table that is older than MariaDB's strict mode is archived, compared and restored like any other."""
    server = mysql_by_flavour("mariadb")
    job = MySqlJob(folder=tmp_path, parameters=server.create_database("many"))
    try:
        with job.open() as connection, connection.cursor() as cursor:
            cursor.execute("SET innodb_strict_mode = 0")
            columns = ", ".join(f"c{i} varchar(30)" for i in range(500))
            cursor.execute(f"CREATE TABLE wide (id int PRIMARY KEY, {columns})")
            cursor.execute("INSERT INTO wide (id, c0, c499) VALUES (1, 'a', 'b'), (2, NULL, 'd')")
            cursor.execute("ANALYZE TABLE wide")
        place = ColdTable("many.wide_cold") if beside else Parquet("file:///cold")
        certificate = job.run(job.policy(table="many.wide", stale=Matching("id > 0"), archive=place))
        assert certificate["rows_purged"] == 2
        assert restore(job.site, Wish(certificate["run"], "back")).restored == 2
    finally:
        for name in ("many", "dbhygiene"):
            server.drop_database(name)


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
    "varchar(20) CHARACTER SET latin1 COLLATE latin1_german2_ci": ("'a'", "'é'", "'Z'"),
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
