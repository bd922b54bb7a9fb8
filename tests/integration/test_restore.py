"""A run comes back, whole or in part, as it was; what the application decided meanwhile stands."""

from pathlib import Path
from typing import Any

import pytest

from airflow_dbhygiene.databases.protocol import Restored
from airflow_dbhygiene.errors import IllegalMove, NotFound, PolicyInvalid, RowsReferenced, SchemaChanged
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify import verify
from tests.job import EVENTS, STALE_EVENTS, Job

ALL_ROWS = "SELECT id, at, note FROM events ORDER BY id"


@pytest.fixture
def job(database: str, tmp_path: Path) -> Job:
    """Give a database with ten thousand events, and a folder for archives."""
    given = Job(database, tmp_path / "cold")
    given.execute(EVENTS)
    return given


def back(job: Job, run: str, **wish: Any) -> Restored:
    """Put rows of a run back."""
    return restore(job.site, Wish(run, wish.pop("restore_id", "one"), **wish))


def test_a_whole_run_comes_back_and_twice_changes_nothing(job: Job) -> None:
    """After a restore the table holds the very rows that it held before; a second one finds all keys taken."""
    before = job.execute(ALL_ROWS)
    run = job.run(job.policy())["run"]
    assert len(job.execute(ALL_ROWS)) == len(before) - STALE_EVENTS
    assert back(job, run) == Restored(STALE_EVENTS, 0)
    assert job.execute(ALL_ROWS) == before
    assert back(job, run) == Restored(STALE_EVENTS, 0), "a retry of the same restore gives the same figures"
    assert back(job, run, restore_id="two") == Restored(0, STALE_EVENTS)
    assert job.execute(ALL_ROWS) == before
    assert job.one("SELECT restored_at IS NOT NULL FROM dbhygiene.run")
    assert job.one("SELECT sum(restored)::int FROM dbhygiene.restore") == STALE_EVENTS


def test_restored_rows_are_not_purged_again_until_the_policy_says_so(job: Job) -> None:
    """The next run of the same policy leaves restored rows alone, unless its `restored` is "purge"."""
    back(job, job.run(job.policy())["run"])
    assert job.plan(job.policy(name="again")).stale_rows == 0
    again = job.run(job.policy(name="again", restored="purge"))
    assert again["rows_purged"] == STALE_EVENTS


def test_chosen_chunks_and_rows_come_back(job: Job) -> None:
    """A chunk, or the rows that fulfil a condition, come back alone."""
    run = job.run(job.policy())["run"]
    assert back(job, run, chunks=(2,)) == Restored(1_000, 0)
    assert job.one("SELECT min(id) FROM events") == 1_000
    assert back(job, run, restore_id="two", where="note IN ('row 1', 'row 2') AND id < 1000") == Restored(2, 0)
    assert job.execute("SELECT id FROM events WHERE id < 1000 ORDER BY id") == [(1,), (2,)]


def test_a_dry_run_changes_nothing(job: Job) -> None:
    """A dry run counts what would come back, and leaves table, ledger and holds as they were."""
    run = job.run(job.policy())["run"]
    assert back(job, run, dry_run=True) == Restored(STALE_EVENTS, 0)
    assert job.one("SELECT count(*) FROM events") == 10_000 - STALE_EVENTS
    assert job.execute("SELECT 1 FROM dbhygiene.restore UNION ALL SELECT 1 FROM dbhygiene.hold") == []


def test_rows_that_the_application_decided_about_stay_as_they_are(job: Job) -> None:
    """A key that exists again is left alone; a row that had vanished or drifted before the purge does not rise."""
    tickets = job.start(job.policy())
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    job.execute("DELETE FROM events WHERE id = 7")
    job.execute("UPDATE events SET note = 'changed' WHERE id = 8")
    for ticket in tickets:
        purge(job.site, ticket.run, ticket.chunk)
    job.execute("INSERT INTO events VALUES (9, '2024-01-01 00:00+00', 'new under an old key')")
    assert back(job, tickets[0].run) == Restored(STALE_EVENTS - 3, 1)
    assert job.execute("SELECT id, note FROM events WHERE id BETWEEN 6 AND 10 ORDER BY id") == [
        (6, "row 6"),
        (8, "changed"),
        (9, "new under an old key"),
        (10, "row 10"),
    ]


