"""The tables' owner: changes their schema under the traffic, for a few seconds each time, and empties them.

Each change is certain in the end, whatever becomes of the connection and the server: it is tried until the server says
that it is made, or was before. Triggers and children that a change brings keep what they see, for the audit.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import MySQLdb
import psycopg

from tests.faults.traffic.ddl import is_already_so, spelled
from tests.soak.repeating import Repeating
from tests.soak.schema import Change, changes

if TYPE_CHECKING:
    from tests.soak.runs import Record
    from tests.soak.shop import Shop

_REST: Final = (5.0, 25.0)
"""So many seconds pass between two changes of a table."""
_FORCE: Final = (0.1, 4.0)
"""So many seconds a change stays."""

BROKEN: Final = (psycopg.Error, MySQLdb.Error)


@dataclass
class Spell:
    """The time for which a table had another schema."""

    change: str
    ended: float | None = None


class Owner(Repeating):
    """Changes one table, again and again."""

    def __init__(self, shop: Shop, kind: str, seed: str, record: Record) -> None:
        super().__init__(f"owner of {kind}")
        self.spells: list[Spell] = []
        self.names = threading.Lock()
        """Who has it may call table and columns by their names."""
        self._shop = shop
        self.kind = kind
        self._table = f"{shop.namespace}.{kind}"
        self._record = record
        self._random = random.Random(f"{seed}/owner of {kind}")  # noqa: S311 - it is to be repeated
        # A cold table keeps the values of a dropped column: every plan is refused until a person decides about them.
        self._changes = [change for change in changes(shop) if kind != "cold" or change.done != "add"]
        self._truncations = 0
        self._children: dict[int, int] = {}
        self.cascaded: set[int] = set()
        """Rows whose child is gone with them."""
        self._connection: Any = None

    def has_changed_since(self, moment: float) -> bool:
        """Tell whether the table's schema has changed, or is changed, since a moment."""
        return any(spell.ended is None or spell.ended >= moment for spell in self.spells)

    def has_just_changed_back(self) -> bool:
        """Tell whether a change was taken back a moment ago, so that a step may have met it and found it gone."""
        return any(spell.ended and spell.ended > time.monotonic() - 2 for spell in self.spells)

    def turn(self, number: int) -> None:  # noqa: ARG002 - one is like another
        """Wait, change the table, wait, and change it back."""
        self.ended.wait(self._random.uniform(*_REST))
        change = self._random.choice(self._changes)
        spell = Spell(change.name)
        self.spells.append(spell)
        if change.done == "truncate":
            self._truncate()
            self._make("analyze", patient=True)  # PostgreSQL has forgotten how many rows there are: no plan without
        elif change.name in ("column renamed", "table renamed"):
            with self.names:
                self._for_now(change)
        else:
            self._for_now(change)
        spell.ended = time.monotonic()

    def leave(self) -> None:
        """Let go of the connection."""
        self._disconnect()

    def _for_now(self, change: Change) -> None:
        if not self._make(change.done, patient=False, **change.words):
            return
        self._record.schema[change.name] += 1
        if change.done == "child":
            self._bear()
        self.ended.wait(self._random.uniform(*_FORCE))
        if change.done == "child":
            self._look_after()
        self._make(change.undone, patient=True, **change.back)

    def _make(self, change: str, *, patient: bool, **words: str) -> bool:
        """Make a change to its end; one that has to wait for others for too long may be left."""
        for statement in spelled(self._shop.engine, change, self._table, **words):
            while True:
                try:
                    self._execute(statement)
                    break
                except BROKEN as error:
                    if is_already_so(_code(error)):
                        break
                    if not self._waited_in_vain(error):
                        self._reconnect(error)
                    elif not patient:
                        self._record.schema["gave way to others"] += 1
                        return False
        return True

    def _waited_in_vain(self, error: Exception) -> bool:
        return _code(error) in ("55P03", "40P01", 1205, 1213)

    # children, which a cascade would take along

    def _bear(self) -> None:
        """Give children to the oldest rows."""
        self._children = {}
        oldest = f"SELECT id, life FROM {self._table} ORDER BY at LIMIT 40"
        for key, life in self._certainly(oldest):
            with contextlib.suppress(*BROKEN):  # its parent may be gone, or locked; an answer may get lost
                self._execute(f"INSERT INTO {self._table}_child VALUES (%s)", (key,))
                self._children[int(key)] = int(life)

    def _look_after(self) -> None:
        """See which children are gone."""
        there = {int(row[0]) for row in self._certainly(f"SELECT parent FROM {self._table}_child")}
        self.cascaded |= {life for key, life in self._children.items() if key not in there}

    # emptied

    def _truncate(self) -> None:
        """Note which rows there are, and empty the table, before anybody can change it."""
        self._truncations += 1
        try:
            (self._truncate_on_postgres if self._shop.engine == "postgresql" else self._truncate_on_mysql)()
            self._record.schema["truncated"] += 1
        except BROKEN as error:
            if not self._waited_in_vain(error):
                self._reconnect(error)
            self._end_truncation()

    def _truncate_on_postgres(self) -> None:
        self._execute("BEGIN")
        self._execute(f"LOCK TABLE {self._table}")
        self._execute(self._noting)
        self._execute(f"TRUNCATE TABLE {self._table}")
        self._execute("COMMIT")

    def _truncate_on_mysql(self) -> None:
        self._execute(f"LOCK TABLES {self._table} WRITE, truncated WRITE")
        self._execute(self._noting)
        self._execute(f"TRUNCATE TABLE {self._table}")
        self._execute("UNLOCK TABLES")

    @property
    def _noting(self) -> str:
        return f"INSERT INTO truncated SELECT '{self.kind}', {self._truncations}, life FROM {self._table}"

    def _end_truncation(self) -> None:
        """Find out, after an error, whether the table was emptied: notes of rows that are still there are wrong."""
        with contextlib.suppress(*BROKEN):
            self._execute("ROLLBACK" if self._shop.engine == "postgresql" else "UNLOCK TABLES")
        mine = f"kind = '{self.kind}' AND number = {self._truncations}"
        noted = f"SELECT 1 FROM truncated WHERE {mine} AND life IN (SELECT life FROM {self._table}) LIMIT 1"
        if self._certainly(noted):
            self._certainly(f"DELETE FROM truncated WHERE {mine}")
        elif self._certainly(f"SELECT 1 FROM truncated WHERE {mine} LIMIT 1"):
            self._record.schema["truncated"] += 1

    # the connection

    def _certainly(self, statement: str) -> Sequence[tuple[Any, ...]]:
        while True:
            try:
                return self._execute(statement)
            except BROKEN as error:
                if not self._waited_in_vain(error):
                    self._reconnect(error)

    def _execute(self, statement: str, values: tuple[object, ...] | None = None) -> Sequence[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = self._shop.open()
            self._execute(_PATIENCE[self._shop.engine == "postgresql"])
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall()) if cursor.description else []

    def _reconnect(self, error: Exception) -> None:
        """Begin anew where the connection is gone; any other error is the test's own."""
        if not _is_lost(error):
            raise error
        self._disconnect()
        time.sleep(0.2)

    def _disconnect(self) -> None:
        with contextlib.suppress(*BROKEN):
            if self._connection is not None:
                self._connection.close()
        self._connection = None


_PATIENCE: Final = {
    True: "SET lock_timeout = '2s'",
    False: "SET SESSION innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, time_zone = '+00:00'",
}


def _code(error: Exception) -> object:
    return getattr(error, "sqlstate", None) or (error.args[0] if error.args else None)


def _is_lost(error: Exception) -> bool:
    """Tell an error of the connection, or of a server that dies, from one of a statement."""
    state = getattr(error, "sqlstate", None)
    if isinstance(error, psycopg.Error):
        return isinstance(error, psycopg.OperationalError) and (state is None or state[:2] in ("57", "08"))
    return _code(error) in (2002, 2003, 2006, 2013, 2055, 1053, 1927, 0) or isinstance(error, MySQLdb.InterfaceError)
