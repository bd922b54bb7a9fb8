"""Archive and purge real flights before your eyes.

`DB=mariadb` and `DB=mysql` do so there; `KEEP=1` leaves all servers up until Ctrl-C.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from tests.demo.months import flights, in_archive
from tests.demo.outcome import Outcome
from tests.demo.run import CUTOFF, RunFailed, run_dag
from tests.demo.shop import SHOPS
from tests.demo.stage import Stage, set_up
from tests.demo.terminal import Terminal

RESULT = Path(__file__).resolve().parents[2] / "build" / "demo.json"
_STALE = f"time_hour < '{CUTOFF}'"


def main() -> int:
    """Play the demo; 0 only when everything adds up."""
    started = time.monotonic()
    RESULT.unlink(missing_ok=True)
    terminal = Terminal()
    kind = os.environ.get("DB") or next(iter(SHOPS))
    if kind not in SHOPS:
        terminal.say(f"✗ DB={kind} is unknown: take one of {', '.join(SHOPS)}.", style="red")
        return 2
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _interrupted)
    try:
        with set_up(kind, terminal) as stage:
            terminal.say(f"  watch it: {_address(stage)}")
            well = _play(stage, terminal, started)
            kept = os.environ.get("KEEP") == "1"
            terminal.say(f"Airflow: {_address(stage)}" + ("" if kept else " (ends now; KEEP=1 keeps it up)"))
            if kept:
                _keep(stage, terminal)
            # Whoever presses Ctrl-C twice would leave servers behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        terminal.say("stopped.")
        return 130
    return 0 if well else 1


def _play(stage: Stage, terminal: Terminal, started: float) -> bool:
    try:
        outcome = _perform(stage, terminal, started)
    except RunFailed as error:
        terminal.say(f"✗ {error}", style="red")
        return False
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(outcome.as_json(), indent=2) + "\n")
    outcome.show(terminal.console)
    faults = tuple(outcome.faults())
    for fault in faults:
        terminal.say(f"✗ {fault}", style="red")
    if not faults:
        terminal.say("✓ Every row that left the table is in the archive, equal in every value.", style="green")
    return not faults


def _perform(stage: Stage, terminal: Terminal, started: float) -> Outcome:
    shop = stage.shop
    stale, young = shop.months(_STALE), shop.months(f"NOT {_STALE}")
    before = time.monotonic()
    run = run_dag(stage, terminal, flights(stale))
    after = time.monotonic()
    chunks = run.certificate["chunks"]
    terminal.done(f"Airflow ran {stage.dag}: {len(run.tasks)} tasks, {chunks} chunks", after - before)
    with tempfile.TemporaryDirectory(prefix="dbhygiene-demo-") as folder, terminal.step("reading the archive back"):
        objects = _fetch_objects(stage, Path(folder))
        archived, left = in_archive(Path(folder)), shop.months("true")
    finished = time.monotonic()
    terminal.done(f"DuckDB read {len(objects)} objects that S3 gave back", finished - after)
    seconds = {**stage.seconds, "run": after - before, "read_back": finished - after, "total": finished - started}
    return Outcome(shop.table, stale, young, archived, left, objects, run, seconds)


def _fetch_objects(stage: Stage, folder: Path) -> dict[str, int]:
    """Download every Parquet object that the bucket lists, whatever the ledger says; give their sizes."""
    client = stage.s3.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=stage.s3.bucket)
    listed = [entry for page in pages for entry in page.get("Contents", ())]
    found = {entry["Key"]: int(entry["Size"]) for entry in listed if entry["Key"].endswith(".parquet")}
    for key in found:
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(stage.s3.bucket, key, str(target))
    return found


def _keep(stage: Stage, terminal: Terminal) -> None:
    """Tell where everything is, and wait."""
    terminal.say("KEEP=1: everything stays up until you press Ctrl-C.")
    terminal.say(f"  database  {stage.shop.url}")
    terminal.say(f"  archive   s3://{stage.s3.bucket} at {stage.s3.endpoint_url}")
    terminal.say(f"  S3 keys   {stage.s3.access_key} / {stage.s3.secret_key}")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    terminal.say("")


def _address(stage: Stage) -> str:
    airflow = stage.airflow
    return f"{airflow.url}/dags/{stage.dag} as admin, password {airflow.passwords['admin']}"


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
