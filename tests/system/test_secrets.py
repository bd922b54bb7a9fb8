"""Passwords stay where they belong. It comes last, and looks at what all other system tests have left behind."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.secret_forms import forms_of
from tests.system.lab import PASSWORD, Lab

DAG = "hygiene_secretive"
# Settings, which must hold secrets; and the code of the DAG files.
NOT_SEARCHED = {"airflow.cfg", "passwords.json"}


@pytest.fixture(scope="module")
def run(lab: Lab) -> str:
    """Return the id of a finished run, so that there is something to search when this file runs alone."""
    lab.create_events("secretive", stale=2_500)
    lab.install_scenario("secretive.py")
    run_id = lab.start(DAG)
    assert lab.finish(DAG, run_id).state == "success"
    return run_id


def test_no_secret_is_in_what_runs_leave_behind(lab: Lab, run: str) -> None:
    """Logs, the metadata database (XCom, rendered fields, events), certificates and archives: no secret in any form."""
    searched = dict(_left_behind(lab))
    assert _holders(searched, run.encode()), "nothing of the run was searched"
    assert "metadata" in _holders(searched, b"secretive-")
    assert any(name.endswith("certificate.json") for name in searched)
    for secret in (PASSWORD, lab.s3.secret_key):
        for form in forms_of(secret):
            assert not _holders(searched, form)


def _holders(searched: dict[str, bytes], needle: bytes) -> list[str]:
    return [name for name, content in searched.items() if needle in content]


def _left_behind(lab: Lab) -> Iterator[tuple[str, bytes]]:
    for folder in (lab.airflow.home, lab.notes_folder):
        for path in folder.rglob("*"):
            if path.is_file() and path.name not in NOT_SEARCHED:
                yield str(path), path.read_bytes()
    pages = lab.bucket.get_paginator("list_objects_v2").paginate(Bucket="cold")
    for key in (entry["Key"] for page in pages for entry in page.get("Contents", [])):
        yield key, lab.body(key)
    for name, database in (("metadata", "airflow"), ("ledger", "lab")):
        command = [lab.postgres.programs / "pg_dump", "--inserts", lab.postgres.dsn(database)]
        yield name, subprocess.run(command, capture_output=True, check=True).stdout
