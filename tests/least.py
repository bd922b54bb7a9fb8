"""The least rights: roles made by the scripts of docs/roles, for each table that a test has made by then.

Whoever runs the job connects as such a role; the rights that the scripts only mention are given to tests that ask for
them by `@pytest.mark.rights("restore")`, `("reclaim")` or `("monitor")`. `("all", "why")` is for those that need an
administrator. ``cold`` names the schema, or the database, of a cold table.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import MySQLdb
import psycopg
from psycopg import sql

if TYPE_CHECKING:
    import pytest

ROLES: Final = Path(__file__).resolve().parents[1] / "docs/roles"

_TABLES: Final = """
SELECT n.nspname, c.relname, c.oid, (SELECT attname FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum LIMIT 1)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'dbhygiene')
"""


@dataclass
class PostgresRole:
    """A role of one database, named after it since it outlives it."""

    dsn: str
    more: tuple[str, ...] = ()
    name: str = field(default_factory=lambda: f"hygiene_{secrets.token_hex(6)}")
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    granted: set[int] = field(default_factory=set)
    cold: str | None = None

    def connect(self) -> psycopg.Connection[Any]:
        """Let an administrator run the script for all tables that are new, and connect."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (self.name,)).fetchone():
                self._begin(connection)
            for schema, table, oid, column in connection.execute(_TABLES).fetchall():
                if oid not in self.granted and column is not None:
                    self._grant(connection, schema, table, column)
                    self.granted.add(oid)
        return psycopg.connect(psycopg.conninfo.make_conninfo(self.dsn, user=self.name, password=self.password))

    def _begin(self, connection: psycopg.Connection[Any]) -> None:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        self._run(connection, {"role": self.name})
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(self.name), self.password))
        if self.cold:
            names = sql.Identifier(self.cold), sql.Identifier(self.name)
            connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(*names))

    def _run(self, connection: psycopg.Connection[Any], words: dict[str, str]) -> None:
        """Run what the script says of these words; without a table's name what it says of none."""
        for statement in postgres_statements(words):
            cursor = connection.execute(statement.removesuffix("\\gexec"))  # type: ignore[arg-type]
            for (made,) in cursor.fetchall() if statement.endswith("\\gexec") else ():
                connection.execute(made)

    def _grant(self, connection: psycopg.Connection[Any], schema: str, table: str, column: str) -> None:
        self._run(connection, {"role": self.name, "schema": schema, "table": table, "column": column})
        place, role = sql.Identifier(schema, table), sql.Identifier(self.name)
        if "monitor" in self.more:
            connection.execute(sql.SQL("GRANT pg_monitor TO {}").format(role))
        if "restore" in self.more:
            connection.execute(sql.SQL("GRANT INSERT ON {} TO {}").format(place, role))
        if "reclaim" in self.more:
            connection.execute(sql.SQL("GRANT CREATE, USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role))
            connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(place, role))


def postgres_statements(words: dict[str, str]) -> Iterator[str]:
    """Read PostgreSQL's script as psql does: with names filled in, and without remarks."""
    text = re.sub(r"--.*", "", (ROLES / "postgresql.sql").read_text())
    for word, value in words.items():
        text = text.replace(f":'{word}'", sql.Literal(value).as_string()).replace(
            f':"{word}"', sql.Identifier(value).as_string()
        )
    for part in re.split(r"(?<=\\gexec)|;", text):
        if part.strip() and not re.search(r""":['"](schema|table)""", part):
            yield part.strip()


@dataclass
class MySqlRole:
    """A user of one database of MariaDB's or MySQL's."""

    parameters: dict[str, Any]
    more: tuple[str, ...] = ()
    name: str = field(default_factory=lambda: f"hygiene_{secrets.token_hex(6)}")
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    granted: set[str] = field(default_factory=set)
    cold: str | None = None

    def connect(self) -> Any:
        """Let an administrator run the script for all tables that are new, and connect."""
        schema = self.parameters["database"]
        with (
            closing(MySQLdb.connect(**{**self.parameters, "autocommit": True})) as connection,
            closing(connection.cursor()) as cursor,
        ):
            cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (schema,))
            for (table,) in cursor.fetchall():
                if table not in self.granted:
                    self._grant(cursor, schema, table)
                    self.granted.add(table)
        return MySQLdb.connect(**{**self.parameters, "user": self.name, "password": self.password})

    def _grant(self, cursor: Any, schema: str, table: str) -> None:
        names = {
            "HYGIENE": self.name,
            "HOST": "%",
            "SCHEMA": schema.replace("`", "``"),
            "TABLE": table.replace("`", "``"),
        }
        for statement in mysql_statements(names):
            cursor.execute(statement)
        cursor.execute(f"ALTER USER '{self.name}'@'%' IDENTIFIED BY '{self.password}'")
        if self.cold:
            rights = "SELECT, INSERT, DELETE, CREATE, ALTER, INDEX"
            cursor.execute(f"GRANT {rights} ON `{self.cold}`.* TO '{self.name}'@'%'")
        if self.more:
            cursor.execute(f"GRANT INSERT ON `{names['SCHEMA']}`.`{names['TABLE']}` TO '{self.name}'@'%'")


def mysql_statements(names: dict[str, str]) -> list[str]:
    """Read MySQL's script as sed and its client do: with names filled in, and without remarks."""
    text = re.sub(r"--.*", "", (ROLES / "mysql.sql").read_text())
    return [_filled(each, names) for each in text.split(";") if each.strip()]


def _filled(statement: str, names: dict[str, str]) -> str:
    # Each statement by itself, so that a name with a semicolon stays whole; all at once, so that none is taken apart.
    return re.sub("|".join(names), lambda found: names[found[0]], statement.strip())


def postgres_role(dsn: str, request: pytest.FixtureRequest) -> PostgresRole | None:
    """Give the role that a test works as; None is the administrator."""
    rights = _rights_of(request)
    return None if "all" in rights else PostgresRole(dsn, rights)


def mysql_role(parameters: dict[str, Any], request: pytest.FixtureRequest) -> MySqlRole | None:
    """Give the user that a test works as; None is the administrator."""
    rights = _rights_of(request)
    return None if "all" in rights else MySqlRole(parameters, rights)


def _rights_of(request: pytest.FixtureRequest) -> tuple[str, ...]:
    marker = request.node.get_closest_marker("rights")
    return tuple(marker.args) if marker else ()
