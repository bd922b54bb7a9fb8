"""The monthly example: past months by a backfill, forwards and backwards, and again."""

from datetime import UTC, datetime

import pytest

from tests.system.lab import Lab

DAG = "hygiene_flights_by_month"
FIRST, LAST = datetime(2014, 1, 1, tzinfo=UTC), datetime(2014, 6, 1, tzinfo=UTC)
FLIGHTS = 336_776
_BY_MONTH = """
SELECT to_char(time_hour AT TIME ZONE 'UTC', 'YYYY-MM') AS month, count(*), sum(id)
FROM public.flights GROUP BY 1 ORDER BY 1
"""
_BY_RUN = """
SELECT to_char(r.since AT TIME ZONE 'UTC', 'YYYY-MM'), c.purged::bigint
FROM dbhygiene.run r JOIN dbhygiene.chunk c USING (run_id) ORDER BY 1
"""


@pytest.fixture(scope="module")
def before(lab: Lab) -> dict[str, tuple[int, int]]:
    """Return rows and sum of ids of each month before anything has run."""
    lab.install_example("flights_by_month.py", "month_pg")
    lab.client.unpause(DAG)
    return _by_month(lab)


@pytest.fixture(scope="module")
def after(lab: Lab, before: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Return the same after a backfill of six months, two at a time."""
    assert sum(rows for rows, _ in before.values()) == FLIGHTS
    runs = lab.backfill(DAG, FIRST, LAST, max_active_runs=2)
    assert [run.state for run in runs] == ["success"] * 6
    return _by_month(lab)


def test_backfill_takes_exactly_the_months_of_its_intervals(
    lab: Lab, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> None:
    """Six intervals of 2014 take January to June of 2013, as run by run; each row is in the archive of its month."""
    gone = {month: before[month] for month in before if "2013-01" <= month <= "2013-06"}
    assert len(gone) == 6
    assert after == {month: before[month] for month in before if month not in gone}
    assert lab.sql(_BY_RUN, database="month") == [(month, rows) for month, (rows, _) in gone.items()]
    ids = lab.archived("flights_by_month").column("id").to_pylist()
    assert (len(ids), sum(ids)) == (sum(rows for rows, _ in gone.values()), sum(total for _, total in gone.values()))


def test_backfill_that_is_repeated_changes_nothing(lab: Lab, after: dict[str, tuple[int, int]]) -> None:
    """Runs that are done and run anew find their own plan in the ledger, and repeat nothing."""
    batches = lab.sql("SELECT * FROM dbhygiene.batch ORDER BY 1, 2, 3", database="month")
    objects = {key: lab.body(key) for key in lab.keys("flights_by_month") if key.endswith(".parquet")}
    runs = lab.backfill(DAG, FIRST, LAST, max_active_runs=2, reprocess_behavior="completed")
    assert [run.state for run in runs] == ["success"] * 6
    assert {lab.tries(DAG, run.run_id)["plan"] for run in runs} == {2}
    assert _by_month(lab) == after
    assert lab.sql("SELECT * FROM dbhygiene.batch ORDER BY 1, 2, 3", database="month") == batches
    assert {key: lab.body(key) for key in lab.keys("flights_by_month") if key.endswith(".parquet")} == objects


def test_backfill_backwards_takes_its_months_too(lab: Lab, after: dict[str, tuple[int, int]]) -> None:
    """The newest month first: the order of runs makes no difference."""
    first, last = datetime(2014, 8, 1, tzinfo=UTC), datetime(2014, 9, 1, tzinfo=UTC)
    runs = lab.backfill(DAG, first, last, run_backwards=True)
    assert [run.state for run in runs] == ["success"] * 2
    assert _by_month(lab) == {month: after[month] for month in after if month not in ("2013-08", "2013-09")}


def test_run_without_an_interval_is_refused(lab: Lab, before: dict[str, tuple[int, int]]) -> None:
    """A run that stands for no interval cannot say which rows are its own: it fails on its first try, with the fix."""
    assert before
    run = lab.start(DAG)
    assert lab.finish(DAG, run).state == "failed"
    assert (lab.states(DAG, run)["sense"], lab.tries(DAG, run)["sense"]) == ("failed", 1)
    log = lab.client.log(DAG, run, "sense")
    assert "has window 'interval', and this run has no data interval" in log
    assert "backfill it, or use window 'cumulative'" in log


def _by_month(lab: Lab) -> dict[str, tuple[int, int]]:
    return {month: (rows, int(total)) for month, rows, total in lab.sql(_BY_MONTH, database="month")}
