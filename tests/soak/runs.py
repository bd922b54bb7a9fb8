"""Runs of the policies, one after another and side by side, each step in a worker of its own, retried as by Airflow."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pendulum

from tests.soak.repeating import Repeating
from tests.soak.workers import Ending, Order, done_here, run

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from tests.soak.owner import Owner
    from tests.soak.shop import Shop

_TRIES: Final = 4
_KILLED: Final = 0.2
_TWINS: Final = 0.08
_FEW: Final = 5
"""So many errors of a kind are told in full."""
_OF_ANOTHER_SCHEMA: Final = frozenset(("SchemaChanged", "PlanRefused", "NotFound", "RowsReferenced"))
"""What a step may say when the table is not, or was not for a while, as it was planned."""


@dataclass
class Record:
    """What was met: shared by all threads of an engine."""

    faults: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    """Of steps that succeeded, all together."""
    schema: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What must never happen, by whatever fault."""

    def note(self, order: Order, ending: Ending, seconds: float, *, excused: bool) -> None:
        """Count how a worker ended; ``excused`` is one that was stopped by a change of the schema."""
        if ending.succeeded:
            self.steps[order.step] += 1
            self.seconds[order.step] += seconds
        elif ending.killed:
            self.faults["worker killed" if not ending.told else "worker killed that hung"] += 1
            if ending.told:
                print(ending.told, flush=True)
        elif ending.ours:
            name = f"{order.step}: {ending.error}"
            self.refusals[name] += 1
            if ending.terminal and not excused:
                self.wrong.append(f"{order}: {ending.error} without a reason: {ending.told}")
            if ending.terminal and self.refusals[name] <= _FEW:
                print(f"{order}: {ending.error}: {ending.told}", flush=True)
        else:
            self.wrong.append(f"{order}: {ending.told}")


@dataclass
class Began:
    """A run that was planned, and is to be finished."""

    kind: str
    run: str
    chunks: tuple[int, ...]
    since: float = 0.0
    """The moment before it was planned, if that is known."""


class Lane(Repeating):
    """Starts a run of a policy, sees it through or gives it up, and starts the next.

    :param owner: of the table
    :param number: counts the table's lanes
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all that a run meets
        self, context: ForkServerContext, shop: Shop, owner: Owner, number: int, seed: str, record: Record
    ) -> None:
        self.kind = owner.kind
        super().__init__(f"{self.kind} {number}")
        self.rough = True
        """Whether steps have workers, which are killed."""
        self._context = context
        self._shop = shop
        self._owner = owner
        self._record = record
        self._random = random.Random(f"{seed}/{self.name}")  # noqa: S311 - it is to be repeated

    def turn(self, number: int) -> None:
        """See a run through, or give it up."""
        if began := self.plan(f"{self.name}, run {number}"):
            self._go_through(began)
        time.sleep(self._random.random())

    def finish(self, began: Began) -> str | None:
        """Finish a run in peace; give what keeps it from its end, None when it is done or the schema has changed."""
        wanted = "done"
        for order in _orders(began):
            ending = self._tried(order, began.since, tries=8)
            if not ending.succeeded and not self._excused(ending, began.since):
                return f"{order}: {ending.error} {ending.told}"
            if not ending.succeeded:
                wanted = "failed"  # for good: nobody changes the schema any more
                break
        ending = self._closed(began, tries=8)
        return None if ending.answer == wanted else f"report of {began.run}, which should be {wanted}: {ending}"

    def plan(self, origin: str) -> Began | None:
        """Plan a run; None when there is nothing stale, or when it does not succeed."""
        policy, since = self._shop.policy(self.kind), time.monotonic()
        as_of = pendulum.now("UTC").subtract(seconds=5).start_of("second")
        ending = self._tried(Order("plan", policy_json=policy.json_text, as_of=as_of, origin=origin), since)
        if not ending.succeeded or not ending.answer:
            return None
        return Began(self.kind, ending.answer[0][0], tuple(chunk for _, chunk in ending.answer), since)

    def _go_through(self, began: Began) -> None:
        failed: set[int] = set()
        for order in _orders(began):
            if self.ended.is_set():
                break
            if order.chunk in failed:
                continue
            ending = self._tried(order, began.since)
            if self._excused(ending, began.since):
                break
            if not ending.succeeded:
                failed.add(order.chunk)
        self._closed(began)

    def _closed(self, began: Began, tries: int = _TRIES) -> Ending:
        self._tried(Order("reclaim", began.run), began.since, tries)
        return self._tried(Order("report", began.run), began.since, tries)

    def _tried(self, order: Order, since: float, tries: int = _TRIES) -> Ending:
        """Do a step, and again while a retry may help.

        :param since: the moment before the run was planned
        """
        for attempt in range(1, tries + 1):
            if self.rough and self._random.random() < _TWINS:
                threading.Thread(target=self._once, args=(order, since), daemon=True).start()
                self._record.faults["the same task twice at once"] += 1
            ending = self._once(order, since)
            if ending.succeeded or ending.terminal or not ending.ours or attempt == tries:
                return ending
            time.sleep(0.3 * attempt)
        raise AssertionError("not reached")

    def _once(self, order: Order, since: float) -> Ending:
        kill_after = self._random.random() * 0.8 if self.rough and self._random.random() < _KILLED else None
        began = time.monotonic()
        ending = run(self._context, self._shop, order, kill_after) if self.rough else done_here(self._shop, order)
        self._record.note(order, ending, time.monotonic() - began, excused=self._excused(ending, since))
        return ending

    def _excused(self, ending: Ending, since: float) -> bool:
        """Tell whether an error is one of those that a change of the schema since the plan brings about."""
        if ending.error == "StatementFailed":
            return self._owner.has_just_changed_back()
        return ending.error in _OF_ANOTHER_SCHEMA and self._owner.has_changed_since(since)


def _orders(began: Began) -> Iterator[Order]:
    """Give the steps of each chunk in turn."""
    for chunk in began.chunks:
        for step in ("archive", "verify", "purge"):
            yield Order(step, began.run, chunk)


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
