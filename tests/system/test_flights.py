"""The first example, from the dry run to a run that is cleared as a whole: what an auditor finds afterwards."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from pyarrow import csv

from tests.servers.airflow_records import TaskInstance
from tests.system.lab import Lab, exists

DAG = "hygiene_flights"
AS_OF = "2014-01-01T00:00:00Z"
CUTOFF = datetime(2013, 10, 3, tzinfo=UTC)
FLIGHTS = 336_776
CHUNKS = 2
CHUNK_ROWS = 127_168
_WHICH = "FROM public.flights WHERE time_hour < '2013-10-03T00:00:00Z'"


@pytest.fixture(scope="module")
def flights(lab: Lab) -> Lab:
    """Return the lab once Airflow knows the example."""
    lab.install_example("flights.py", "shop_pg")
    return lab


@pytest.fixture(scope="module")
def stale(flights: Lab) -> int:
    """Return how many flights are stale before anything has run."""
    return int(flights.sql(f"SELECT count(*) {_WHICH}", database="shop")[0][0])


@pytest.fixture(scope="module")
def stale_csv(flights: Lab) -> bytes:
    """Return the stale flights as the server itself writes them, before anything has run."""
    statement = f"COPY (SELECT * {_WHICH} ORDER BY id) TO STDOUT (FORMAT csv, HEADER)"
    with psycopg.connect(flights.postgres.dsn("shop")) as connection, connection.cursor() as cursor:
        cursor.execute("SET timezone = 'UTC'")
        with cursor.copy(statement) as copy:
            return b"".join(copy)


@pytest.fixture(scope="module")
def dry_run(flights: Lab, stale: int, stale_csv: bytes) -> str:
    """Return the id of a finished dry run. It comes first, while there is no ledger yet."""
    assert stale
    assert stale_csv
    run_id = flights.start(DAG, as_of=AS_OF, dry_run=True)
    assert flights.finish(DAG, run_id).state == "success", flights.states(DAG, run_id)
    return run_id


@pytest.fixture(scope="module")
def traces_of_dry_run(flights: Lab, dry_run: str) -> tuple[Any, ...]:
    """Return what there is in the database and the store after the dry run."""
    assert dry_run
    (found,) = flights.sql(
        "SELECT to_regnamespace('dbhygiene'), (SELECT count(*) FROM public.flights)", database="shop"
    )
    return (*found, flights.keys("flights"))


@pytest.fixture(scope="module")
def run(flights: Lab, traces_of_dry_run: tuple[Any, ...]) -> str:
    """Return the id of a finished run."""
    assert traces_of_dry_run
    run_id = flights.start(DAG, as_of=AS_OF)
    assert flights.finish(DAG, run_id, 180).state == "success", flights.states(DAG, run_id)
    return run_id


def test_dry_run_shows_the_plan_and_touches_nothing(
    flights: Lab, dry_run: str, traces_of_dry_run: tuple[Any, ...], stale: int
) -> None:
    """The plan is in the log and in XCom, no chunk is run, and there is no trace in the database and the store."""
    plan = flights.client.xcom(DAG, dry_run, "plan", key="plan")
    assert f"{stale:,} rows in {CHUNKS} chunks" in plan
    assert '"time_hour" < ' in plan
    assert f"{stale:,} rows in {CHUNKS} chunks" in flights.client.log(DAG, dry_run, "plan")
    assert flights.client.xcom(DAG, dry_run, "plan") == []
    assert not exists(lambda: flights.client.xcom(DAG, dry_run, "plan", key="run"))
    states = flights.states(DAG, dry_run)
    assert {name: states[name] for name in ("plan", "reclaim", "report", "finished")} == {
        "plan": "success",
        "reclaim": "skipped",
        "report": "success",
        "finished": "success",
    }
    assert states["chunk.purge"] == "skipped"
    assert traces_of_dry_run == (None, FLIGHTS, [])


def test_run_is_green_and_its_chunks_have_names(flights: Lab, run: str) -> None:
    """Every task succeeds, and each mapped one is called after its chunk."""
    assert set(flights.states(DAG, run).values()) == {"success"}
    tasks = [task for task in flights.client.task_instances(DAG, run) if task.task_id.startswith("chunk.")]
    assert len(tasks) == 3 * CHUNKS
    labels = {str(task.rendered_map_index) for task in tasks}
    assert len(labels) == CHUNKS
    assert {"chunk 1 · start → 2013-05-20", "chunk 2 · 2013-05-20 → 2013-10-03"} <= labels
    assert {task.pool for task in flights.client.task_instances(DAG, run)} == {"hygiene_shop_pg"}


def test_plan_is_in_the_rendered_templates_and_in_xcom(flights: Lab, run: str, stale: int) -> None:
    """An auditor sees which policy ran, by which SQL, and over which chunks."""
    fields = _task(flights, run, "plan").rendered_fields
    assert f"{stale:,} rows in {CHUNKS} chunks" in fields["plan"]
    assert '"time_hour" < ' in fields["plan"]
    assert json.loads(fields["policy_json"])["table"] == "public.flights"
    assert fields["plan"] == flights.client.xcom(DAG, run, "plan", key="plan")
    tickets = flights.client.xcom(DAG, run, "plan")
    assert [ticket["chunk"] for ticket in tickets] == list(range(1, CHUNKS + 1))
    assert tickets[0].keys() == {"conn_id", "run", "chunk", "label"}


def test_certificate_is_in_xcom_in_the_store_and_on_the_asset(flights: Lab, run: str, stale: int) -> None:
    """The same figures stand in all three places, and they are the table's own."""
    certificate = flights.client.xcom(DAG, run, "report")
    assert certificate["state"] == "done"
    assert (certificate["rows_stale"], certificate["rows_archived"], certificate["rows_purged"]) == (stale,) * 3
    (key,) = (key for key in flights.keys("flights") if key.endswith("certificate.json"))
    stored = json.loads(flights.body(key))
    assert stored.items() <= certificate.items()
    rendered = _task(flights, run, "report").rendered_fields
    assert json.loads(rendered["certificate"]) == {
        name: certificate[name] for name in certificate if name != "chunk_list"
    }
    assert f"purged {stale:,}" in rendered["report"]
    (event,) = flights.client.asset_events(DAG, run)
    assert event.uri == "x-dbhygiene://shop_pg/flights"
    assert event.extra["rows_purged"] == stale
    assert event.extra["certificate_sha256"] == certificate["certificate_sha256"]


