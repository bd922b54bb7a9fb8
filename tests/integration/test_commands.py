"""`airflow dbhygiene …`: what a person sees at the command line, and the exit code that a script sees."""

from __future__ import annotations

import getpass
import io
import json
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_dbhygiene.connections import open_archive
from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.policy import ColdTable, Parquet
from airflow_dbhygiene.steps.archive import archive
from tests.job import STALE_EVENTS, Job
from tests.mysql_job import EVENTS as MYSQL_EVENTS
from tests.mysql_job import MySqlJob

AIRFLOW = Path(sys.executable).with_name("airflow")

pytestmark = pytest.mark.rights("all", "Airflow's connection is the administrator's here")


@pytest.fixture
def airflow(job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Give a function that runs a command on the job's database, in this process, and gives what it printed."""
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_PG", job.dsn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from airflow.cli.cli_parser import get_parser  # noqa: PLC0415

        parser = get_parser()

    return Commands(parser, capsys)


@dataclass(frozen=True)
class Commands:
    """Runs commands on the job's database."""

    parser: Any
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *command: str) -> str:
        """Run one, and give what it printed."""
        parsed = self.parser.parse_args(["dbhygiene", *command, "--conn-id", "shop_pg"])
        self.printed()
        parsed.func(parsed)
        return self.printed()

    def printed(self) -> str:
        """Give what was printed since the last time."""
        return self.capsys.readouterr().out


def rows_of(output: str) -> list[dict[str, str]]:
    """Read what ``--output json`` printed."""
    rows: list[dict[str, str]] = json.loads(output)
    return rows


def test_a_hold_from_the_command_line(job: Job, airflow: Commands, tmp_path: Path) -> None:
    """Placed, listed as a table and as JSON, obeyed, released, listed no more."""
    (tmp_path / "keys").write_text("17\n18\n")
    keys = ("--key", "16", "--keys-from", str(tmp_path / "keys"))
    place = ("hold", "place", "--table", "public.events", "--reason", "case 7", "--id", "case-7", *keys)
    (placed,) = rows_of(airflow(*place, "--until", "2100-01-01", "--output", "json"))
    assert (placed["hold_id"], placed["rows_now"], placed["placed_by"]) == ("case-7", "3", getpass.getuser())
    job.run(job.policy())
    assert job.execute("SELECT id FROM events WHERE id < 3000 ORDER BY id") == [(16,), (17,), (18,)]
    table = airflow("hold", "list")
    assert ("case-7" in table, "case 7" in table, "2100-01-01 00:00:00+00:00" in table) == (True, True, True)
    (released,) = rows_of(airflow("hold", "release", "case-7", "--by", "judge", "-o", "json"))
    assert (released["released_by"], released["binding"]) == ("judge", "False")
    assert rows_of(airflow("hold", "list", "-o", "json")) == []
    assert len(rows_of(airflow("hold", "list", "--released", "-o", "json"))) == 1


@pytest.mark.parametrize("output", ["table", "plain", "json", "yaml"])
def test_brackets_are_told_as_they_are(airflow: Commands, output: str) -> None:
    """A table's maker takes them for its own: it left out the half of a condition, or failed after the hold stood."""
    where = "note ~ '^[a-z]+[/x]'"
    place = ("--table", "public.events", "--where", where, "--reason", "[/case] 7", "--id", "brackets")
    for told in (airflow("hold", "place", *place, "-o", output), airflow("hold", "list", "-o", output)):
        assert "[a-z]+[/x]" in told
        assert "[/case] 7" in told


def test_keys_from_the_standard_input(airflow: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list from another program."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n2\n"))
    place = ("hold", "place", "--table", "public.events", "--reason", "case 7", "--keys-from", "-", "-o", "json")
    assert rows_of(airflow(*place))[0]["rows_now"] == "2"


