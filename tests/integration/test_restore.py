"""A run comes back, whole or in part, as it was; what the application decided meanwhile stands."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_dbhygiene.databases.protocol import Restored
from airflow_dbhygiene.errors import IllegalMove, NotFound, PolicyInvalid, RowsReferenced, SchemaChanged
from airflow_dbhygiene.operators import RestoreOperator
from airflow_dbhygiene.policy import ColdTable
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
    assert back(job, run) == Restored(earlier=STALE_EVENTS), "a retry tells what it did itself, and what others did"
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
    assert job.told[-1].startswith("3,000 rows would come back into public.events; 0 are left alone")
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
        if len(calls) == 5:  # the first restores no row at all: what stands against the wish is found before
            raise KeyboardInterrupt
        return original(session, *rest)

    site = job.site
    original = site.database.restore_rows
    monkeypatch.setattr(site.database, "restore_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        restore(site, Wish(run, "one"))
    assert job.one("SELECT count(*) FROM dbhygiene.restore") == 3
    assert back(job, run) == Restored(STALE_EVENTS - 1_000, 0, earlier=1_000)


def test_one_id_for_two_restores_leaves_nothing_out(job: Job) -> None:
    """A receipt counts for the run, table and chunks that it was written for: under one id others come back too."""
    first = job.run(job.policy())["run"]
    job.execute("UPDATE events SET at = '2023-01-01' WHERE id < 6000")
    second = job.run(job.policy(name="second"))["run"]
    job.execute("CREATE TABLE elsewhere (LIKE events INCLUDING ALL)")
    assert back(job, first, into="public.elsewhere", chunks=(2,)) == Restored(1_000, 0)
    assert back(job, first, into="public.elsewhere") == Restored(2_000, 1_000)
    assert back(job, second, into="public.elsewhere") == Restored(3_000, 0)
    assert job.one("SELECT count(*) FROM elsewhere") == 6_000
    job.execute("DELETE FROM elsewhere")
    assert back(job, first, into="public.elsewhere", where="id < 5") == Restored(5, 0)
    assert job.told[-1].startswith("5 rows came back into public.elsewhere; 0 are left alone")
    assert [back(job, run) for run in (first, second)] == [Restored(3_000, 0)] * 2
    with pytest.raises(IllegalMove, match=r"protects other rows already, of public\.events: start a new restore"):
        back(job, first, where="id < 5")


def test_a_cleared_restore_does_not_claim_rows_that_were_purged_again(job: Job) -> None:
    """It says that earlier tries had put them back, and what would bring them back."""
    run = job.run(job.policy(restored="purge"))["run"]
    assert back(job, run) == Restored(STALE_EVENTS, 0)
    assert job.run(job.policy(name="again", restored="purge"))["rows_purged"] == STALE_EVENTS
    assert back(job, run) == Restored(earlier=STALE_EVENTS)
    assert "3,000 rows came back in earlier tries" in job.told[-1]
    assert back(job, run, restore_id="two") == Restored(STALE_EVENTS, 0)


def test_each_of_a_mapped_task_is_a_restore_of_its_own(job: Job) -> None:
    """RestoreOperator.expand(run=[…]) puts each run back."""
    runs = [job.run(job.policy())["run"]]
    job.execute("UPDATE events SET at = '2023-01-01' WHERE id < 6000")
    runs.append(job.run(job.policy(name="second"))["run"])
    for index, run in enumerate(runs):
        instance = SimpleNamespace(dag_id="back", run_id="manual", task_id="restore", map_index=index)
        context: Any = {"ti": instance}
        done = RestoreOperator(task_id="restore", conn_id="pg", run=run).run_step(job.site, context)
        assert done == {"restored": STALE_EVENTS, "existing": 0, "earlier": 0}
    assert job.one("SELECT count(*) FROM events") == 10_000


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
    with pytest.raises(NotFound, match="name columns alone, without their table"):
        back(job, run, where="events.id = 1")
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


@pytest.mark.parametrize("body", ["RETURN NULL", "NEW.id := NEW.id + 100000; RETURN NEW"])
def test_a_trigger_that_swallows_or_renumbers_rows_is_found(job: Job, body: str) -> None:
    """Nothing is said to exist already that does not, and nothing comes back under another key."""
    run = job.run(job.policy())["run"]
    job.execute(
        f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$;"
        "CREATE TRIGGER meddling BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION meddle()"
    )
    with pytest.raises(SchemaChanged, match="INSERT triggers"):
        back(job, run)
    assert job.one("SELECT count(*) FROM events") == 10_000 - STALE_EVENTS


def test_rows_whose_other_unique_values_are_taken_stay_away(job: Job) -> None:
    """The application has given a note to a row of its own: the archived one counts as existing."""
    run = job.run(job.policy())["run"]
    job.execute("CREATE UNIQUE INDEX ON events (lower(note)); UPDATE events SET note = 'ROW 7' WHERE id = 9999")
    job.execute("INSERT INTO events VALUES (8, '2024-01-01', 'mine')")
    assert back(job, run) == Restored(STALE_EVENTS - 2, 2)
    assert job.execute("SELECT id, note FROM events WHERE id BETWEEN 7 AND 8") == [(8, "mine")]


def test_a_name_may_hold_percent_signs_where_a_row_stays_away(job: Job) -> None:
    """The row is inserted once more to see what stands against it, in a statement that binds no values."""
    job.execute('ALTER TABLE events RENAME note TO "100% s"; CREATE UNIQUE INDEX ON events ("100% s")')
    run = job.run(job.policy())["run"]
    job.execute("INSERT INTO events VALUES (-5, '2024-01-01', 'row 7')")
    assert back(job, run) == Restored(STALE_EVENTS - 1, 1)


@pytest.mark.parametrize("when", ["DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"])
@pytest.mark.parametrize("which", ["the key", "another"])
def test_rows_come_back_where_uniqueness_is_deferrable(job: Job, which: str, when: str) -> None:
    """INSERT … ON CONFLICT refuses such tables; what is taken stays as it is all the same."""
    key, note = (when, "") if which == "the key" else ("", when)
    job.execute(f"ALTER TABLE events DROP CONSTRAINT events_pkey, ADD PRIMARY KEY (id) {key}, ADD UNIQUE (note) {note}")
    before = job.execute(ALL_ROWS)
    run = job.run(job.policy())["run"]
    job.execute("INSERT INTO events VALUES (8, '2024-01-01', 'mine'), (-5, '2024-01-01', 'row 7')")
    assert back(job, run) == Restored(STALE_EVENTS - 2, 2)
    job.execute("DELETE FROM events WHERE note = 'mine' OR id = -5")
    assert back(job, run, restore_id="two") == Restored(2, STALE_EVENTS - 2)
    assert job.execute(ALL_ROWS) == before


@pytest.mark.parametrize("cold", [False, True], ids=["file", "cold table"])
def test_a_table_of_many_columns_comes_back(job: Job, *, cold: bool) -> None:
    """The server joins no two rows that have more than 1,664 columns together, unless it compares them at once."""
    more = ", ".join(f"ADD c{i} int" for i in range(1_500))
    job.execute(f"ALTER TABLE events {more}; UPDATE events SET c1499 = id; ANALYZE events; CREATE SCHEMA cold")
    before = job.execute(ALL_ROWS)
    run = job.run(job.policy(**({"archive": ColdTable("cold.events")} if cold else {})))["run"]
    assert back(job, run) == Restored(STALE_EVENTS, 0)
    assert job.execute(ALL_ROWS) == before


def test_wide_rows_are_compared_and_come_back_few_at_a_time(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred rows of a megabyte each are never all in hand at once."""
    most = 34 * 2**20
    job.execute("DELETE FROM events WHERE id >= 100")
    job.execute("UPDATE events SET note = repeat(md5(id::text), 32768); ANALYZE events")
    before = job.one("SELECT md5(string_agg(note, '' ORDER BY id)) FROM events")
    site, sizes = job.site, list[int]()
    differing = site.database.differing

    def measured(session: Any, selection: Any, rows: Any) -> tuple[int, int]:
        sizes.append(rows.nbytes)
        return differing(session, selection, rows)

    monkeypatch.setattr(site.database, "differing", measured)
    monkeypatch.setattr("tests.job.Job.site", site)
    run = job.run(job.policy())["run"]
    assert sum(sizes) > 100 * 2**20 > most > max(sizes)
    assert back(job, run) == Restored(100, 0)
    assert job.one("SELECT max(end_ordinal - first_ordinal) FROM dbhygiene.restore") * 2**20 < most
    assert job.one("SELECT md5(string_agg(note, '' ORDER BY id)) FROM events") == before


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
