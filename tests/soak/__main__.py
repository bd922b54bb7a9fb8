"""make soak: live traffic, runs of policies, and faults at random; then calm, and an audit of every row ever inserted.

SEED repeats the choices, though not the instants at which they meet. DB chooses the servers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from typing import Any, Final

from tests.servers.mysql import MariaDbServer, MySqlServer
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import FaultProxy
from tests.servers.s3 import S3Server
from tests.soak.audit import Account, accounts
from tests.soak.faults import Chaos
from tests.soak.owner import Owner
from tests.soak.runs import Began, Lane, Record, unfinished
from tests.soak.shop import KINDS, Bucket, Shop
from tests.soak.traffic import VICTIMS, WRITERS, Writer
from tests.soak.workers import forge

_LANES: Final = {"parquet": 2, "cold": 2, "discard": 1}
"""How many runs of each policy go side by side."""
_MOST_LAST_RUNS: Final = 20
_MOST_TOLD: Final = 30


class Soak:
    """One engine's servers, traffic, runs and faults."""

    def __init__(self, engine: str, s3: S3Server, seed: str, stack: ExitStack) -> None:
        self.engine = engine
        self.record = Record()
        server = stack.enter_context(_SERVERS[engine]())
        way = stack.enter_context(FaultProxy((server.host, server.port)))
        way_to_store = stack.enter_context(FaultProxy(("127.0.0.1", s3.port)))
        address = _address(server)
        keys = (s3.access_key, s3.secret_key, f"{s3.bucket}/{engine}")
        self.shop = Shop(engine, address, Bucket(s3.endpoint_url, *keys))
        rough = Shop(engine, {**address, "port": way.port}, Bucket(f"http://127.0.0.1:{way_to_store.port}", *keys))
        self.shop.lay_out()
        numbers = iter(range(1, 1_000))
        self.writers = {
            kind: [Writer(self.shop, kind, next(numbers), f"{seed}/{engine}") for _ in range(WRITERS)] for kind in KINDS
        }
        self.owners = [Owner(self.shop, kind, f"{seed}/{engine}", self.record) for kind in KINDS]
        context = forge()
        self.lanes = [
            Lane(context, rough, owner, number, f"{seed}/{engine}", self.record)
            for owner in self.owners
            for number in range(_LANES[owner.kind])
        ]
        self.chaos = Chaos(self.shop, server, way, way_to_store, self.owners, f"{seed}/{engine}", self.record)
        self.verdict, self.faults = "", 0

    def begin(self) -> None:
        """Start the traffic, and runs once there is something to take."""
        for writer in self._all_writers():
            writer.start()
        time.sleep(2)
        for kind in KINDS:
            self.shop.analyze(kind)
        for each in (*self.lanes, *self.owners):
            each.start()

    def analyze(self) -> None:
        """Let the server know how large the tables are."""
        with contextlib.suppress(Exception):  # it may be dying
            for kind in KINDS:
                self.shop.analyze(kind)

    def come_to_rest(self) -> None:
        """End traffic and faults."""
        self.chaos.calm_down()
        for lane in self.lanes:
            lane.rough = False
        threads = (*self._all_writers(), *self.lanes, *self.owners)
        for each in threads:
            each.stop()
        for each in threads:
            each.join(120)
            if each.is_alive() or each.error:
                self.record.wrong.append(f"{each.name} {f'ended by {each.error!r}' if each.error else 'does not end'}")
        time.sleep(1)  # twins end

    def finish(self) -> None:
        """Finish every run that was ever planned, and take what is left."""
        self.analyze()
        lanes = {lane.kind: lane for lane in self.lanes}.values()
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._finish_all, lanes, repeat(unfinished(self.shop))))
        print(f"{self.engine}: all runs are at their end: {self.told_steps()}", flush=True)

    def _finish_all(self, lane: Lane, runs: Iterable[Began]) -> None:
        """Finish a table's own runs one by one; then run until nothing is stale: what stopped earlier runs is over."""
        for began in runs:
            if began.kind == lane.kind:
                self._finish(lane, began)
        for number in range(_MOST_LAST_RUNS):
            if not (began := lane.plan(f"the last, {number}")):
                return
            self._finish(lane, began)
        self.record.wrong.append(f"{lane.kind} has stale rows left after {_MOST_LAST_RUNS} runs")

    def _finish(self, lane: Lane, began: Began) -> None:
        if fault := lane.finish(began):
            self.record.wrong.append(fault)

    def audit(self) -> list[Account]:
        """Account for every row."""
        return list(accounts(self.shop, self.writers, self.owners, self.chaos.holds))

    def told_steps(self) -> str:
        """Tell how many steps have succeeded, and how many seconds each took on average."""
        seconds = self.record.seconds
        told = (f"{step} {count} of {seconds[step] / count:.1f} s" for step, count in self.record.steps.items())
        return f"{self.engine}: {', '.join(told)}"

    def _all_writers(self) -> list[Writer]:
        return [writer for writers in self.writers.values() for writer in writers]

    def summary(self, found: list[Account]) -> Iterator[str]:
        """Write what happened for a person; what became of the rows comes first, and is never cut short."""
        lost = [f"{account.kind}: {fault}" for account in found for fault in account.faults]
        rows = f"{len(lost)} FAULTS OF ROWS, LEDGER OR ARCHIVE" if lost else "every row is accounted for"
        steps = f"{len(self.record.wrong)} FAULTS OF STEPS" if self.record.wrong else "every step ended as it should"
        self.verdict, self.faults = f"{self.engine}: {rows}; {steps}", len(lost) + len(self.record.wrong)
        yield f"\n{self.verdict}"
        for account in found:
            counts = ", ".join(f"{name} {count:,}" for name, count in account.counts.items())
            yield f"  {account.kind}: {counts}"
        traffic = sum((writer.counts for writer in self._all_writers()), start=type(self.record.faults)())
        victims = {name: traffic.pop(name, 0) for name in VICTIMS}
        yield "  the application was " + ", ".join(f"{name} {count} times" for name, count in victims.items())
        for title, counter in (
            ("traffic", traffic),
            ("steps", self.record.steps),
            ("faults", self.record.faults),
            ("schema", self.record.schema),
            ("refusals", self.record.refusals),
        ):
            yield f"  {title}: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items()))
        for title, faults in (("rows", lost), ("steps", self.record.wrong)):
            yield from (f"  WRONG: {fault}" for fault in faults[:_MOST_TOLD])
            if len(faults) > _MOST_TOLD:
                yield f"  and {len(faults) - _MOST_TOLD} more faults of {title}"


