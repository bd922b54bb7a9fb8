"""What people see and do in Airflow's pages: forms, buttons, names, and what a run tells."""

from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.servers.airflow_records import TaskInstance
from tests.servers.browser import chromium, logged_in
from tests.system.lab import EXAMPLES, Lab, eventually

expect.set_options(timeout=20_000)  # a page waits for the API, and that for a busy machine

DAG = "hygiene_watched"
STALE = 500
CHUNKS = 2


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return the browser of this module."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser: Browser, lab: Lab) -> Iterator[Page]:
    """Return the administrator's window."""
    with logged_in(browser, lab.airflow, "admin") as page:
        yield page


@pytest.fixture(scope="module")
def watched(lab: Lab) -> Lab:
    """Return the lab once Airflow knows the run that is looked at, and the examples' forms under names of their own."""
    lab.create_events("watched", STALE)
    lab.install_scenario("watched.py")
    for name in ("restore.py", "holds.py"):
        text = (EXAMPLES / name).read_text().replace("shop_pg", "lab_pg")
        for dag in ("restore", "hold", "release_hold", "pause", "resume"):
            text = text.replace(f'"hygiene_{dag}"', f'"watched_{dag}"')
        (lab.dags_folder / f"watched_{name}").write_text(text)
    for dag in (DAG, "watched_restore", "watched_hold", "watched_release_hold"):
        lab.client.unpause(dag)
    return lab


@pytest.fixture(scope="module")
def run(watched: Lab, page: Page) -> str:
    """Return the id of a finished run, which a dry run came before; both were started by the form."""
    for dry_run in (True, False):
        run_id = _sent(watched, page, DAG, {}, dry_run=dry_run)
        assert watched.finish(DAG, run_id).state == "success", watched.states(DAG, run_id)
    return run_id


def test_the_form_starts_a_dry_run_and_a_run(watched: Lab, run: str) -> None:
    """The first one changes nothing, and what follows a finished run does not follow it."""
    dry, wet = sorted(watched.client.runs(DAG), key=lambda each: each.run_id)
    assert wet.run_id == run
    assert watched.client.asset_events(DAG, dry.run_id) == []
    assert len(watched.client.asset_events(DAG, wet.run_id)) == 1
    assert watched.sql("SELECT count(*) FROM watched.events") == [(100,)]


def test_chunks_are_called_by_what_they_hold(watched: Lab, run: str, page: Page) -> None:
    """A list of mapped tasks says which rows each of them is about."""
    page.goto(_place(run, "chunk.purge", "mapped"))
    for label in {str(each.rendered_map_index) for each in _mapped(watched, run)}:
        expect(page.get_by_text(label).first).to_be_visible()
    expect(page.get_by_text("chunk 1 · start → ").first).to_be_visible()


def test_buttons_open_certificate_and_plan(run: str, page: Page) -> None:
    """A click from the report to the figures, and to the condition that chose the rows; nothing is cut off."""
    for button, told in (("Certificate", f"purged {STALE}"), ("Plan", f"{STALE} rows in {CHUNKS} chunks")):
        page.goto(_place(run, "report", "details"))
        page.get_by_role("link", name=button, exact=True).click()
        expect(page.get_by_text(told).first).to_be_visible()
        expect(page.get_by_text("Truncated.")).to_have_count(0)
    expect(page.get_by_text('"at" < ').first).to_be_visible()


def test_certificate_is_read_line_by_line(run: str, page: Page) -> None:
    """A page is as wide as it is: each figure has a line."""
    page.goto(_place(run, "report", "rendered_templates"))
    figure = page.get_by_text(f'"rows_purged": {STALE}').first
    expect(figure).to_be_visible()
    lines = figure.inner_text().splitlines()
    assert max(map(len, lines)) < 200, lines


