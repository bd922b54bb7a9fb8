"""Holds and pauses as people place them, on every engine: what they protect stays, and what is wrong is told at once."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pendulum
import pytest

from airflow_dbhygiene.errors import (
    IllegalMove,
    NotFound,
    Paused,
    PlanRefused,
    PolicyInvalid,
    StatementFailed,
    StatementTimedOut,
)
from airflow_dbhygiene.policy import Pace
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.hold import HoldWish, list_holds, parse_keys, place_hold, release_hold
from airflow_dbhygiene.steps.pause import list_pauses, pause, resume
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.restore import Wish, restore
from airflow_dbhygiene.steps.verify import verify
from tests.job import STALE_EVENTS, Job
from tests.mysql_job import EVENTS, MySqlJob
from tests.servers.mysql import MariaDbServer

FAR = pendulum.datetime(2100, 1, 1)
LONG_AGO = pendulum.datetime(2001, 1, 1)


def wish(job: Job, **changes: Any) -> HoldWish:
    """Want some events to stay."""
    fields: dict[str, Any] = {"table": job.policy().table, "reason": "Smith v. Jones", "placed_by": "legal"}
    return HoldWish(**fields | changes)


def verified(job: Job) -> Any:
    """Plan one chunk, archive and verify it, and give its ticket."""
    tickets = job.start(job.policy(pace=Pace(max_batch_rows=500, target_batch_seconds=60, max_pause_seconds=0.1)))
    for ticket in tickets:
        archive(job.site, ticket.run, ticket.chunk)
        verify(job.site, ticket.run, ticket.chunk)
    return tickets


def left(job: Job) -> list[int]:
    """Give the stale events that are still there."""
    return [row[0] for row in job.execute("SELECT id FROM events WHERE at < '2023-05-06 00:00' ORDER BY id")]


def test_a_key_that_is_renamed_just_then(events_job: Job) -> None:
    """Two statements read it: they name one column, or a retry is asked for."""
    ended = threading.Event()

    def rename() -> None:
        for start, end in [("id", "other"), ("other", "id")] * 40:
            events_job.execute(f"ALTER TABLE events RENAME COLUMN {start} TO {end}")
        ended.set()

    owner = threading.Thread(target=rename)
    site, table, seen = events_job.site, events_job.policy().table_name, set()
    with site.database.session() as session:
        owner.start()
        try:
            while not ended.is_set():
                with contextlib.suppress(StatementTimedOut):
                    seen.add(tuple(column.name for column in site.database.key_columns(session, table)))
        finally:
            owner.join()
    assert seen == {("id",), ("other",)}


def test_a_hold_by_keys_or_condition_keeps_its_rows(events_job: Job) -> None:
    """Held before the plan, rows are neither planned nor archived; released, they go with the next run."""
    keys = place_hold(events_job.site, wish(events_job, keys=parse_keys(["7", " 2999", "", "9000"]), hold_id="case 1"))
    where = place_hold(events_job.site, wish(events_job, where="note = 'row 55' OR note LIKE '%66'"))
    assert (keys.rows, where.rows) == (3, 101)
    told = f"held          what the holds 'case 1', '{where.hold.hold_id}' protect, however old"
    assert told in events_job.plan(events_job.policy()).describe().splitlines()
    first = events_job.run(events_job.policy())
    stay = [7, 55, *range(66, 3_000, 100), 2_999]
    assert left(events_job) == sorted(stay)
    assert (first["rows_purged"], first["state"]) == (STALE_EVENTS - len(stay), "done")
    held = list_holds(events_job.site)
    assert (held[0].hold_id, held[0].reason, held[0].placed_by) == ("case 1", "Smith v. Jones", "legal")
    for hold in held:
        assert not release_hold(events_job.site, hold.hold_id, "judge").binding
    assert list_holds(events_job.site) == ()
    assert {hold.released_by for hold in list_holds(events_job.site, released=True)} == {"judge"}
    assert "\nheld " not in events_job.plan(events_job.policy(name="again")).describe()
    events_job.run(events_job.policy(name="again"))
    assert left(events_job) == []


def test_a_hold_by_many_keys_is_one_condition(events_job: Job) -> None:
    """Of thousands of keys none is left out, and the server takes no longer than for a few."""
    keys = parse_keys(map(str, range(20_000)))
    assert place_hold(events_job.site, wish(events_job, keys=keys)).rows == 10_000
    assert events_job.plan(events_job.policy()).stale_rows == 0


def test_a_hold_that_is_placed_while_a_purge_runs_binds_from_the_next_batch(events_job: Job) -> None:
    """It waits for the batch under way; all rows that are there when it is placed stay, and are counted as held."""
    tickets, site, placed = verified(events_job), events_job.site, threading.Event()
    threads: list[threading.Thread] = []

    def place() -> None:
        place_hold(events_job.site, wish(events_job, where="id >= 0"))
        placed.set()

    delete = site.database.delete

    def delete_and_disturb(*arguments: Any) -> bool:
        deleted: bool = delete(*arguments)
        if not threads:
            threads.append(threading.Thread(target=place))
            threads[0].start()
            assert not placed.wait(0.5), "the hold was placed while a batch was under way"
        return deleted

    site.database.delete = delete_and_disturb  # type: ignore[method-assign]
    for ticket in tickets:
        purge(site, ticket.run, ticket.chunk)
    threads[0].join()
    counts = report(events_job.site, tickets[0].run)
    assert counts["rows_purged"] + counts["rows_held"] == STALE_EVENTS
    assert 0 < counts["rows_purged"] <= 1_000
    assert len(left(events_job)) == counts["rows_held"]


def expire(job: Job, hold_id: str) -> None:
    """Let a hold's end pass."""
    job.execute("UPDATE dbhygiene.hold SET until_at = '2001-01-01' WHERE hold_id = %s", (hold_id,))