_SERVERS: Final[dict[str, Any]] = {
    "postgresql": lambda: PostgresServer.start("16"),
    "mariadb": MariaDbServer.start,
    "mysql": MySqlServer.start,
}


def _address(server: Any) -> dict[str, Any]:
    if isinstance(server, PostgresServer):
        return {
            "host": server.host,
            "port": server.port,
            "user": server.user,
            "password": server.password,
            "dbname": "postgres",
        }
    address: dict[str, Any] = server.create_database("hot")
    return address


def main() -> int:
    """Soak for MINUTES; give the exit code."""
    minutes, seed = float(os.environ.get("MINUTES") or 30), os.environ.get("SEED") or secrets.token_hex(4)
    engines = (os.environ.get("DB") or "postgresql,mariadb").replace(" ", "").split(",")
    print(f"soak: MINUTES={minutes:g} SEED={seed} DB={','.join(engines)}", flush=True)
    logging.disable()  # the proxies tell of each connection that they break
    with ExitStack() as stack:
        s3 = stack.enter_context(S3Server.start())
        soaks = [Soak(engine, s3, seed, stack) for engine in engines]
        for soak in soaks:
            soak.begin()
        _rage(soaks, time.monotonic() + minutes * 60)
        print("coming to rest", flush=True)
        for soak in soaks:
            soak.come_to_rest()
        rested = time.monotonic()
        with ThreadPoolExecutor() as pool:
            list(pool.map(Soak.finish, soaks))
            finished = time.monotonic()
            found = list(pool.map(Soak.audit, soaks))
        print(f"finishing took {finished - rested:.0f} s, the audit {time.monotonic() - finished:.0f} s")
        for soak, told in zip(soaks, found, strict=True):
            print("\n".join(soak.summary(told)), flush=True)
        faults = sum(soak.faults for soak in soaks)
    print("", *(soak.verdict for soak in soaks), sep="\n")
    print(f"{'FAILED' if faults else 'nothing is lost'}: MINUTES={minutes:g} SEED={seed} DB={','.join(engines)}")
    return 1 if faults else 0


def _rage(soaks: list[Soak], end: float) -> None:
    """Let faults strike until the time is over, and tell every minute that it is not stuck."""
    told = analyzed = time.monotonic()
    while (now := time.monotonic()) < end:
        for soak in soaks:
            soak.chaos.strike()
            if now - analyzed > 5:
                soak.analyze()
        analyzed = now if now - analyzed > 5 else analyzed
        if now - told >= 60:
            told = now
            print(f"{(end - now) / 60:.1f} minutes left; {', '.join(soak.told_steps() for soak in soaks)}", flush=True)
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