def test_the_policy_is_the_dags_documentation(page: Page, watched: Lab) -> None:
    """Whoever finds the DAG reads what it does, and to what."""
    assert watched
    page.goto(f"/dags/{DAG}")
    page.get_by_role("button", name="Dag Docs").click()
    documentation = page.get_by_role("dialog")
    for told in ("watched.events", "90 days", "s3://cold_store@cold/watched"):
        expect(documentation.get_by_text(told).first).to_be_visible()


def test_forms_hold_rows_and_bring_them_back(watched: Lab, run: str, page: Page) -> None:
    """The examples' forms can be sent with no more than they need, by whoever has nothing but a browser."""
    hygiene_run = watched.client.xcom(DAG, run, "report")["run"]
    wishes = (
        ("watched_hold", {"table": "watched.events", "reason": "case 7", "where": "id > 500"}),
        ("watched_release_hold", {"hold_id": "case 7"}),
        ("watched_restore", {"run": hygiene_run}),
        ("watched_restore", {"run": hygiene_run, "chunks": "2"}),
    )
    wishes[0][1]["hold_id"] = "case 7"
    for dag, fields in wishes:
        sent = _sent(watched, page, dag, fields, dry_run=False if "chunks" in fields else None)
        assert watched.finish(dag, sent).state == "success", watched.states(dag, sent)
    assert watched.sql("SELECT reason, released_by FROM dbhygiene.hold WHERE hold_id = 'case 7'") == [
        ("case 7", "admin")
    ]
    assert watched.sql("SELECT count(*) FROM watched.events") == [(100 + STALE // CHUNKS,)]


def test_a_refusal_is_read_where_it_is_looked_for(watched: Lab, page: Page) -> None:
    """A red task's log says which object is wrong, and what to do."""
    sent = _sent(watched, page, "watched_restore", {"run": "no-such-run"})
    assert watched.finish("watched_restore", sent).state == "failed"
    page.goto(f"/dags/watched_restore/runs/{quote(sent, safe='')}/tasks/restore")
    expect(page.get_by_text("no-such-run").first).to_be_visible()


def test_a_viewer_can_look_and_not_start(browser: Browser, watched: Lab, run: str) -> None:
    """Who may only look sees the certificate, and cannot purge by the form."""
    with logged_in(browser, watched.airflow, "viewer") as page:
        page.goto(_place(run, "report", "rendered_templates"))
        expect(page.get_by_text(f"purged {STALE}").first).to_be_visible()
        page.goto(f"/dags/{DAG}")
        page.get_by_role("button", name="Trigger").first.click()
        with page.expect_response(lambda answer: answer.request.method == "POST") as refused:
            page.get_by_role("dialog").get_by_role("button", name="Trigger").last.click()
        assert refused.value.status == httpx.codes.FORBIDDEN


def _sent(lab: Lab, page: Page, dag: str, fields: dict[str, str], *, dry_run: bool | None = None) -> str:
    """Fill in a DAG's form and send it; return the new run's id."""
    before = {each.run_id for each in lab.client.runs(dag)}
    page.goto(f"/dags/{dag}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    for name, text in fields.items():
        form.locator(f"[name=element_{name}]").fill(text)
    if dry_run is not None:
        _switch(form.locator("[name=element_dry_run]"), dry_run)
    form.get_by_role("button", name="Trigger").last.click()
    eventually(lambda: len(lab.client.runs(dag)) > len(before), "a run that the form started")
    return next(each.run_id for each in lab.client.runs(dag) if each.run_id not in before)


def _switch(box: Locator, on: bool) -> None:  # noqa: FBT001 - what a switch is
    """Set a switch, as a person does: by what is drawn around its box."""
    if box.is_checked() != on:
        box.locator("xpath=..").click()
    expect(box).to_be_checked(checked=on)


def _mapped(lab: Lab, run: str) -> list[TaskInstance]:
    return [each for each in lab.client.task_instances(DAG, run) if each.task_id == "chunk.purge"]


def _place(run: str, task: str, tab: str) -> str:
    return f"/dags/{DAG}/runs/{quote(run, safe='')}/tasks/{task}/{tab}"
