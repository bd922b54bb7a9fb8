"""The whole job on MariaDB or MySQL, driven step by step, without Airflow."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import MySQLdb

from airflow_dbhygiene.databases.mysql import MySqlDatabase
from airflow_dbhygiene.policy import OlderThan
from airflow_dbhygiene.steps.site import Site
from tests.job import Job

EVENTS: Final = (
    "CREATE TABLE events (id bigint PRIMARY KEY, at datetime NOT NULL, note varchar(50), KEY events_at_id (at, id))",
    (
        "INSERT INTO events WITH RECURSIVE numbers AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 999)"
        " SELECT a.n + 1000 * b.n, '2023-01-01' + INTERVAL (a.n + 1000 * b.n) HOUR, concat('row ', a.n + 1000 * b.n)"
        " FROM numbers a JOIN numbers b ON b.n < 10"
    ),
    "ANALYZE TABLE events",
)
"""The rows of ``tests.job.EVENTS``."""


@dataclass
class MySqlJob(Job):
    """A database of this family, a folder for archives, and what the steps told."""

    dsn: str = ""
    folder: Path = Path()
    parameters: dict[str, Any] = field(default_factory=dict)
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def execute(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """Run SQL as root and give its rows."""
        with closing(self.open()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def open(self, **changes: Any) -> Any:
        """Open a connection of the application's, in which each statement commits by itself."""
        return MySQLdb.connect(**{**self.parameters, "autocommit": True, **changes})

    @property
    def database(self) -> MySqlDatabase:
        """The database as the steps see it; a new one each time, as each task has one."""
        return MySqlDatabase(self.way or (lambda: MySQLdb.connect(**self.parameters)))

    def database_elsewhere(self, conn_id: str) -> MySqlDatabase:
        """Open another server by its connection id."""
        return MySqlDatabase(lambda: MySQLdb.connect(**self.servers[conn_id]))

    @property
    def site(self) -> Site:
        """Put together what the steps work with."""
        return self.site_of(self.database)

    def policy(self, **changes: Any) -> Any:
        """Give a policy for `events`, with some fields changed."""
        name = self.parameters["database"]
        stale = OlderThan("at", keep="300 days", zone="UTC")
        return super().policy(**{"conn_id": "my", "table": f"{name}.events", "stale": stale} | changes)