def test_a_hold_ends_by_itself(events_job: Job) -> None:
    """One that is over binds nothing; one that ends later binds."""
    place_hold(events_job.site, wish(events_job, where="id < 100", until=FAR, hold_id="over"))
    expire(events_job, "over")
    (binding,) = [place_hold(events_job.site, wish(events_job, where="id < 10", until=FAR)).hold]
    assert list_holds(events_job.site) == (binding,)
    assert binding.until_at == FAR
    events_job.run(events_job.policy())
    assert left(events_job) == list(range(10))


def test_a_hold_that_would_be_over_at_once_is_refused(events_job: Job) -> None:
    """Whoever is told of a hundred protected rows relies on it; nothing of it stays in the ledger."""
    with pytest.raises(IllegalMove, match=r"is over since 2001-01-01 00:00:00 UTC.*give a later until"):
        place_hold(events_job.site, wish(events_job, where="id < 100", until=LONG_AGO))
    assert list_holds(events_job.site, released=True) == ()


def test_a_later_end_moves_a_holds_end(events_job: Job) -> None:
    """Placed again with a later end, or with none, the hold lasts so long, even if it was over; it never ends sooner."""
    site, case = events_job.site, {"where": "id < 100", "hold_id": "case"}
    for until in (FAR, FAR.add(years=1), FAR.add(years=1), None):
        assert place_hold(site, wish(events_job, until=until, **case)).hold.until_at == until
    with pytest.raises(IllegalMove, match=r"'case' lasts longer, until it is released: release it"):
        place_hold(site, wish(events_job, until=FAR, **case))
    expire(events_job, "case")
    with pytest.raises(IllegalMove, match="'case' is over since 2001-01-01"):
        place_hold(site, wish(events_job, until=LONG_AGO, **case))
    placed = place_hold(site, wish(events_job, until=FAR, **case))
    assert (placed.hold.until_at, placed.hold.binding, placed.rows) == (FAR, True, 100)
    with pytest.raises(IllegalMove, match=r"'case' lasts longer, until 2100-01-01 00:00:00 UTC"):
        place_hold(site, wish(events_job, until=FAR.subtract(days=1), **case))
    events_job.run(events_job.policy())
    assert left(events_job) == list(range(100))
    told = events_job.execute("SELECT hold_id, prolonged_by, until_before FROM dbhygiene.prolongation ORDER BY 3")
    assert [(case, by, end.year) for case, by, end in told] == [("case", "legal", y) for y in (2001, 2100, 2101)]


