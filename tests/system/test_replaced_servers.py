"""A running DAG's database is suddenly a promoted standby, or is put back to an earlier moment: what a person sees."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers.postgres import PostgresServer
from tests.system.lab import Lab, eventually

ROWS = 3_000
FRESH = 100
BATCHES = """
SELECT chunk, first_ordinal, end_ordinal FROM dbhygiene.batch JOIN dbhygiene.run USING (run_id)
WHERE policy = %s ORDER BY chunk, batch
"""


@pytest.fixture(scope="module")
def replaced(lab: Lab) -> Lab:
    """Return the lab once Airflow knows the scenarios and their tables are there."""
    for name in ("failed_over", "put_back"):
        lab.create_events(name, stale=ROWS, fresh=FRESH, database="fragile")
    lab.install_scenario("replaced.py")
    return lab


def test_failover_to_a_standby_that_missed_the_last_batches(replaced: Lab) -> None:
    """Each purge fails at once and says what to do, no row is lost, and the next run takes all that is there."""
    dag, run = "hygiene_failed_over", replaced.start("hygiene_failed_over")
    _wait_for_batches(replaced, "failed_over", 2)
    with replaced.fragile.start_replica() as standby:
        _cut_off(standby)
        seen = _count(standby, "failed_over")
        eventually(lambda: len(_hot(replaced, "failed_over")) < seen, "a batch that the standby misses")
        replaced.fragile.kill()
        _promote(standby)
        _take_over(replaced.fragile, standby.data_dir)
    assert len(_hot(replaced, "failed_over")) == seen
    assert replaced.finish(dag, run).state == "failed"
    states = replaced.states(dag, run)
    failed = [name for name, state in states.items() if name.startswith("chunk.purge[") and state == "failed"]
    assert failed, states
    assert states["report"] == "success"
    for name in failed:
        assert "row versions mean nothing" in _last_log(replaced, dag, run, name).lower()
    assert len(_hot(replaced, "failed_over")) == seen, "a row went after the failover"
    assert _hot(replaced, "failed_over") | _archived(replaced, "failed_over").keys() == set(range(1, ROWS + FRESH + 1))
    again = replaced.start(dag)
    assert replaced.finish(dag, again).state == "success"
    assert replaced.client.xcom(dag, again, "report")["rows_purged"] == seen - FRESH
    assert _hot(replaced, "failed_over") == set(range(ROWS + 1, ROWS + FRESH + 1))
    assert _archived(replaced, "failed_over").keys() == set(range(1, ROWS + 1))


def test_a_server_that_is_put_back_to_an_earlier_moment(replaced: Lab) -> None:
    """Rows and receipts went back together: the tasks are tried again, purge again, and the run is green."""
    dag, run = "hygiene_put_back", replaced.start("hygiene_put_back")
    _wait_for_batches(replaced, "put_back", 2)
    server, kept = replaced.fragile, replaced.fragile.data_dir.with_name("kept")
    server.stop()
    subprocess.run(["cp", "--archive", server.data_dir, kept], check=True)
    server.restart()
    then = len(_hot(replaced, "put_back"))
    eventually(lambda: len(_hot(replaced, "put_back")) < then, "a batch that is to be undone")
    server.kill()
    _take_over(server, kept)
    assert replaced.finish(dag, run, 240).state == "success", replaced.states(dag, run)
    assert max(replaced.tries(dag, run).values()) > 1
    told = replaced.client.xcom(dag, run, "report")
    figures = {name: told[f"rows_{name}"] for name in ("archived", "purged", "drifted", "vanished", "locked")}
    assert figures == {"archived": ROWS, "purged": ROWS, "drifted": 0, "vanished": 0, "locked": 0}
    assert _hot(replaced, "put_back") == set(range(ROWS + 1, ROWS + FRESH + 1))
    assert _archived(replaced, "put_back") == Counter(range(1, ROWS + 1))
    for chunk in (1, 2, 3):
        mine = [row for row in replaced.sql(BATCHES, ["put_back"], database="fragile") if row[0] == chunk]
        assert [row[1] for row in mine] == [0, *(row[2] for row in mine[:-1])], "a batch is missing, or there twice"


def _wait_for_batches(lab: Lab, policy: str, number: int) -> None:
    def done() -> bool:
        there = lab.sql("SELECT to_regclass('dbhygiene.batch') IS NOT NULL", database="fragile")[0][0]
        return there and len(lab.sql(BATCHES, [policy], database="fragile")) >= number

    eventually(done, "batches under way", 300)


def _hot(lab: Lab, schema: str) -> set[int]:
    return {row[0] for row in lab.sql(f"SELECT id FROM {schema}.events", database="fragile")}


def _archived(lab: Lab, prefix: str) -> Counter[Any]:
    return Counter(lab.archived(prefix).column("id").to_pylist())


def _last_log(lab: Lab, dag: str, run: str, name: str) -> str:
    task, _, place = name.partition("[")
    return lab.client.log(dag, run, task, int(place.rstrip("]")), lab.tries(dag, run)[name])


def _cut_off(standby: PostgresServer) -> None:
    """Let a standby follow no more."""
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
        connection.execute("SELECT pg_reload_conf()")
        receivers = "SELECT count(*) FROM pg_stat_wal_receiver"
        eventually(lambda: connection.execute(receivers).fetchone() == (0,), "a standby that is cut off")


def _count(server: PostgresServer, schema: str) -> int:
    with psycopg.connect(server.dsn("fragile")) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {schema}.events").fetchall()[0][0])


def _promote(standby: PostgresServer) -> None:
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_promote()")
    standby.stop()


def _take_over(server: PostgresServer, data: Path) -> None:
    """Let another data folder answer under the server's address."""
    shutil.rmtree(server.data_dir)
    data.rename(server.data_dir)
    server.restart()
