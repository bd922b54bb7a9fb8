"""Policies as YAML: a folder of files, with ``_defaults.yaml`` under all of them.

A file holds one policy or a list of policies. A mapping in a policy is merged with the same mapping of the
defaults, key by key; any other value replaces the default. ``{name}`` and ``{table}`` in the archive's URL or
cold table are filled in. ``dag`` holds what concerns the DAG and not the rows: schedule, start_date, retries, pool and
the like.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.policy.model import Policy
from airflow_dbhygiene.policy.names import parse_table_name

DEFAULTS = "_defaults.yaml"
DAG_FIELDS = frozenset(
    {"schedule", "start_date", "end_date", "catchup", "retries", "pool", "max_active_tasks", "at_least", "on_below"}
)
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is there


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Refuses a field that is given twice: YAML would take the last one, and nobody would know."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - as yaml has it
        names = [key.value for key, _ in node.value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise PolicyInvalid(f"{twice}: is given twice; keep one.")
        return super().construct_mapping(node, deep=deep)


@dataclass(frozen=True)
class PolicyEntry:
    """A policy, the settings of its DAG, and the file that it came from."""

    policy: Policy
    dag: dict[str, Any] = field(default_factory=dict)
    file: str = ""


def load_folder(folder: str | Path, only: str | None = None) -> tuple[PolicyEntry, ...]:
    """Read every ``*.yaml`` of the folder, in the order of their names.

    :param only: name of a policy: give that alone, whatever is wrong with others, for which no task of it need fail
    :raises PolicyInvalid: naming file, field, value and fix
    """
    root = Path(folder)
    if not root.is_dir():
        raise PolicyInvalid(f"policy folder {str(root)!r} does not exist or is not a folder.")
    defaults_file = root / DEFAULTS
    defaults = _read(defaults_file) if defaults_file.exists() else {}
    if not isinstance(defaults, dict):
        raise PolicyInvalid(f"{defaults_file}: must be a mapping of policy fields.")
    files = sorted(path for path in root.glob("*.y*ml") if path.name != DEFAULTS)
    entries = _named(files, defaults, only) if only else _all(files, defaults)
    _refuse_twins(entries)
    return entries


def load_file(path: Path, defaults: dict[str, Any] | None = None) -> tuple[PolicyEntry, ...]:
    """Read one file of one or several policies.

    :raises PolicyInvalid: naming file, field, value and fix
    """
    return _entries(_documents(path), defaults or {}, path)


def merge(under: dict[str, Any], over: Any) -> dict[str, Any]:
    """Lay one mapping over another: mappings merge key by key, anything else replaces."""
    if not isinstance(over, dict):
        raise PolicyInvalid(f"a policy must be a mapping of fields, not {over!r}.")
    if odd := [key for key in over if not isinstance(key, str)]:
        raise PolicyInvalid(f"{odd[0]!r} is no name of a field: YAML reads on, off, yes, no and numbers as values.")
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(under.get(key), dict)
        same_kind = both and value.get("kind", under[key].get("kind")) == under[key].get("kind")
        merged[key] = merge(under[key] if same_kind else {}, value) if isinstance(value, dict) else value
    return merged


def json_schema() -> str:
    """Give the JSON schema of a policy, for editors and reviews."""
    return json.dumps(Policy.model_json_schema(), indent=2)


def _all(files: list[Path], defaults: dict[str, Any]) -> tuple[PolicyEntry, ...]:
    return tuple(entry for path in files for entry in load_file(path, defaults))


def _named(files: list[Path], defaults: dict[str, Any], name: str) -> tuple[PolicyEntry, ...]:
    """Read the policies of a name, past files that are no YAML, unless it is in none of the others."""
    found: list[PolicyEntry] = []
    unread: list[PolicyInvalid] = []
    for path in files:
        try:
            documents = _documents(path)
        except PolicyInvalid as error:
            unread.append(error)
            continue
        own = [each for each in documents if isinstance(each, dict) and {**defaults, **each}.get("name") == name]
        found.extend(_entries(own, defaults, path))
    if unread and not found:
        raise unread[0]
    return tuple(found)


def _documents(path: Path) -> list[Any]:
    content = _read(path)
    return content if isinstance(content, list) else [content]


def _entries(documents: list[Any], defaults: dict[str, Any], path: Path) -> tuple[PolicyEntry, ...]:
    try:
        return tuple(_entry(merge(defaults, document), str(path)) for document in documents)
    except PolicyInvalid as error:
        raise PolicyInvalid(f"{path}: {error}") from None


def _entry(fields: dict[str, Any], file: str) -> PolicyEntry:
    data = dict(fields)
    dag = data.pop("dag", {}) or {}
    if not isinstance(dag, dict):
        raise PolicyInvalid(f"dag: must be a mapping of the DAG's settings, not {dag!r}.")
    if unknown := sorted(set(dag) - DAG_FIELDS):
        known = ", ".join(sorted(DAG_FIELDS))
        raise PolicyInvalid(f"dag.{unknown[0]}: is not a setting of the DAG; known are {known}.")
    archive = data.get("archive")
    if isinstance(archive, dict):
        data["archive"] = {**archive, **_filled(archive, data)}
    return PolicyEntry(Policy(**data), dag, file)


def _filled(archive: dict[str, Any], data: dict[str, Any]) -> dict[str, str]:
    """Fill ``{name}`` and ``{table}`` in; beside a cold table's own schema the table stands without its own."""
    name, table = str(data.get("name")), str(data.get("table"))
    bare = table.rpartition(".")[2] if '"' not in table else _quoted_table(table)
    given = {field: archive[field] for field in ("url", "table") if isinstance(archive.get(field), str)}
    return {
        field: text.replace("{name}", name).replace("{table}", bare if field == "table" else table)
        for field, text in given.items()
    }


def _quoted_table(table: str) -> str:
    return '"' + parse_table_name(table).table.replace('"', '""') + '"'


def _read(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyInvalid(f"{path}: is not YAML: {error}") from None
    except OSError as error:
        raise PolicyInvalid(f"{path}: cannot be read: {error}") from None
    except PolicyInvalid as error:
        raise PolicyInvalid(f"{path}: {error}") from None


def _refuse_twins(entries: tuple[PolicyEntry, ...]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        name = entry.policy.name
        if name in seen:
            raise PolicyInvalid(f"{entry.file}: name: {name!r} is also a policy of {seen[name]}; names are unique.")
        seen[name] = entry.file