def test_pauses_and_runs_from_the_command_line(job: Job, airflow: Commands) -> None:
    """A pause is placed, listed and lifted; a run is told in one line."""
    certificate = job.run(job.policy())
    airflow("pause", "table:public.events", "--reason", "month end", "--by", "finance")
    (pause,) = rows_of(airflow("pauses", "-o", "json"))
    assert (pause["scope"], pause["reason"], pause["placed_by"]) == ("table:public.events", "month end", "finance")
    assert "goes on" in airflow("resume", "table:public.events")
    assert "No data found" in airflow("pauses")
    (run,) = rows_of(airflow("runs", "--policy", "events", "-o", "json"))
    told = (run["run_id"], run["state"], run["chunks"], run["chunks_purged"], run["rows_purged"])
    assert told == (certificate["run"], "done", "3", "3", str(STALE_EVENTS))
    assert rows_of(airflow("runs", "--policy", "other", "-o", "json")) == []


def test_a_run_is_given_up_from_the_command_line(job: Job, airflow: Commands) -> None:
    """It says what is left; twice it says the same. A run that is not there is told in a line."""
    tickets = job.start(job.policy())
    archive(job.site, tickets[0].run, tickets[0].chunk)
    give_up = ("abandon", tickets[0].run, "--reason", "the bucket moves", "--by", "ops", "-o", "json")
    (told,) = rows_of(airflow(*give_up))
    assert (told["run"], told["state"], told["reason"]) == (tickets[0].run, "abandoned", "the bucket moves")
    assert (told["abandoned_by"], told["rows_left"], told["objects_discarded"]) == ("ops", "0", "1")
    assert rows_of(airflow(*give_up)) == [told]
    (run,) = rows_of(airflow("runs", "-o", "json"))
    assert run["state"] == "abandoned"
    with pytest.raises(SystemExit, match=r"^NotFound: run typo is not in this database's ledger"):
        airflow("abandon", "typo", "--reason", "the bucket moves")


def test_a_run_is_restored_from_the_command_line(job: Job, airflow: Commands) -> None:
    """Counted first, and nothing changed; put back when asked to, under a hold that says who; twice changes nothing."""
    run = job.run(job.policy(archive=Parquet(f"file://{job.folder}")))["run"]
    chosen = ("restore", run, "--where", "id < 10", "--by", "ann", "-o", "json")
    assert rows_of(airflow(*chosen)) == [{"run": run, "dry_run": "True", "restored": "10", "existing": "0"}]
    assert job.one("SELECT count(*) FROM events WHERE id < 3000") == 0
    assert rows_of(airflow("hold", "list", "-o", "json")) == []

    assert rows_of(airflow(*chosen, "--execute"))[0]["restored"] == "10"
    assert job.one("SELECT count(*) FROM events WHERE id < 3000") == 10
    assert rows_of(airflow("hold", "list", "-o", "json"))[0]["hold_id"].startswith("restored ann-")
    (again,) = rows_of(airflow(*chosen, "--chunks", "1", "--execute"))
    assert (again["dry_run"], again["restored"], again["existing"]) == ("False", "0", "10")
    with pytest.raises(SystemExit, match=r"^PolicyInvalid: chunks 'one' is neither a number nor a range"):
        airflow("restore", run, "--chunks", "one")
    with pytest.raises(SystemExit, match=r"^NotFound: run typo is not in this database's ledger"):
        airflow("restore", "typo", "--execute")
    for empty in ("--where", "--into", "--chunks"):  # a script's variable that nobody has set
        with pytest.raises(SystemExit, match=r"^PolicyInvalid: "):
            airflow("restore", run, empty, "", "--execute")


