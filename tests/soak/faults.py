"""What goes wrong, at random: servers die, connections break and stall, holds and pauses come and go."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.errors import Transient
from airflow_dbhygiene.steps.hold import HoldWish, place_hold, release_hold
from airflow_dbhygiene.steps.pause import pause, resume
from tests.servers.proxy import Flow

if TYPE_CHECKING:
    from tests.servers.mysql import MySqlServer
    from tests.servers.postgres import PostgresServer
    from tests.servers.proxy import FaultProxy
    from tests.soak.owner import Owner
    from tests.soak.runs import Record
    from tests.soak.shop import Shop

_RESTARTS: Final = (25.0, 60.0)
"""A server dies after so many seconds at least, and at most."""


class Hold:
    """A hold, and the rows that were under it when it was placed."""

    def __init__(self, shop: Shop, owner: Owner, number: int, remainder: int) -> None:
        self.name = f"case {number}"
        self.kind = kind = owner.kind
        self.owner = owner
        self._shop = shop
        self._where = f"id % 13 = {remainder}"
        wish = HoldWish(f"{shop.namespace}.{kind}", "case 4711", "legal", where=self._where, hold_id=self.name)
        place_hold(shop.site(), wish)
        self.protected = self._lives()
        self.missing: set[int] = set()

    def release(self) -> None:
        """See what is missing, and end the hold."""
        self.missing = self.protected - self._lives()
        release_hold(self._shop.site(), self.name, "legal")

    def _lives(self) -> set[int]:
        return {row[0] for row in self._shop.query(f"SELECT life FROM {self.kind} WHERE {self._where}")}


class Chaos:
    """The faults of one engine. Call ``strike`` from the thread that has started the servers."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that can break
        self,
        shop: Shop,
        server: PostgresServer | MySqlServer,
        way: FaultProxy,
        way_to_store: FaultProxy,
        owners: list[Owner],
        seed: str,
        record: Record,
    ) -> None:
        self.holds: list[Hold] = []
        self._shop = shop
        self._server = server
        self._way = way
        self._way_to_store = way_to_store
        self._owners = owners
        self._record = record
        self._random = random.Random(f"{seed}/chaos")  # noqa: S311 - it is to be repeated
        self._open_holds: list[Hold] = []
        self._heal_at: dict[FaultProxy, float] = {}
        self._paused_until = 0.0
        self._restart_at = time.monotonic() + self._random.uniform(*_RESTARTS)
        self._next_at = 0.0

    def strike(self) -> None:
        """Do whatever is due now."""
        now = time.monotonic()
        self._recover(now)
        if now >= self._restart_at:
            self._restart_at = now + self._random.uniform(*_RESTARTS)
            self._crash()
        if now >= self._next_at:
            self._next_at = now + self._random.uniform(0.3, 1.5)
            name = self._random.choice([*_FAULTS])
            try:
                _FAULTS[name](self)
                self._record.faults[name] += 1
            except Transient as error:  # the fault before this one
                self._record.refusals[f"{name}: {type(error).__name__}"] += 1

    def calm_down(self) -> None:
        """Take back everything, and release all holds."""
        for way in (self._way, self._way_to_store):
            way.heal()
        if self._paused_until:
            resume(self._shop.site(), "all")
            self._paused_until = 0.0
        while self._open_holds:
            self._release()

    def _recover(self, now: float) -> None:
        for way, moment in [*self._heal_at.items()]:
            if now >= moment:
                way.heal()
                del self._heal_at[way]
        if self._paused_until and now >= self._paused_until:
            resume(self._shop.site(), "all")
            self._paused_until = 0.0

    def _crash(self) -> None:
        self._server.kill()
        time.sleep(self._random.random())
        self._server.restart()
        self._record.faults["database server killed"] += 1

    def _reset(self) -> None:
        self._way.reset_all()

    def _cut(self) -> None:
        flow = self._random.choice([*Flow])
        self._way.cut_after(self._random.choice([0, 10, 1_000, 20_000]), flow)

    def _stall(self) -> None:
        self._way.stalled = True
        self._heal_at[self._way] = time.monotonic() + self._random.random() * 2

    def _reset_store(self) -> None:
        self._way_to_store.reset_all()

    def _cut_store(self) -> None:
        self._way_to_store.cut_after(self._random.choice([0, 200, 5_000]), self._random.choice([*Flow]))

    def _stall_store(self) -> None:
        self._way_to_store.stalled = True
        self._heal_at[self._way_to_store] = time.monotonic() + self._random.random() * 2

    def _refuse_store(self) -> None:
        self._way_to_store.refuse = True
        self._way_to_store.reset_all()
        self._heal_at[self._way_to_store] = time.monotonic() + self._random.random() * 2

    def _hold(self) -> None:
        owner, remainder = self._random.choice(self._owners), self._random.randrange(13)
        if len(self._open_holds) > 2 or not owner.names.acquire(blocking=False):
            return
        try:
            self._way.heal()  # placing waits for batches under way, and nobody but this thread would let them go on
            hold = Hold(self._shop, owner, len(self.holds), remainder)
        finally:
            owner.names.release()
        self.holds.append(hold)
        self._open_holds.append(hold)

    def _release(self) -> None:
        if not self._open_holds or not (hold := self._open_holds[0]).owner.names.acquire(blocking=False):
            return
        try:
            hold.release()
        finally:
            hold.owner.names.release()
        self._open_holds.remove(hold)

    def _pause(self) -> None:
        if not self._paused_until:
            pause(self._shop.site(), "all", "month end", "finance")
            self._paused_until = time.monotonic() + self._random.random() * 3


_FAULTS: Final[dict[str, Callable[[Any], None]]] = {
    "connections reset": Chaos._reset,
    "connection cut": Chaos._cut,
    "connections stalled": Chaos._stall,
    "store: connections reset": Chaos._reset_store,
    "store: connection cut": Chaos._cut_store,
    "store: connections stalled": Chaos._stall_store,
    "store: connections refused": Chaos._refuse_store,
    "hold placed": Chaos._hold,
    "hold released": Chaos._release,
    "pause": Chaos._pause,
}
