"""Policies as YAML: merged with their defaults by stated rules, and every error names the file."""

import json
from pathlib import Path

import jsonschema
import pytest

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.policy import PolicyEntry, json_schema, load_file, load_folder
from airflow_dbhygiene.policy.files import merge

DEFAULTS = """
conn_id: shop_pg
owner: data-platform
archive: {kind: parquet, url: "s3://aws@cold/{name}/{table}", compression_level: 3}
stale: {kind: older_than, column: created_at, keep: 90 days}
guard: {max_rows: 1000, max_fraction: 0.25}
tags: [hygiene]
dag: {schedule: "@daily", retries: 3}
"""
ORDERS = "name: orders\ntable: public.orders\n"


def load(folder: Path, **files: str) -> dict[str, PolicyEntry]:
    """Write files and load the folder, by the policies' names."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return {entry.policy.name: entry for entry in load_folder(folder)}


def test_defaults_lie_under_every_policy(tmp_path: Path) -> None:
    """A policy says only what is its own; mappings merge key by key, lists and values replace."""
    own = ORDERS + "guard: {max_rows: 5}\ntags: [pii]\ndag: {retries: 1}\nstale: {keep: 7 years}\n"
    entry = load(tmp_path, _defaults=DEFAULTS, orders=own)["orders"]
    policy = entry.policy
    assert (policy.conn_id, policy.owner, policy.tags) == ("shop_pg", "data-platform", ("pii",))
    assert (policy.guard.max_rows, policy.guard.max_fraction) == (5, 0.25)
    assert (policy.stale.kind, policy.stale.column, policy.stale.keep) == ("older_than", "created_at", "7 years")
    assert entry.dag == {"schedule": "@daily", "retries": 1}
    assert entry.file == str(tmp_path / "orders.yaml")


def test_another_kind_replaces_the_default_whole(tmp_path: Path) -> None:
    """Half of an OlderThan makes no Matching."""
    own = ORDERS + "stale: {kind: matching, where: status = 'void'}\n"
    policy = load(tmp_path, _defaults=DEFAULTS, orders=own)["orders"].policy
    assert policy.stale.model_dump() == {"kind": "matching", "where": "status = 'void'"}


def test_the_archive_url_is_filled_in(tmp_path: Path) -> None:
    """One template serves a folder of policies."""
    entries = load(tmp_path, _defaults=DEFAULTS, orders=ORDERS, lines="name: lines\ntable: public.lines\n")
    assert entries["orders"].policy.archive.url == "s3://aws@cold/orders/public.orders"
    assert entries["lines"].policy.archive.url == "s3://aws@cold/lines/public.lines"


@pytest.mark.parametrize(
    ("template", "table", "place"),
    [
        ("cold.{table}", "public.orders", "cold.orders"),
        ("history_pg@cold.{name}", "public.orders", "history_pg@cold.orders"),
        ("cold.{table}", 'public."my ""orders"""', 'cold."my ""orders"""'),
        ("cold.{table}", '"a.b".orders', "cold.orders"),
    ],
)
def test_a_cold_table_is_named_by_a_template(tmp_path: Path, template: str, table: str, place: str) -> None:
    """The cold table has a schema of its own: {table} stands without its own."""
    defaults = DEFAULTS + f"archive: {{kind: cold_table, table: '{template}'}}\n"
    defaults = "\n".join(line for line in defaults.splitlines() if "parquet" not in line)
    policy = load(tmp_path, _defaults=defaults, orders=f"name: orders\ntable: '{table}'\n")["orders"].policy
    assert policy.archive.address == place


def test_a_file_holds_several_policies(tmp_path: Path) -> None:
    """A list is as good as a file each; other files than YAML are left alone."""
    (tmp_path / "README.md").write_text("no policy")
    both = "- {name: a, table: public.a}\n- {name: b, table: public.b}\n"
    assert list(load(tmp_path, _defaults=DEFAULTS, both=both)) == ["a", "b"]


def test_a_folder_without_defaults_will_do(tmp_path: Path) -> None:
    """Defaults are a convenience."""
    full = ORDERS + "conn_id: x\nstale: {kind: expired, column: at}\narchive: {kind: parquet, url: 'file:///a'}\n"
    assert list(load(tmp_path, orders=full)) == ["orders"]


def test_merging_leaves_its_arguments_alone() -> None:
    """The defaults of one policy are not changed by another."""
    under = {"guard": {"max_rows": 1}}
    assert merge(under, {"guard": {"max_fraction": 0.1}}) == {"guard": {"max_rows": 1, "max_fraction": 0.1}}
    assert under == {"guard": {"max_rows": 1}}


