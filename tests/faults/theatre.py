"""Where a run is rehearsed and killed: one engine with one store, and copies of everything before each step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import psycopg

from airflow_dbhygiene.policy import ColdTable, Policy
from tests.faults.mysql_stage import COLD, HOT, MySqlStage, Shelf
from tests.faults.mysql_stage import lay_out as lay_out_mysql
from tests.faults.stage import OBJECT_ROWS, POLICY, Stage, drop_and_copy
from tests.servers.postgres import PostgresServer

if TYPE_CHECKING:
    import pytest

VARIANTS: Final = tuple(
    f"{engine}, {store}" for engine in ("postgresql", "mariadb", "mysql") for store in ("parquet", "cold table")
)
_NAMES: Final = ("rehearsal", "killed")


class Theatre(Protocol):
    """A stage, and a shelf for copies of it."""

    stage: Stage

    def keep(self, name: str) -> None:
        """Copy database and archive as they are now."""

    def put_back(self, name: str) -> Stage:
        """Give a stage as it was when it was kept."""


@dataclass(frozen=True)
class PostgresTheatre:
    """Databases copied by their server."""

    server: PostgresServer
    folder: Path
    stage: Stage

    def keep(self, name: str) -> None:
        """Copy database and folder."""
        drop_and_copy(self.server, name, "rehearsal")
        shutil.copytree(self.stage.folder, self.folder / name)

    def put_back(self, name: str) -> Stage:
        """Copy them back, beside the rehearsal."""
        dsn = drop_and_copy(self.server, "killed", name)
        return Stage(dsn, _put_back_folder(self.folder, name), self.stage.policy)


@dataclass(frozen=True)
class MySqlTheatre:
    """Databases of one server, whose ledger has but one place."""

    shelf: Shelf
    folder: Path
    stage: MySqlStage

    def keep(self, name: str) -> None:
        """Copy databases and folder."""
        self.shelf.keep(name)
        shutil.copytree(self.stage.folder, self.folder / name)

    def put_back(self, name: str) -> Stage:
        """Copy them back in place."""
        self.shelf.put_back(name)
        return MySqlStage(self.stage.dsn, _put_back_folder(self.folder, name), self.stage.policy)


def _put_back_folder(folder: Path, name: str) -> Path:
    shutil.rmtree(folder / "killed", ignore_errors=True)
    return Path(shutil.copytree(folder / name, folder / "killed"))


@contextmanager
def opened(variant: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Theatre]:
    """Lay out a theatre of one of the VARIANTS."""
    engine, _, store = variant.partition(", ")
    (folder / "rehearsal").mkdir()
    laid_out = _postgres if engine == "postgresql" else _mysql
    with laid_out(engine, request, folder, cold=store == "cold table") as theatre:
        yield theatre


@contextmanager
def _postgres(_: str, request: pytest.FixtureRequest, folder: Path, *, cold: bool) -> Iterator[Theatre]:
    server = request.getfixturevalue("postgres")
    dsn = drop_and_copy(server, "rehearsal", request.getfixturevalue("few_flights"))
    yield PostgresTheatre(server, folder, Stage(dsn, folder / "rehearsal", _policy(POLICY.table, cold=cold)))
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        names = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'before@_%' ESCAPE '@'"
        ).fetchall()
    for name in (*_NAMES, *(name for (name,) in names)):
        server.drop_database(name)


@contextmanager
def _mysql(engine: str, request: pytest.FixtureRequest, folder: Path, *, cold: bool) -> Iterator[Theatre]:
    server = request.getfixturevalue("mysql_by_flavour")(engine)
    postgres: PostgresServer = request.getfixturevalue("postgres")
    with psycopg.connect(postgres.dsn(request.getfixturevalue("few_flights"))) as connection:
        rows = connection.execute("SELECT *, time_hour AT TIME ZONE 'UTC' FROM flights ORDER BY id").fetchall()
    parameters: dict[str, Any] = server.create_database(HOT)
    shelf = Shelf(parameters)
    lay_out_mysql(parameters, [(*row[:-2], row[-1]) for row in rows])
    yield MySqlTheatre(
        shelf, folder, MySqlStage(json.dumps(parameters), folder / "rehearsal", _policy(f"{HOT}.flights", cold=cold))
    )
    shelf.clear()


def _policy(table: str, *, cold: bool) -> Policy:
    archive = ColdTable(f"{COLD}.flights", object_rows=OBJECT_ROWS) if cold else POLICY.archive
    return POLICY.model_copy(update={"table": table, "archive": archive})
