"""The documentation says what the code does: what it quotes, names and links is compared with the source."""

from __future__ import annotations

import importlib.util
import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from airflow_dbhygiene import dag, errors
from airflow_dbhygiene.databases.postgres import GATE
from airflow_dbhygiene.ledger.moves import MOVES
from airflow_dbhygiene.policy import Policy
from airflow_dbhygiene.policy.files import DAG_FIELDS
from airflow_dbhygiene.steps.measure import MEASURES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
TARGET = re.compile(r"`(?:\w+=\w+ )?make (?P<target>[a-z-]+)`|^(?:\w+=\w+ )?make (?P<line>[a-z-]+)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code on a page, and the remark that stands before it."""

    note: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Give the code blocks of a page, in their order."""
    found = FENCE.finditer(page.read_text())
    return [Block(match["note"] or "", match["language"], match["text"]) for match in found]


def name_of(page: Path) -> str:
    """Name a page in the output of pytest."""
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Give the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def script(path: Path) -> ModuleType:
    """Import a script that is no part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def subclasses(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    """Give a class of errors and all below it."""
    yield kind
    for each in kind.__subclasses__():
        yield from subclasses(each)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_quoted_block_is_what_its_source_says(page: Path) -> None:
    """Every block marked `from FILE` stands in that file, letter for letter."""
    for block in blocks(page):
        if block.note.startswith("from "):
            assert block.text in (ROOT / block.note.removeprefix("from ")).read_text()


def test_the_readme_quotes_the_example() -> None:
    """The README's policy is the one that the demo and the system tests run."""
    assert any(block.note == "from dags/flights.py" for block in blocks(ROOT / "README.md"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_on_a_page_runs(page: Path) -> None:
    """Python blocks make the policies and DAGs that they show, unless they say that they are not run."""
    names: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks(page):
        if block.language == "python" and not block.note.startswith(("from ", "not run")):
            exec(block.text, names)  # noqa: S102 - our own documentation


def test_every_field_of_a_policy_is_told() -> None:
    """The tables are those that the JSON schema gives now; `python docs/render_fields.py` renews them."""
    fields = script(ROOT / "docs/render_fields.py")
    page = (ROOT / "docs/policies.md").read_text()
    assert fields.render(page) == page
    assert set(fields.PARTS) == {"Policy", *Policy.model_json_schema()["$defs"]}


def test_every_setting_of_a_dag_is_told() -> None:
    """Arguments of hygiene_dag, settings of YAML's `dag`, and measures of the sensor stand on their pages."""
    dags, policies = ((ROOT / "docs" / name).read_text() for name in ("dags.md", "policies.md"))
    arguments = set(inspect.signature(dag.hygiene_dag).parameters) - {"policy", "dag_settings"}
    assert {name for name in (*arguments, *dag.RUN_PARAMS, *MEASURES) if f"`{name}" not in dags} == set()
    assert {name for name in DAG_FIELDS if f"`{name}`" not in policies} == set()


def test_every_error_is_told() -> None:
    """Each class of the tree has a row on the page of errors."""
    page = (ROOT / "docs/errors.md").read_text()
    assert [kind.__name__ for kind in subclasses(errors.HygieneError) if f"`{kind.__name__}`" not in page] == []


def test_the_ledgers_states_are_told() -> None:
    """The page's table of moves is the code's."""
    page = (ROOT / "docs/how-it-works.md").read_text()
    table = page.split("| from | to |\n|---|---|\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    told = {start: {word for word in ends.split(", ") if word} for start, ends in rows}
    assert told == {state: set(ends) for state, ends in MOVES.items()}


def test_the_ledgers_tables_are_told() -> None:
    """Each table of the ledger is named on the page that explains it."""
    page = (ROOT / "docs/how-it-works.md").read_text()
    scripts = "".join(path.read_text() for path in (ROOT / "airflow_dbhygiene/ledger/sql/postgresql").iterdir())
    assert [name for name in re.findall(r"CREATE TABLE dbhygiene\.(\w+)", scripts) if f"`{name}`" not in page] == []


def test_whoever_places_a_hold_by_hand_takes_the_right_lock() -> None:
    """The number on the page is the advisory lock that batches share."""
    assert f"pg_advisory_xact_lock({GATE})" in (ROOT / "docs/holds.md").read_text()


def test_every_dependency_has_a_reason() -> None:
    """Each dependency and each extra of the package is on the page of dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[\[>=<~! ]", each)[0] for each in project["dependencies"]]
    page = (ROOT / "docs/decisions/dependencies.md").read_text()
    assert [name for name in (*names, *project["optional-dependencies"]) if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    """What a page tells to make, the Makefile knows."""
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = {match["target"] or match["line"] for match in TARGET.finditer(page.read_text())}
    assert told - known == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files and headings that exist."""
    for match in LINK.finditer(page.read_text()):
        place, _, anchor = match["target"].partition("#")
        if "://" in place:
            continue
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{match['target']} does not exist"
        assert not anchor or anchor in anchors(target), f"{match['target']} names no heading"


def test_every_page_is_in_the_index() -> None:
    """Whoever opens docs/README.md finds all pages."""
    index = ROOT / "docs/README.md"
    linked = {
        (index.parent / match["target"].partition("#")[0]).resolve() for match in LINK.finditer(index.read_text())
    }
    assert {page for page in ROOT.glob("docs/**/*.md") if page != index} - linked == set()


def test_ci_runs_what_the_readme_says() -> None:
    """`.ci/run` runs the README's test command."""
    assert re.search(r"^make test ", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("exec make test")


def test_the_plot_of_the_controller_is_of_this_controller() -> None:
    """A change of the pace shows in the plot: `python -m docs.render_controller` draws it anew."""
    drawn = script(ROOT / "docs" / "render_controller.py")
    assert drawn.render() == drawn.IMAGE.read_text()
