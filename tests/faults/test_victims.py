"""How often the application is the victim of a deadlock, or of a lock's time-out, because rows are purged: measured.

docs/operations.md states the bounds that are asserted here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from airflow_dbhygiene.errors import Transient
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import make_plan, record_plan
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.verify import verify
from tests.conftest import MySqlByFlavour
from tests.faults.share import SEED
from tests.servers.postgres import PostgresServer
from tests.soak.repeating import Repeating
from tests.soak.shop import KINDS, Folder, Shop, window_of
from tests.soak.traffic import VICTIMS, Writer, writing

SECONDS: Final = 7
MOST: Final = {"postgresql": 0.0, "mariadb": 0.001, "mysql": 0.001}
"""The part of the application's transactions that may be victims: the bound that the documentation states."""


@pytest.fixture(params=["postgresql", "mariadb", "mysql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Give a shop with an archive in a folder."""
    engine = request.param
    if engine == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        postgres.create_database("victims")
        address = {"host": postgres.host, "port": postgres.port, "user": postgres.user, "dbname": "victims"}
        shop = Shop(engine, {**address, "password": postgres.password}, Folder(str(tmp_path)))
        shop.lay_out()
        yield shop
        postgres.drop_database("victims")
        return
    by_flavour: MySqlByFlavour = request.getfixturevalue("mysql_by_flavour")
    server = by_flavour(engine)
    shop = Shop(engine, server.create_database("hot"), Folder(str(tmp_path)))
    shop.lay_out()
    yield shop
    for name in ("hot", "cold", "dbhygiene"):
        server.drop_database(name)


class Purging(Repeating):
    """Runs a policy again and again."""

    def __init__(self, shop: Shop, kind: str) -> None:
        super().__init__(f"purging {kind}")
        self.rows = 0
        self._shop = shop
        self._kind = kind

    def turn(self, number: int) -> None:
        """Run it once more."""
        with suppress(Transient):
            self._run(number)

    def _run(self, number: int) -> None:
        policy = self._shop.policy(self._kind)
        self._shop.analyze(self._kind)
        site = self._shop.site()
        plan = make_plan(site, policy, window_of(policy), {"dag": self._kind, "dag_run": str(number)})
        for ticket in record_plan(site, plan):
            if self.ended.is_set():
                return
            archive(self._shop.site(), ticket.run, ticket.chunk)
            verify(self._shop.site(), ticket.run, ticket.chunk)
            self.rows += purge(self._shop.site(), ticket.run, ticket.chunk).purged


@contextmanager
def purging(shop: Shop) -> Iterator[list[Purging]]:
    """Purge all tables for the length of a block."""
    threads = [Purging(shop, kind) for kind in KINDS]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(60)


def counted(writers: list[Writer]) -> Counter[str]:
    """Add up what the application met."""
    return sum((writer.counts for writer in writers), start=Counter[Any]())


def test_the_application_is_hardly_ever_a_victim(shop: Shop) -> None:
    """Three tables are purged all the time, while two threads each write to random rows of theirs, stale ones too."""
    writers = [Writer(shop, kind, 2 * i + j + 1, SEED) for i, kind in enumerate(KINDS) for j in range(2)]
    with writing(writers):
        time.sleep(SECONDS / 3)
        before = counted(writers)
        with purging(shop) as threads:
            time.sleep(SECONDS)
        found = counted(writers) - before
    assert [writer.error for writer in writers if writer.error] == []
    assert [thread.error for thread in threads if thread.error] == []
    rows = {kind: thread.rows for kind, thread in zip(KINDS, threads, strict=True)}
    victims = {name: found[name] for name in VICTIMS if found[name]}
    transactions = sum(found.values())
    print(f"{shop.engine}: {rows} rows purged beside {transactions} transactions, victims {victims or 'none'}")  # noqa: T201
    assert all(rows.values()), f"nothing was purged beside the traffic: {rows}"
    assert sum(victims.values()) <= MOST[shop.engine] * transactions, f"{victims} of {transactions}; seed {SEED}"
