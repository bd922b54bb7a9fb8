"""Runs of the policies, one after another and side by side, each step in a worker of its own, retried as by Airflow."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pendulum

from tests.soak.workers import Ending, Order, run

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from tests.soak.shop import Shop

_TRIES: Final = 4
_KILLED: Final = 0.2
_TWINS: Final = 0.08


@dataclass
class Record:
    """What was met: shared by all threads of an engine."""

    faults: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What must never happen, by whatever fault."""

    def note(self, order: Order, ending: Ending) -> None:
        """Count how a worker ended."""
        if ending.succeeded:
            self.steps[order.step] += 1
        elif ending.killed:
            self.faults["worker killed" if not ending.told else "worker killed that hung"] += 1
            if ending.told:
                print(ending.told, flush=True)
        elif ending.ours:
            self.refusals[f"{order.step}: {ending.error}"] += 1
            if ending.terminal:
                print(f"{order}: {ending.error}: {ending.told}", flush=True)
        else:
            self.wrong.append(f"{order}: {ending.told}")


@dataclass
class Began:
    """A run that was planned, and is to be finished."""

    kind: str
    run: str
    chunks: tuple[int, ...]


class Lane(threading.Thread):
    """Starts a run of a policy, sees it through or gives it up, and starts the next.

    :param name: begins with the policy's
    """

    def __init__(self, context: ForkServerContext, shop: Shop, name: str, seed: str, record: Record) -> None:
        super().__init__(name=name, daemon=True)
        self.kind = name.partition(" ")[0]
        self.rough = True
        """Whether workers are killed."""
        self._context = context
        self._shop = shop
        self._record = record
        self._random = random.Random(f"{seed}/{name}")  # noqa: S311 - it is to be repeated
        self._ended = threading.Event()

    def stop(self) -> None:
        """Let it end with the step under way."""
        self._ended.set()

    def run(self) -> None:
        """Begin run after run until told to stop."""
        number = 0
        while not self._ended.is_set():
            number += 1
            if began := self.plan(f"{self.name}, run {number}"):
                self._go_through(began)
            time.sleep(self._random.random())

    def finish(self, began: Began) -> str | None:
        """Finish a run in peace; give what keeps it from its end, None when it is done."""
        for chunk in began.chunks:
            for step in ("archive", "verify", "purge"):
                ending = self._tried(Order(step, began.run, chunk), tries=8)
                if not ending.succeeded:
                    return f"{step} {chunk} of {began.run}: {ending.error} {ending.told}"
        ending = self._closed(began, tries=8)
        return None if ending.answer == "done" else f"report of {began.run}: {ending}"

    def plan(self, origin: str) -> Began | None:
        """Plan a run; None when there is nothing stale, or when it does not succeed."""
        policy = self._shop.policy(self.kind)
        as_of = pendulum.now("UTC").subtract(seconds=5).start_of("second")
        ending = self._tried(Order("plan", policy_json=policy.json_text, as_of=as_of, origin=origin))
        if not ending.succeeded or not ending.answer:
            return None
        return Began(self.kind, ending.answer[0][0], tuple(chunk for _, chunk in ending.answer))

    def _go_through(self, began: Began) -> None:
        for chunk in began.chunks:
            for step in ("archive", "verify", "purge"):
                if self._ended.is_set() or not self._tried(Order(step, began.run, chunk)).succeeded:
                    break
        self._closed(began)

    def _closed(self, began: Began, tries: int = _TRIES) -> Ending:
        self._tried(Order("reclaim", began.run), tries=tries)
        return self._tried(Order("report", began.run), tries=tries)

    def _tried(self, order: Order, tries: int = _TRIES) -> Ending:
        """Do a step, and again while a retry may help."""
        for attempt in range(1, tries + 1):
            if self.rough and self._random.random() < _TWINS:
                threading.Thread(target=self._once, args=(order,), daemon=True).start()
                self._record.faults["the same task twice at once"] += 1
            ending = self._once(order)
            if ending.succeeded or ending.terminal or not ending.ours or attempt == tries:
                return ending
            time.sleep(0.3 * attempt)
        raise AssertionError("not reached")

    def _once(self, order: Order) -> Ending:
        kill_after = self._random.random() * 0.8 if self.rough and self._random.random() < _KILLED else None
        ending = run(self._context, self._shop, order, kill_after)
        self._record.note(order, ending)
        return ending


def unfinished(shop: Shop) -> list[Began]:
    """Give every run that is not done, with its chunks that are not purged.

    The ledger knows also those of workers that were killed before they could tell.
    """
    chunks = shop.query(
        "SELECT policy, run_id, chunk, c.state FROM dbhygiene.run r JOIN dbhygiene.chunk c USING (run_id)"
        " WHERE r.state <> 'done' ORDER BY planned_at, chunk"
    )
    runs: dict[str, Began] = {}
    for kind, run_id, chunk, state in chunks:
        began = runs.setdefault(run_id, Began(kind, run_id, ()))
        began.chunks = (*began.chunks, *([chunk] if state != "purged" else []))
    return list(runs.values())