BROKEN = [
    ("name: [", "is not YAML"),
    ("just a text", "must be a mapping of fields"),
    ("", "must be a mapping of fields"),
    ("- 7", "must be a mapping of fields"),
    (ORDERS + "owner: ''", "owner: String should have at least 1 character"),
    (ORDERS + "retention: 90 days", "retention: is not a field here"),
    (ORDERS + "stale: {keep: forever}", "keep 'forever' is not a duration"),
    (ORDERS + "true: yes", "True"),
    (ORDERS + "pace: {on: 5}", "True is no name of a field"),
    (ORDERS + "dag: {skedule: '@daily'}", "dag.skedule: is not a setting of the DAG; known are .*schedule"),
    (ORDERS + "dag: daily", "dag: must be a mapping"),
    (ORDERS + "archive: nowhere", "archive"),
    (ORDERS + "name: twice\n", "name: is given twice"),
    (ORDERS + "stale: {keep: 90 days, keep: 9 days}\n", "keep: is given twice"),
]


@pytest.mark.parametrize(("text", "fault"), BROKEN, ids=[fault[:30] for _, fault in BROKEN])
def test_errors_name_the_file(tmp_path: Path, text: str, fault: str) -> None:
    """Among hundreds of files the broken one is named, with its fault."""
    with pytest.raises(PolicyInvalid, match=fault) as refused:
        load(tmp_path, _defaults=DEFAULTS, broken=text)
    assert str(tmp_path / "broken.yaml") in str(refused.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are the file's fault, not the reader's."""
    (tmp_path / "broken.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(PolicyInvalid, match=r"broken\.yaml"):
        load_folder(tmp_path)


def test_defaults_that_are_no_mapping_are_named(tmp_path: Path) -> None:
    """They would lie under every policy."""
    with pytest.raises(PolicyInvalid, match=r"_defaults\.yaml: must be a mapping"):
        load(tmp_path, _defaults="- 1", orders=ORDERS)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A wrong path never means "no policies"."""
    with pytest.raises(PolicyInvalid, match="does not exist or is not a folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(PolicyInvalid, match="nowhere"):
        load_file(tmp_path / "nowhere.yaml")


def test_twins_are_refused_by_both_files(tmp_path: Path) -> None:
    """Names are unique: runs, DAGs and certificates go by them."""
    with pytest.raises(PolicyInvalid, match=r"two\.yaml: name: 'orders' is also a policy of .*one\.yaml"):
        load(tmp_path, _defaults=DEFAULTS, one=ORDERS, two=ORDERS)


@pytest.mark.parametrize("broken", ["name: lines\ntable: lines\n", "name: [", "- 7\n", "nmae: orders\n"])
def test_one_policy_is_had_whatever_is_wrong_with_others(tmp_path: Path, broken: str) -> None:
    """A task of its DAG that starts now need not fail since somebody mistyped another one."""
    with pytest.raises(PolicyInvalid, match="broken"):
        load(tmp_path, _defaults=DEFAULTS, broken=broken, orders=ORDERS)
    (entry,) = load_folder(tmp_path, "orders")
    assert (entry.policy.name, entry.dag["retries"]) == ("orders", 3)
    (tmp_path / "orders.yaml").write_text(ORDERS + "keep: 1\n")
    with pytest.raises(PolicyInvalid, match=r"orders\.yaml: policy 'orders' is not valid:\n  - keep: is"):
        load_folder(tmp_path, "orders")


def test_one_policy_that_is_not_to_be_found_may_be_in_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Then that is told; and of two of a name neither is taken."""
    with pytest.raises(PolicyInvalid, match="is not YAML"):
        load(tmp_path, _defaults=DEFAULTS, broken="name: [")
    with pytest.raises(PolicyInvalid, match="is not YAML"):
        load_folder(tmp_path, "orders")
    for name in ("one", "other"):
        (tmp_path / f"{name}.yaml").write_text(ORDERS)
    with pytest.raises(PolicyInvalid, match="names are unique"):
        load_folder(tmp_path, "orders")


def test_the_json_schema_accepts_what_the_policy_does(tmp_path: Path) -> None:
    """Editors check policy files by it."""
    schema = json.loads(json_schema())
    policy = load(tmp_path, _defaults=DEFAULTS, orders=ORDERS)["orders"].policy
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(policy.json_text))
    wrong = json.loads(policy.json_text) | {"reclaim": "full"}
    assert [error.json_path for error in validator.iter_errors(wrong)] == ["$.reclaim"]