def test_a_run_comes_back_on_mariadb_and_mysql(
    mysql_database: dict[str, Any], tmp_path: Path, airflow: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command, by a connection of the other kind."""
    job = MySqlJob(folder=tmp_path, parameters=mysql_database)
    for statement in MYSQL_EVENTS:
        job.execute(statement)
    names = {"user": "login", "database": "schema", "host": "host", "port": "port", "password": "password"}
    fields = {theirs: mysql_database[ours] for ours, theirs in names.items()}
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_PG", json.dumps({"conn_type": "mysql", **fields}))
    run = job.run(job.policy(archive=Parquet(f"file://{tmp_path}")))["run"]
    for execute, left in ((), 0), (("--execute",), STALE_EVENTS):
        (told,) = rows_of(airflow("restore", run, *execute, "-o", "json"))
        assert told["restored"] == str(STALE_EVENTS)
        assert job.one("SELECT count(*) FROM events WHERE id < 3000") == left


def test_what_is_wrong_is_told_in_a_line(airflow: Commands) -> None:
    """No traceback: the error's name and its sentence, and an exit code that is not zero."""
    with pytest.raises(SystemExit, match=r"^NotFound: hold 'nothing' is not in this database's ledger"):
        airflow("hold", "release", "nothing")
    with pytest.raises(SystemExit, match=r"^CutoffRefused: until 'soon' is not a moment"):
        airflow("hold", "place", "--table", "public.events", "--reason", "x", "--key", "1", "--until", "soon")
    with pytest.raises(SystemExit, match=r"^PolicyInvalid: --keys-from '/nowhere' cannot be read: .* No such file"):
        airflow("hold", "place", "--table", "public.events", "--reason", "x", "--keys-from", "/nowhere")


def test_a_store_of_an_unknown_scheme_is_refused() -> None:
    """It is the policy that is wrong: no retry helps."""
    with pytest.raises(PolicyInvalid, match=r"archive.url 's4://cold/x': .*s4.* Write 's3://…' or 'file:///…'"):
        open_archive("s4://cold/x")


def test_airflow_itself_knows_the_commands(tmp_path: Path) -> None:
    """As a process: the help is there, an unknown connection exits with 1."""
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    help_ = subprocess.run([AIRFLOW, "dbhygiene", "--help"], env=env, capture_output=True, text=True, check=True)
    assert all(name in help_.stdout for name in ("hold", "pause", "resume", "runs", "abandon"))
    unknown = subprocess.run(
        [AIRFLOW, "dbhygiene", "runs", "--conn-id", "nowhere"], env=env, capture_output=True, text=True, check=False
    )
    assert (unknown.returncode, "'nowhere': Airflow knows no such connection" in unknown.stderr) == (1, True)


def test_an_archive_is_verified_from_the_command_line(job: Job, airflow: Commands) -> None:
    """A sound archive exits with 0; a damaged one prints every fault and exits with 1, by the ledger or the store."""
    policy = job.policy(archive=Parquet(f"file://{job.folder}"))
    certificate = job.run(policy)
    for what in (("--policy", "events"), ("--run", certificate["run"]), ("--url", policy.archive.url)):
        assert airflow("verify-archive", *what) == ""
    for chunk in (0, 2):
        (job.folder / certificate["chunk_list"][chunk]["objects"][0]["name"]).unlink()
    for what in (("--policy", "events"), ("--url", policy.archive.url)):
        with pytest.raises(SystemExit) as exit_:
            airflow("verify-archive", *what, "-o", "json")
        assert exit_.value.code == 1
        faults = rows_of(airflow.printed())
        assert ["is missing" in fault["fault"] for fault in faults] == [True, True]
    with pytest.raises(SystemExit, match=r"^PolicyInvalid: say what to verify"):
        airflow("verify-archive")


def test_a_cold_table_is_verified_by_its_address(job: Job, airflow: Commands) -> None:
    """With the connection in the address or beside it; without one the error says what is missing."""
    job.execute("CREATE SCHEMA cold")
    certificate = job.run(job.policy(archive=ColdTable("cold.events")))
    digest = ("--sha256", certificate["certificate_sha256"])
    for address in ("shop_pg@cold.events", "cold.events"):
        assert airflow("verify-archive", "--url", address, *digest) == ""
    job.execute("DELETE FROM cold.events WHERE id = 1")
    with pytest.raises(SystemExit):
        airflow("verify-archive", "--url", "shop_pg@cold.events", "-o", "json")
    assert len(rows_of(airflow.printed())) == 1
    with pytest.raises(PolicyInvalid, match=r"name its connection: connection@cold\.events"):
        open_archive("cold.events")
