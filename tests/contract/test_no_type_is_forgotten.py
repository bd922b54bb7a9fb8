"""Each server is asked for its own types, character sets and collations: a new one fails here until it is decided."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import MySQLdb
import pytest

from airflow_dbhygiene.errors import PlanRefused
from airflow_dbhygiene.policy import Matching
from airflow_dbhygiene.steps.restore import Wish, restore
from tests.job import Job
from tests.mysql_job import MySqlJob
from tests.servers.mysql import MySqlServer
from tests.values.mysql import columns_of
from tests.values.postgres import PREPARE, TYPES

# PostgreSQL


def test_every_type_of_postgresql_is_archived_or_refused(job: Job) -> None:
    """A type that no list of edge values has is refused by the name of its column."""
    job.execute(PREPARE)
    decided = {job.one("SELECT %s::regtype::oid", (kind,)) for kind in TYPES}
    undecided = [
        name
        for oid, name in job.execute(
            "SELECT oid, format_type(oid, NULL) FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
            " AND typtype IN ('b', 'r', 'm', 'e', 'd') AND NOT (typelem <> 0 AND typsubscript::text LIKE 'array%')"
        )
        if oid not in decided
    ]
    columns = ", ".join(f'"c {kind}" {kind}' for kind in undecided)
    job.execute(f"CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz, {columns}); ANALYZE events")
    with pytest.raises(PlanRefused) as refused:
        job.plan(job.policy())
    named = {match for text in refused.value.refusals for match in re.findall(r"^column c (.+) has type", text)}
    assert named == set(undecided)


# MariaDB and MySQL


@pytest.fixture
def mysql_job(mysql_database: dict[str, Any], tmp_path: Path) -> MySqlJob:
    """Give an empty database."""
    return MySqlJob(folder=tmp_path, parameters=mysql_database)


def test_every_type_of_mysql_has_edge_values(mysql_job: MySqlJob, any_mysql: MySqlServer) -> None:
    """Each word that the server knows is tried as a type: what it then calls the column is in the list."""
    known = {re.match(r"\w+", spelled).group() for spelled in _stored(mysql_job, columns_of(any_mysql.flavour))}  # type: ignore[union-attr]
    words = {row[0].lower() for row in mysql_job.execute("SELECT word FROM information_schema.keywords")}
    plugins = "SELECT plugin_name FROM information_schema.plugins WHERE plugin_type = 'DATA TYPE'"
    words |= {row[0].lower() for row in mysql_job.execute(plugins)}
    tried = [f"{word}{more}" for word in sorted(words) for more in ("", "(3)", "('a')")]
    assert len(words) > 500
    found = set(_stored(mysql_job, tried))
    assert len(found) > 30
    assert found - known == set()


def _stored(job: MySqlJob, spelled: Any) -> Iterator[str]:
    """Make a column of each type that the server takes, and give its own name of it."""
    with closing(job.open()) as connection, closing(connection.cursor()) as cursor:
        for each in spelled:
            try:
                cursor.execute(f"CREATE TABLE tried (c {each})")
            except MySQLdb.Error:
                continue
            cursor.execute(
                "SELECT data_type FROM information_schema.columns"
                " WHERE table_schema = database() AND table_name = 'tried'"
            )
            yield cursor.fetchone()[0]
            cursor.execute("DROP TABLE tried")


CHARACTERS = "aZ ß€éжאกあ漢가😀\\'\"\t\n,~"
COLUMNS_AT_A_TIME = 130
COLLATIONS = """
SELECT {name} AS collation, a.character_set_name, s.maxlen
FROM information_schema.collation_character_set_applicability a
JOIN information_schema.character_sets s USING (character_set_name)
WHERE s.character_set_name <> 'binary' ORDER BY 2, 1
"""


def test_every_character_set_and_collation(mysql_job: MySqlJob, any_mysql: MySqlServer) -> None:
    """A column of each collation holds each byte, or each of some characters, that its character set has."""
    name = "full_collation_name" if any_mysql.flavour == "mariadb" else "collation_name"
    collations = mysql_job.execute(COLLATIONS.format(name=name))
    assert len(collations) > 200
    for start in range(0, len(collations), COLUMNS_AT_A_TIME):
        some = collations[start : start + COLUMNS_AT_A_TIME]
        lay_out(mysql_job, some)
        before = read(mysql_job, some)
        table = f"{mysql_job.parameters['database']}.texts"
        policy = mysql_job.policy(name=f"texts-{start}", table=table, stale=Matching("id > 0"), restored="purge")
        certificate = mysql_job.run(policy)
        assert certificate["rows_purged"] == len(before) == 2
        assert restore(mysql_job.site, Wish(certificate["run"], f"back {start}")).restored == 2
        assert read(mysql_job, some) == before
        mysql_job.execute("DROP TABLE texts")


def lay_out(job: MySqlJob, collations: list[tuple[str, str, int]]) -> None:
    """Make a table with a column of each collation, and two rows: of characters, and of bytes."""
    columns = ", ".join(
        f"{collation} text CHARACTER SET {charset} COLLATE {collation}" for collation, charset, _ in collations
    )
    job.execute(f"CREATE TABLE texts (id int PRIMARY KEY, {columns})")
    for number, make in enumerate((characters, octets), start=1):
        values = {charset: make(job, charset, most) for _, charset, most in collations}
        row = ", ".join(values[charset] for _, charset, _ in collations)
        job.execute(f"INSERT INTO texts VALUES ({number}, {row})")
    job.execute("ANALYZE TABLE texts")


def characters(job: MySqlJob, charset: str, _: int) -> str:
    """Write those of the characters that the character set has."""
    codes = [f"_utf8mb4 X'{each.encode().hex()}'" for each in CHARACTERS]
    same = ", ".join(
        f"CONVERT(CONVERT({code} USING {charset}) USING utf8mb4) COLLATE utf8mb4_bin = {code}" for code in codes
    )
    ((*known,),) = job.execute(f"SELECT {same}")
    text = "".join(each for each, has in zip(CHARACTERS, known, strict=True) if has)
    return f"CONVERT(_utf8mb4 X'{text.encode().hex()}' USING {charset})"


def octets(_: MySqlJob, charset: str, most: int) -> str:
    """Write all the bytes that a character set of one byte takes; of the others, those of ASCII."""
    if most == 1:
        return f"_{charset} X'{bytes(range(1, 128 if charset == 'ascii' else 256)).hex()}'"
    return f"CONVERT(_utf8mb4 X'{bytes(range(1, 128)).hex()}' USING {charset})"


def read(job: MySqlJob, collations: list[tuple[str, str, int]]) -> list[tuple[Any, ...]]:
    """Read all values as the server's own bytes."""
    values = ", ".join(f"hex(CAST({collation} AS BINARY))" for collation, _, _ in collations)
    return job.execute(f"SELECT id, {values} FROM texts ORDER BY id")
