"""What the package's files promise whoever installs it."""

import ast
import pkgutil
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

import airflow_dbhygiene
import airflow_dbhygiene.policy
from airflow_dbhygiene.ledger.migrations import VERSION

HEAVY = ("pyarrow", "adbc_driver_manager", "adbc_driver_postgresql", "psycopg", "s3fs", "sqlglot", "numpy")
PROCESSED = ("policy", "dag", "operators", "sensors", "triggers", "connections", "provider_info", "errors", "version")
MACHINE = re.compile(r"/(?:work|root|home|Users)/[A-Za-z]|~/|\b(?:localhost|127\.0\.0\.1)\b|[a-z]+\.internal\b")


def modules(*names: str) -> list[str]:
    """Name the package's modules below the given ones, as far as they exist."""
    prefix = airflow_dbhygiene.__name__ + "."
    found = [module.name for module in pkgutil.walk_packages(airflow_dbhygiene.__path__, prefix)]
    return [each for each in found if each.removeprefix(prefix).split(".")[0] in names]


def newly_loaded(by: str, before: str = "") -> set[str]:
    """Name what a fresh Python has loaded after a statement, beyond what another one loads."""
    code = f"import sys\n{before}\nold = set(sys.modules)\n{by}\nprint(*sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split()) if done.stdout.strip() else set()


def test_the_dag_processor_loads_nothing_heavy() -> None:
    """Parsing a DAG file costs no driver, no Arrow and no SQL parser: these load when a step runs."""
    # What Airflow itself loads is not ours to answer for.
    airflow = "import airflow.sdk, airflow.sdk.bases.sensor, airflow.triggers.base"
    ours = ", ".join(["airflow_dbhygiene", *modules(*PROCESSED)])
    assert not newly_loaded(f"import {ours}", airflow) & set(HEAVY)


@pytest.mark.parametrize("engine", ["postgres", "mysql"])
def test_a_task_loads_no_more_than_its_step_needs(engine: str) -> None:
    """Each task is a process of its own: what the drivers could load for other uses costs every one of them."""
    assert not newly_loaded(f"import airflow_dbhygiene.databases.{engine}") & {"pandas", "pyarrow.dataset", "sqlglot"}


@pytest.mark.parametrize(
    "module", ["airflow_dbhygiene.policy", "airflow_dbhygiene.errors", "airflow_dbhygiene.policy.files"]
)
def test_a_policy_needs_no_airflow(module: str) -> None:
    """Policies are written and checked where no Airflow is, and cost nothing to load."""
    assert not newly_loaded(f"import {module}") & {*HEAVY, "airflow", "sqlalchemy"}


def test_the_policy_is_among_them() -> None:
    """The test above would pass on an empty list."""
    assert "airflow_dbhygiene.policy.model" in modules(*PROCESSED)
    assert "pydantic" in newly_loaded("import airflow_dbhygiene.policy")


def test_no_file_names_a_machine() -> None:
    """Paths and addresses of whoever built it have no place in a package."""
    root = Path(str(resources.files("airflow_dbhygiene")))
    files = [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) > 30
    found = {
        str(path.relative_to(root)): match.group()
        for path in files
        if path.suffix in (".py", ".sql", ".yaml", ".md", ".html", ".js", ".css", ".json", ".toml")
        if (match := MACHINE.search(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_the_ledger_scripts_are_packaged() -> None:
    """A wheel without its migrations would fail at the first plan."""
    for engine in ("postgresql", "mysql"):
        folder = resources.files("airflow_dbhygiene.ledger") / "sql" / engine
        assert sorted(path.name[:5] for path in folder.iterdir()) == [f"{n:04}_" for n in range(1, VERSION + 1)]


def test_a_shell_completes_public_names() -> None:
    """They are loaded when they are first used, and known before."""
    assert set(airflow_dbhygiene.__all__) <= set(dir(airflow_dbhygiene))


def test_type_checkers_look_at_the_package() -> None:
    """Without the marker they take every name of it for Any, and find no mistake in a DAG file."""
    assert (resources.files("airflow_dbhygiene") / "py.typed").is_file()


def test_type_checkers_know_which_fields_may_be_left_out() -> None:
    """They see a default only where it has its name: without it each policy would have to give all fields."""
    found = [node for module in _policy_modules() for node in ast.walk(module) if isinstance(node, ast.Call)]
    calls = [call for call in found if isinstance(call.func, ast.Name) and call.func.id == "Field"]
    assert len(calls) > 30
    assert [ast.unparse(call) for call in calls if call.args] == []


def test_signatures_for_type_checkers_name_all_fields() -> None:
    """Parts that take a field by position have a signature of their own, beside the one that pydantic makes."""
    told = {
        part.name: {argument.arg for argument in (*node.args.args[1:], *node.args.kwonlyargs)}
        for module in _policy_modules()
        for part in ast.walk(module)
        if isinstance(part, ast.ClassDef)
        for block in part.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.FunctionDef)
    }
    assert set(told) == {"OlderThan", "Expired", "Matching", "Parquet", "ColdTable"}
    parts = {name: getattr(airflow_dbhygiene.policy, name) for name in told}
    assert told == {name: set(part.model_fields) - {"kind"} for name, part in parts.items()}


def _policy_modules() -> list[ast.Module]:
    folder = Path(str(resources.files("airflow_dbhygiene.policy")))
    return [ast.parse(file.read_text(encoding="utf-8")) for file in folder.glob("*.py")]
