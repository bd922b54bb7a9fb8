"""The other examples: a folder of policies, and the operators one by one. All of them run, and all import fast."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.lab import EXAMPLES, Lab, eventually

AS_OF = "2014-01-01T00:00:00Z"
HEAVY = ("pyarrow", "psycopg", "sqlglot", "numpy", "s3fs", "adbc_driver_manager", "pandas", "boto3")
FLIGHTS = "SELECT count(*) FROM public.flights"
# DAG → what its run takes, as SQL over the database that it finds.
FOLDER = {
    "hygiene_cancelled_flights": "public.flights WHERE time_hour < '2013-12-02T00:00:00Z' AND dep_time IS NULL",
    "hygiene_retired_planes": "public.planes p WHERE year < 1980 AND NOT EXISTS"
    " (SELECT FROM public.flights f WHERE f.tailnum = p.tailnum)",
    "hygiene_unserved_airports": "public.airports a WHERE tz IS NOT NULL AND NOT EXISTS"
    " (SELECT FROM public.flights f WHERE f.origin = a.faa OR f.dest = a.faa)",
}
_IMPORT = """
import json, runpy, sys, time
import airflow.sdk, airflow.providers.standard.operators.empty
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, CronDataIntervalTimetable, TaskGroup, task
started = time.monotonic()
runpy.run_path(sys.argv[1])
print(json.dumps([time.monotonic() - started, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def examples(lab: Lab) -> Lab:
    """Return the lab once Airflow knows the examples; one plane and many airports have no flight to serve."""
    lab.sql("INSERT INTO public.planes (tailnum, year) VALUES ('N-OLD', 1903)", database="more")
    lab.sql("CREATE SCHEMA cold", database="more")
    for name in ("policies", "hygiene_folder.py", "flights_explicit.py", "flights_cold.py"):
        lab.install_example(name, "more_pg")
    return lab


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_example_imports_fast_and_light(file: Path, tmp_path: Path) -> None:
    """Beyond Airflow itself a DAG file costs little, and what the steps work with is not loaded."""
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-c", _IMPORT, str(file)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    seconds, modules = json.loads(done.stdout.splitlines()[-1])
    assert seconds < 2
    assert not set(HEAVY) & set(modules)


def test_each_policy_of_a_folder_has_a_dag_that_runs(examples: Lab) -> None:
    """Three policies from two files, with the folder's defaults: each takes its rows, no others; one keeps no copy."""
    expected = {dag: _count(examples, rows) for dag, rows in FOLDER.items()}
    assert all(expected.values()), expected
    runs = {dag: examples.start(dag, as_of=AS_OF) for dag in FOLDER}
    for dag, run in runs.items():
        assert examples.finish(dag, run).state == "success", examples.states(dag, run)
        assert examples.client.xcom(dag, run, "report")["rows_purged"] == expected[dag]
        assert _count(examples, FOLDER[dag]) == 0
    kept = {dag: examples.client.xcom(dag, run, "report")["rows_archived"] for dag, run in runs.items()}
    assert kept == expected | {"hygiene_unserved_airports": 0}
    details = examples.client.http.get("dags/hygiene_retired_planes/details").json()
    assert details["owners"] == ["data-platform"]
    assert details["timetable_summary"] == "0 0 * * 0"


def test_explicit_operators_take_their_rows(examples: Lab) -> None:
    """The DAG of single operators ends as one that is made of a policy does."""
    rows = "public.flights WHERE hour < 6"
    expected, total = _count(examples, rows), _count(examples, "public.flights")
    run = examples.start("flights_explicit")
    assert examples.finish("flights_explicit", run).state == "success", examples.states("flights_explicit", run)
    assert examples.client.xcom("flights_explicit", run, "report")["rows_purged"] == expected
    assert (_count(examples, rows), _count(examples, "public.flights")) == (0, total - expected)


def test_group_in_a_dag_of_ones_own_wakes_the_dag_behind_its_asset(examples: Lab) -> None:
    """The group's tasks stand between the user's own, and a DAG that waits for the asset reads the figures."""
    rows = "public.flights WHERE hour > 20"
    expected = _count(examples, rows)
    examples.client.unpause("flights_archived")
    run = examples.start("flights_with_hygiene")
    assert examples.finish("flights_with_hygiene", run).state == "success"
    states = examples.states("flights_with_hygiene", run)
    assert set(states.values()) == {"success"}
    assert {"load", "late_flights.sense", "late_flights.chunk.purge[0]", "late_flights.report", "refresh"} <= {*states}
    links = examples.client.extra_links("flights_with_hygiene", run, "late_flights.report")
    assert str(links["Plan"]).endswith("/tasks/late_flights.plan/rendered_templates")
    (woken,) = eventually(lambda: examples.client.runs("flights_archived"), "the DAG behind the asset")
    assert examples.finish("flights_archived", woken.run_id).state == "success"
    assert examples.client.xcom("flights_archived", woken.run_id, "tell") == [expected]
    assert _count(examples, rows) == 0


def test_flights_move_into_a_cold_table(examples: Lab) -> None:
    """Beside the live one, where SQL still finds them: all columns, each row once."""
    rows = "public.flights WHERE time_hour < '2013-06-01T00:00:00Z'"
    before = examples.sql(f"SELECT * FROM {rows} ORDER BY id", database="more")
    run = examples.start("hygiene_flights_cold", as_of="2014-06-01T00:00:00Z")
    assert examples.finish("hygiene_flights_cold", run).state == "success", examples.states("hygiene_flights_cold", run)
    assert examples.client.xcom("hygiene_flights_cold", run, "report")["rows_purged"] == len(before) > 100_000
    assert _count(examples, rows) == 0
    columns = ", ".join(row[0] for row in examples.sql(_COLUMNS, database="more"))
    assert examples.sql(f"SELECT {columns} FROM cold.flights ORDER BY id", database="more") == before


_COLUMNS = """
SELECT quote_ident(attname) FROM pg_attribute
WHERE attrelid = 'public.flights'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


def _count(lab: Lab, rows: str) -> int:
    return int(lab.sql(f"SELECT count(*) FROM {rows}", database="more")[0][0])