def test_the_same_hold_again_is_the_same_hold(events_job: Job) -> None:
    """A retry changes nothing; another hold under the same id, or one that was released, is refused."""
    first = place_hold(events_job.site, wish(events_job, keys=(("1",),), hold_id="case")).hold
    assert place_hold(events_job.site, wish(events_job, keys=(("1",),), hold_id="case")).hold == first
    with pytest.raises(IllegalMove, match="'case' protects other rows"):
        place_hold(events_job.site, wish(events_job, keys=(("2",),), hold_id="case"))
    release_hold(events_job.site, "case", "judge")
    with pytest.raises(IllegalMove, match=r"'case' was released at \d{4}.*use another id"):
        place_hold(events_job.site, wish(events_job, keys=(("1",),), hold_id="case"))


@pytest.mark.rights("restore")
def test_a_released_hold_never_binds_again(events_job: Job) -> None:
    """A restore that goes on after its hold was released would put rows back unprotected: it says who released it."""
    run = events_job.run(events_job.policy())["run"]
    wish_back = Wish(run, "back")
    assert restore(events_job.site, wish_back).restored == STALE_EVENTS
    assert restore(events_job.site, wish_back).earlier == STALE_EVENTS  # a retry, while the hold stands
    (hold,) = list_holds(events_job.site)
    release_hold(events_job.site, hold.hold_id, "judge")
    with pytest.raises(IllegalMove, match=r"was released at \d{4}.* by judge: start a new restore"):
        restore(events_job.site, wish_back)
    assert list_holds(events_job.site) == ()
    assert events_job.run(events_job.policy(name="again"))["rows_purged"] == STALE_EVENTS
    assert restore(events_job.site, Wish(run, "once more")).restored == STALE_EVENTS
    assert [each.hold_id for each in list_holds(events_job.site)] == ["restored once more"]
    with pytest.raises(IllegalMove, match="protects other rows already"):
        restore(events_job.site, Wish(run, "once more", where="id = 1"))


WRONG_HOLDS: tuple[tuple[dict[str, Any], Any, str], ...] = (
    ({"where": "id = 1; DROP TABLE events"}, PolicyInvalid, "semicolon"),
    ({"where": "custodian = 'X'"}, NotFound, "custodian"),
    ({"where": "id ="}, PolicyInvalid, "not one expression"),
    ({"where": "id IN (SELECT 1)"}, PolicyInvalid, "subquery"),
    ({}, PolicyInvalid, "either a condition or a list of keys"),
    ({"where": "id = 1", "keys": (("1",),)}, PolicyInvalid, "either a condition or a list of keys"),
    ({"keys": (("1", "2"),)}, PolicyInvalid, r"does not fit the primary key .*\(id\)"),
    ({"keys": (("one",),)}, (PolicyInvalid, StatementFailed), "one"),
    ({"table": "events", "where": "id = 1"}, PolicyInvalid, r"not schema\.table"),
    ({"table": "nowhere.events", "where": "id = 1"}, NotFound, r"nowhere\.events does not exist"),
)


def test_a_hold_that_would_protect_nothing_is_refused(events_job: Job) -> None:
    """Whoever mistypes it is told what is wrong, and no ledger row is left behind."""
    for changes, error, said in WRONG_HOLDS:
        with pytest.raises(error, match=said):
            place_hold(events_job.site, wish(events_job, **changes))
    assert list_holds(events_job.site, released=True) == ()


def test_a_hold_on_a_view_is_refused(events_job: Job) -> None:
    """No policy deletes by that name."""
    events_job.execute("CREATE VIEW shown AS SELECT * FROM events")
    table = events_job.policy().table.replace("events", "shown")
    with pytest.raises(PolicyInvalid, match="shown is no table: name the tables whose rows it shows"):
        place_hold(events_job.site, wish(events_job, table=table, where="id < 10"))