def test_rows_come_back_into_another_table(job: Job) -> None:
    """A copy with another column and an identity takes the rows, with their own ids."""
    job.execute(
        "CREATE TABLE back (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text, at timestamptz,"
        " seen timestamptz DEFAULT now(), length int GENERATED ALWAYS AS (length(note)) STORED)"
    )
    run = job.run(job.policy())["run"]
    assert back(job, run, into="public.back") == Restored(STALE_EVENTS, 0)
    assert job.one("SELECT count(*) FROM back WHERE note = 'row ' || id AND length = length(note)") == STALE_EVENTS
    assert job.execute("SELECT 1 FROM dbhygiene.hold") == [], "rows elsewhere need no protection"


def test_an_interrupted_restore_goes_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came back before the interruption is not counted again."""
    monkeypatch.setattr("airflow_dbhygiene.steps.restore._BATCH_ROWS", 400)
    run = job.run(job.policy())["run"]
    calls: list[int] = []

    def interrupted(session: Any, *rest: Any) -> Restored:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(session, *rest)

    site = job.site
    original = site.database.restore_rows
    monkeypatch.setattr(site.database, "restore_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        restore(site, Wish(run, "one"))
    assert job.one("SELECT count(*) FROM dbhygiene.restore") == 3
    assert back(job, run) == Restored(STALE_EVENTS, 0)


def test_what_cannot_come_back_is_refused_by_name(job: Job) -> None:
    """Unknown runs, chunks, tables and columns, changing triggers and bad conditions stop the restore."""
    run = job.run(job.policy())["run"]
    with pytest.raises(NotFound, match="run nonsense is not in this database's ledger"):
        back(job, "nonsense")
    with pytest.raises(NotFound, match="has no chunk 9"):
        back(job, run, chunks=(9,))
    with pytest.raises(NotFound, match=r"table public\.missing does not exist"):
        back(job, run, into="public.missing")
    with pytest.raises(PolicyInvalid, match="one boolean SQL expression"):
        back(job, run, where="id = 1; DROP TABLE events")
    assert job.execute("SELECT 1 FROM dbhygiene.hold") == []
    job.execute("CREATE TABLE narrow (id bigint PRIMARY KEY, at timestamptz)")
    with pytest.raises(SchemaChanged, match="has no column note"):
        back(job, run, into="public.narrow")
    job.execute(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.note := upper(NEW.note); RETURN NEW; END $$;"
        "CREATE TRIGGER meddling BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION meddle()"
    )
    with pytest.raises(SchemaChanged, match="INSERT triggers"):
        back(job, run)
    assert job.one("SELECT count(*) FROM events") == 10_000 - STALE_EVENTS


def test_a_missing_parent_stops_the_restore(job: Job) -> None:
    """Rows whose parents are gone do not come back half: the foreign key is named."""
    job.execute("CREATE TABLE parent (id bigint PRIMARY KEY); INSERT INTO parent SELECT generate_series(0, 9999)")
    job.execute("ALTER TABLE events ADD CONSTRAINT has_parent FOREIGN KEY (id) REFERENCES parent")
    run = job.run(job.policy())["run"]
    job.execute("DELETE FROM parent WHERE id = 5")
    with pytest.raises(RowsReferenced, match="has_parent"):
        back(job, run)
    assert job.one("SELECT count(*) FROM events") == 10_000 - STALE_EVENTS


def test_a_run_that_purged_nothing_has_nothing_to_restore(job: Job) -> None:
    """A plan alone is no run to restore."""
    tickets = job.start(job.policy())
    with pytest.raises(IllegalMove, match="nothing to restore"):
        back(job, tickets[0].run)
