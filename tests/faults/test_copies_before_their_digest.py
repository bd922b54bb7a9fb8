"""A cold table in the same database: what happens while one object is digested and the server copies the next.

Invariants 1 and 4. A copy is committed before it is digested: who dies, is stopped, or meddles with it in between?
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest

from airflow_dbhygiene.errors import ArchiveDamaged, DatabaseUnavailable, StatementTimedOut
from airflow_dbhygiene.steps.verify_archive import verify_archive
from tests.faults.between import before_digest
from tests.faults.kill_points import Forge, Point
from tests.faults.mysql_stage import MySqlStage
from tests.faults.stage import (
    CHUNK_ROWS,
    OBJECT_ROWS,
    RUN,
    STEPS,
    Stage,
    assert_every_row_is_accounted_for,
    keys_of,
    strangers,
)
from tests.faults.theatre import Theatre, opened

AFTERWARDS: Final = STEPS[STEPS.index("verify 1") :]
OBJECTS: Final = "SELECT part, state FROM dbhygiene.object WHERE chunk = 1 ORDER BY part"


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def theatre(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """Plan a run; chunk 2 is archived, and chunk 1 is to be, in two objects."""
    with opened(f"{request.param}, cold table", request, tmp_path_factory.mktemp("copies")) as theatre:
        theatre.stage.perform("plan", "archive 2")
        theatre.keep("before_copies")
        yield theatre


@pytest.fixture
def stage(theatre: Theatre) -> Stage:
    """Set everything back to before the archive of chunk 1."""
    return theatre.put_back("before_copies")


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Start the process that forks the workers which die."""
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        yield forge


@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_that_dies_before_a_digest(stage: Stage, forge: Forge, number: int) -> None:
    """What it copied has no receipt: the retry copies anew, and the report removes the rows that nobody knows."""
    keys = keys_of(stage)
    died = forge.run(stage, "archive 1", at=Point("digest", "before", number))
    assert died.signal == signal.SIGKILL
    assert ("written" in dict(stage.execute(OBJECTS)).values()) == (number == 2)
    assert _copies(stage) >= (OBJECT_ROWS if number == 1 else CHUNK_ROWS)
    stage.perform("archive 1", *AFTERWARDS)
    assert _copies(stage) == CHUNK_ROWS
    assert list(strangers(stage)) == []
    assert_every_row_is_accounted_for(stage, keys)
    assert verify_archive(stage.site(), run_id=RUN).findings == []


def test_a_copy_that_is_changed_before_its_digest_is_noticed(stage: Stage) -> None:
    """Though its row is changed as well, so that there is nothing left to compare it with."""
    cold, key = _cold(stage), stage.id_at(50)

    def meddle() -> None:
        stage.execute(f"UPDATE {cold} SET dep_delay = 999 WHERE id = {key}")
        stage.execute(f"UPDATE flights SET dep_delay = 1000 WHERE id = {key}")

    if _postgres(stage):
        with pytest.raises(StatementTimedOut, match="were written anew"):
            stage.perform("archive 1", site=before_digest(stage, 1, meddle))
        stage.perform("archive 1", *AFTERWARDS)
        assert (list(strangers(stage)), verify_archive(stage.site(), run_id=RUN).findings) == ([], [])
        return
    stage.perform("archive 1", site=before_digest(stage, 1, meddle))
    assert stage.one(f"SELECT count(*) FROM {cold} WHERE dep_delay = 999") == 1
    assert _noticed(stage)


def test_a_task_that_is_stopped_stops_the_copy_too(stage: Stage) -> None:
    """The next object is being copied on another connection: that ends, is undone, and the thread is gone."""
    site = before_digest(stage, 1, lambda: _stop(stage, site))
    _let_the_second_object_take_long(stage)
    with pytest.raises(DatabaseUnavailable):
        stage.perform("archive 1", site=site)
    assert [thread.name for thread in threading.enumerate() if thread.name == "dbhygiene-ahead"] == []
    assert stage.execute(OBJECTS) == [(0, "intended"), (1, "intended")]
    assert _copies(stage) == OBJECT_ROWS
    assert stage.one("SELECT nextval('cold.slept')" if _postgres(stage) else "SELECT nextval(cold.slept)") == 1
    _let_it_be(stage)
    stage.perform("archive 1", *AFTERWARDS)
    assert list(strangers(stage)) == []


def _noticed(stage: Stage) -> bool:
    """Go on: verify notices what it can compare with the row's own version, and whoever digests the copies the rest."""
    try:
        stage.perform(*AFTERWARDS)
    except ArchiveDamaged:
        return True
    return verify_archive(stage.site(), run_id=RUN).findings != []


def _cold(stage: Stage) -> str:
    return str(stage.policy.archive.table_name)  # type: ignore[union-attr]


def _postgres(stage: Stage) -> bool:
    return not isinstance(stage, MySqlStage)


def _copies(stage: Stage) -> int:
    return int(stage.one(f"SELECT count(*) FROM {_cold(stage)} WHERE dbhygiene_chunk = 1"))


def _stop(stage: Stage, site: object) -> None:
    """Do what the signal to a task does, as soon as the second object's transaction sleeps."""
    asleep = "wait_event = 'PgSleep'" if _postgres(stage) else "state = 'User sleep'"
    where = "pg_stat_activity" if _postgres(stage) else "information_schema.processlist"
    deadline = time.monotonic() + 60
    while not stage.one(f"SELECT count(*) FROM {where} WHERE {asleep}"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    site.database.cancel()  # type: ignore[attr-defined]


def _let_the_second_object_take_long(stage: Stage) -> None:
    """It sleeps where its notes are written, in the transaction of its copy; whoever has slept enough counts."""
    stage.execute("CREATE SEQUENCE cold.slept")
    if not _postgres(stage):
        stage.execute(
            "CREATE TRIGGER cold.amid BEFORE INSERT ON cold.dbhygiene_archive FOR EACH ROW"
            " IF NEW.name LIKE '%-001@%' THEN DO sleep(30); DO nextval(cold.slept); END IF"
        )
        return
    stage.execute(
        "CREATE FUNCTION amid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_sleep(30); PERFORM nextval('cold.slept'); RETURN NEW; END $$;"
        " CREATE TRIGGER amid BEFORE INSERT ON cold.dbhygiene_archive FOR EACH ROW"
        " WHEN (NEW.name LIKE '%-001@%') EXECUTE FUNCTION amid()"
    )


def _let_it_be(stage: Stage) -> None:
    if not _postgres(stage):
        stage.execute("DROP TRIGGER cold.amid")
    else:
        stage.execute("DROP TRIGGER amid ON cold.dbhygiene_archive; DROP FUNCTION amid")
    stage.execute("DROP SEQUENCE cold.slept")