def test_a_name_in_another_case_never_means_nothing(tmp_path: Path) -> None:
    """Where the server takes EVENTS for events, what people place is refused, and what SQL placed binds."""
    with MariaDbServer.start(settings={"lower_case_table_names": "1"}) as server:
        job = MySqlJob(folder=tmp_path, parameters=server.create_database("shop"))
        for statement in EVENTS:
            job.execute(statement)
        said = r"the catalogue spells shop\.EVENTS as shop\.events: write it so"
        with pytest.raises(PolicyInvalid, match=said):
            place_hold(job.site, wish(job, table="shop.EVENTS", where="id < 100"))
        with pytest.raises(PolicyInvalid, match=said):
            pause(job.site, "table:shop.EVENTS", "month end", "finance")
        with pytest.raises(PlanRefused, match=said):
            job.plan(job.policy(table="shop.EVENTS"))
        job.start(job.policy(name="other"))
        columns = "hold_id, table_name, predicate, reason, placed_by"
        job.execute(f"INSERT INTO dbhygiene.hold ({columns}) VALUES ('h', 'SHOP.Events', 'id < 10', 'case', 'legal')")
        certificate = job.run(job.policy())
        assert ([hold["hold"] for hold in certificate["holds"]], left(job)) == (["h"], list(range(10)))


def test_what_is_not_there_cannot_be_released_or_resumed(events_job: Job) -> None:
    """Not even before the first run, when there is no ledger."""
    for _ in range(2):
        with pytest.raises(NotFound, match="'nothing' is not in this database's ledger"):
            release_hold(events_job.site, "nothing", "judge")
        with pytest.raises(NotFound, match="'all' is not paused: nothing is"):
            resume(events_job.site, "all")
        assert (list_pauses(events_job.site), list_holds(events_job.site)) == ((), ())
        events_job.start(events_job.policy())


@pytest.mark.parametrize("scope", ["policy:events", "table"])
def test_a_pause_stops_a_purge_and_a_resume_lets_it_go_on(events_job: Job, scope: str) -> None:
    """The same chunks go on where they stopped, and nothing is repeated."""
    tickets, site = verified(events_job), events_job.site
    spelled = f"table:{events_job.policy().table}" if scope == "table" else scope
    delete, batches = site.database.delete, [0]

    def delete_and_pause(*arguments: Any) -> bool:
        batches[0] += 1
        if batches[0] == 2:
            assert pause(events_job.site, spelled, "month end", "finance").reason == "month end"
        return bool(delete(*arguments))

    site.database.delete = delete_and_pause  # type: ignore[method-assign]
    with pytest.raises(Paused, match=r"by finance: month end"):
        purge(site, tickets[0].run, tickets[0].chunk)
    assert batches[0] == 2
    assert STALE_EVENTS - 1_000 < len(left(events_job)) < STALE_EVENTS
    assert pause(events_job.site, spelled, "another", "other").placed_by == "finance"
    assert [each.scope for each in list_pauses(events_job.site)] == [resume(events_job.site, spelled)]
    certificate = events_job.finish(tickets)
    assert (certificate["rows_purged"], certificate["rows_archived"]) == (STALE_EVENTS, STALE_EVENTS)


WRONG_SCOPES = (
    ("policy:typo", NotFound, r"policy 'typo' has no run .*it knows: events"),
    ("table:nowhere.typo", NotFound, r"nowhere\.typo does not exist"),
    ("table:typo", PolicyInvalid, r"not schema\.table"),
    ("everything", PolicyInvalid, "none of 'all'"),
    ("policy:", PolicyInvalid, "none of 'all'"),
)


def test_a_pause_that_would_stop_nothing_is_refused(events_job: Job) -> None:
    """Whoever mistypes a scope must not trust in it."""
    events_job.start(events_job.policy())
    for scope, error, said in WRONG_SCOPES:
        with pytest.raises(error, match=said):
            pause(events_job.site, scope, "month end", "finance")
    assert list_pauses(events_job.site) == ()
