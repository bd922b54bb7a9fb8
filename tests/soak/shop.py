"""Where the soak takes place: one server, three tables that are cleaned in three ways, and ways to both that break."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Protocol

import fsspec
import MySQLdb
import pendulum
import psycopg

from airflow_dbhygiene.databases.mysql import MySqlDatabase
from airflow_dbhygiene.databases.postgres import PostgresDatabase
from airflow_dbhygiene.databases.protocol import Database
from airflow_dbhygiene.policy import ColdTable, Discard, Guard, OlderThan, Pace, Parquet, Policy
from airflow_dbhygiene.policy.moments import Moments, Window, resolve_window
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.stores.cold_table import ColdTableStore
from airflow_dbhygiene.stores.parquet import ParquetStore
from airflow_dbhygiene.stores.protocol import Store

KINDS: Final = ("parquet", "cold", "discard")
"""The tables, named after what becomes of their stale rows."""

COLUMNS: Final = ("id", "at", "life", "stamp", "note", "places", "amount")
"""``life`` tells a row from others that had its key before; each version of it has a ``stamp`` of its own."""


PLACES: Final = 10
"""There are so many places that a row may point at."""


class Archive(Protocol):
    """Where Parquet objects lie."""

    url: str
    root: str

    def files(self) -> Any:
        """Open it."""


@dataclass(frozen=True)
class Folder:
    """A local folder."""

    root: str
    url: str = "file:///cold"

    def files(self) -> Any:
        """Open it."""
        return fsspec.filesystem("file")


@dataclass(frozen=True)
class Bucket:
    """A prefix of a bucket on the S3 server, and how to reach it."""

    endpoint_url: str
    access_key: str
    secret_key: str
    root: str

    @property
    def url(self) -> str:
        """Its name."""
        return f"s3://{self.root}"

    def files(self) -> Any:
        """Open it; what hangs is given up soon."""
        client = {"endpoint_url": self.endpoint_url, "region_name": "us-east-1"}
        patience = {"connect_timeout": 5, "read_timeout": 10, "retries": {"total_max_attempts": 1}}
        files = fsspec.filesystem(
            "s3", key=self.access_key, secret=self.secret_key, client_kwargs=client, use_listings_cache=False,
            config_kwargs={"s3": {"addressing_style": "path"}, **patience},
        )  # fmt: skip
        files.retries = 1
        return files


@dataclass(frozen=True)
class Shop:
    """One server's database. It is handed to worker processes as it is.

    :param engine: postgresql, mariadb or mysql
    :param address: what the driver's connect takes
    :param archive: where its Parquet objects lie
    """

    engine: str
    address: dict[str, Any]
    archive: Archive

    @property
    def namespace(self) -> str:
        """The schema of its tables, or the database."""
        return "public" if self.engine == "postgresql" else "hot"

    def open(self, **changes: Any) -> Any:
        """Open a connection, in which each statement commits by itself."""
        if self.engine == "postgresql":
            return psycopg.connect(**{**self.address, "autocommit": True, "connect_timeout": 5, **changes})
        return MySQLdb.connect(**{**self.address, "autocommit": True, **changes})

    def query(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own."""
        with closing(self.open()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(statement, tuple(values) or None)
            return list(cursor.fetchall()) if cursor.description else []

    def lay_out(self) -> None:
        """Make the tables."""
        moment = "timestamptz" if self.engine == "postgresql" else "datetime"
        name = "cold" if self.engine == "postgresql" else "cold CHARACTER SET utf8mb4"
        self.query(f"CREATE {'SCHEMA' if self.engine == 'postgresql' else 'DATABASE'} {name}")
        self.query("CREATE TABLE journal (writer int, entry bigint, PRIMARY KEY (writer, entry))")
        self.query("CREATE TABLE place (place integer PRIMARY KEY)")
        self.query(f"INSERT INTO place VALUES {', '.join(f'({number})' for number in range(PLACES))}")
        self.query("CREATE TABLE truncated (kind varchar(10), number integer, life bigint)")
        self.query("CREATE TABLE seen_gone (life bigint)")
        for kind in KINDS:
            self.query(
                f"CREATE TABLE {kind} (id bigint PRIMARY KEY, at {moment} NOT NULL, life bigint NOT NULL,"
                " stamp bigint NOT NULL, note varchar(60), places integer, amount numeric(10,2))"
            )
            self.query(f"CREATE INDEX {kind}_at_id ON {kind} (at, id)")

    def analyze(self, kind: str) -> None:
        """Let the server count a table's rows."""
        self.query(f"ANALYZE {'' if self.engine == 'postgresql' else 'TABLE'} {kind}")

    # our side

    def database(self) -> Database:
        """Open the database as the steps see it."""
        if self.engine == "postgresql":
            return PostgresDatabase(lambda: psycopg.connect(**self.address, connect_timeout=5))
        return MySqlDatabase(lambda: MySQLdb.connect(**self.address))

    def site(self) -> Site:
        """Put together what the steps work with."""
        home = self.database()
        return Site(home, lambda archive: self._store(archive, home), lambda _: None)

    def policy(self, kind: str) -> Policy:
        """Give the policy for one of the tables: rows of more than a day ago are stale."""
        archives = {
            "parquet": Parquet(self.archive.url),
            "cold": ColdTable(f"cold.{kind}", object_rows=400),
            "discard": Discard(reason="a cache"),
        }
        return Policy(
            name=kind,
            conn_id="shop",
            table=f"{self.namespace}.{kind}",
            stale=OlderThan("at", keep="1 day", zone="UTC"),
            archive=archives[kind],
            guard=Guard(max_fraction=1, min_chunk_rows=250, max_rows=6_000, max_chunks=4, allow_full_scan=True),
            pace=Pace(max_batch_rows=400, target_batch_seconds=0.1, max_pause_seconds=1.5),
            reclaim="analyze",
        )

    def _store(self, archive: Any, home: Database) -> Store:
        if isinstance(archive, ColdTable):
            return ColdTableStore(home, home, archive.table_name, url=archive.address, object_rows=archive.object_rows)
        return ParquetStore(self.archive.files(), self.archive.root, url=archive.url)


def window_of(policy: Policy) -> Window:
    """Count back from now."""
    return resolve_window(policy, Moments(explicit=pendulum.now("UTC").subtract(seconds=5).start_of("second")))