def test_buttons_lead_to_certificate_and_plan(flights: Lab, run: str) -> None:
    """The report's page has two buttons, each to a page of the UI that exists."""
    links = flights.client.extra_links(DAG, run, "report")
    place = f"/dags/{DAG}/runs/"
    assert links.keys() == {"Certificate", "Plan"}
    assert str(links["Certificate"]).startswith(place)
    assert str(links["Certificate"]).endswith("/tasks/report/rendered_templates")
    assert str(links["Plan"]).endswith("/tasks/plan/rendered_templates")


def test_dag_page_tells_what_the_dag_does(flights: Lab, run: str) -> None:
    """The DAG's documentation names table, connection, store and pool."""
    assert run
    details = flights.client.http.get(f"dags/{DAG}/details").json()
    for word in ("public.flights", "shop_pg", "s3://cold_store@cold/flights", "hygiene_shop_pg", "90 days"):
        assert word in details["doc_md"]
    assert {tag["name"] for tag in details["tags"]} == {"hygiene", "shop_pg"}
    assert details["owners"] == ["data-platform"]


def test_archive_holds_exactly_the_rows_that_left(flights: Lab, run: str, stale: int, stale_csv: bytes) -> None:
    """Value by value: the server's own CSV of the stale rows against the objects; and no other row is gone."""
    assert run
    archived = flights.archived("flights").sort_by("id")
    names = [name for name in archived.column_names if not name.startswith("_")]
    archived = archived.select(names)
    types = csv.ConvertOptions(
        column_types=archived.schema, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
    )
    before: pa.Table = csv.read_csv(io.BytesIO(stale_csv), convert_options=types)
    assert before.num_rows == stale
    assert archived.combine_chunks().equals(before.select(names).combine_chunks())
    assert flights.sql(f"SELECT count(*) {_WHICH}", database="shop") == [(0,)]
    assert flights.sql("SELECT count(*) FROM public.flights", database="shop") == [(FLIGHTS - stale,)]


def test_run_that_is_cleared_repeats_nothing(flights: Lab, run: str) -> None:
    """All tasks run again and come to the same end: no new object, no new batch, the same figures."""
    before = _traces(flights, run)
    flights.clear(DAG, run)
    assert flights.finish(DAG, run, 180).state == "success"
    assert set(flights.states(DAG, run).values()) == {"success"}
    # The last one is an EmptyOperator, which the scheduler passes by.
    assert {tries for task, tries in flights.tries(DAG, run).items() if task != "finished"} == {2}
    assert _traces(flights, run) == before
    assert "was planned before, in " in _task(flights, run, "plan").rendered_fields["plan"]


def test_restore_example_brings_a_chunk_back(flights: Lab, run: str, stale: int) -> None:
    """The form's own default counts and changes nothing; without it the chunk's rows are in the table again."""
    flights.install_example("restore.py", "shop_pg")
    last = stale - (CHUNKS - 1) * CHUNK_ROWS
    chosen = {"run": flights.client.xcom(DAG, run, "report")["run"], "chunks": str(CHUNKS)}
    for dry_run, left in ((True, FLIGHTS - stale), (False, FLIGHTS - stale + last)):
        restored = flights.start("hygiene_restore", **chosen, dry_run=dry_run)
        assert flights.finish("hygiene_restore", restored).state == "success"
        assert last in flights.client.xcom("hygiene_restore", restored, "restore").values()
        assert flights.sql("SELECT count(*) FROM public.flights", database="shop") == [(left,)]


def _task(lab: Lab, run: str, task_id: str) -> TaskInstance:
    return next(task for task in lab.client.task_instances(DAG, run) if task.task_id == task_id)


def _traces(lab: Lab, run: str) -> tuple[Any, ...]:
    """Return what a repetition must not change."""
    certificate = lab.client.xcom(DAG, run, "report")
    figures = {name: value for name, value in certificate.items() if not name.startswith("certificate")}
    objects = {key: lab.body(key) for key in lab.keys("flights") if key.endswith(".parquet")}
    ledger = lab.sql("SELECT * FROM dbhygiene.batch ORDER BY run_id, chunk, batch", database="shop")
    left = lab.sql("SELECT count(*), sum(id) FROM public.flights", database="shop")
    return figures, objects, ledger, left
