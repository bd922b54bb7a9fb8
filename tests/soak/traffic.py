"""The application: threads that write to a table all the time, each to rows of its own, and know what became of them.

Each transaction leaves an entry in a journal, so that it is certain whether a COMMIT whose answer got lost was one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import MySQLdb
import psycopg

from tests.soak.lives import Changes, Life
from tests.soak.repeating import Repeating
from tests.soak.shop import COLUMNS, PLACES, Shop

_TABLES_APART: Final = 1_000_000_000
WRITERS: Final = 2
"""On one table; their keys alternate, so that those of rows that lie together are close to each other."""
_MOST_ROWS: Final = 4_000
"""With so many rows of its own in the table, a writer makes them stale instead of inserting more."""


VICTIMS: Final = ("victim of a deadlock", "victim of a lock's time-out")
"""What the application may meet because of others, as its counts call it."""

_GAVE_WAY: Final[dict[object, str]] = {
    **dict.fromkeys(("40P01", 1213), VICTIMS[0]),
    **dict.fromkeys(("55P03", 1205), VICTIMS[1]),
    **dict.fromkeys(("42P01", "42703", "23503", 1054, 1146, 1412, 1451), "met another schema"),
}


class Writer(Repeating):
    """One thread of the application."""

    def __init__(self, shop: Shop, kind: str, number: int, seed: str) -> None:
        super().__init__(f"writer {number} of {kind}")
        self.lives: dict[int, Life] = {}
        self.counts: Counter[str] = Counter()
        self.rows_updated = 0
        self._shop = shop
        self._kind = kind
        self._number = number
        self._random = random.Random(f"{seed}/{kind}/{number}")  # noqa: S311 - it is to be repeated
        self._rest = 0.02
        self._inserting = f"INSERT INTO {kind} ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"
        self._made = (number - 1) // WRITERS * _TABLES_APART + number % WRITERS
        self._stamps = number * _TABLES_APART
        self._entry = 0
        self._there: list[int] = []
        self._free: list[int] = []
        self._connection: Any = None

    def turn(self, number: int) -> None:  # noqa: ARG002 - one is like another
        """Do something, and rest."""
        self._transaction(self._random.choice(_ACTIONS))
        time.sleep(self._random.random() * 2 * self._rest)

    def leave(self) -> None:
        """Let go of the connection."""
        self._disconnect()

    def _transaction(self, action: str) -> None:
        """Do something, commit, and remember it; whatever fails is as if it had never been."""
        if action in ("insert", "load") and len(self._there) > _MOST_ROWS:
            action = "make stale"
        self._entry += 1
        changes: Changes = {}
        try:
            with closing(self._open().cursor()) as cursor:
                cursor.execute("BEGIN")
                _DO[action](self, cursor, changes)
                cursor.execute("INSERT INTO journal VALUES (%s, %s)", (self._number, self._entry))
                if self._random.random() < 0.03:
                    time.sleep(self._random.random() * 0.4)
                cursor.execute("ROLLBACK" if action == "give up" else "COMMIT")
        except (psycopg.Error, MySQLdb.Error) as error:
            if not self._gave_way(error):
                self._disconnect()
                if not self._is_in_journal():
                    return
                self.counts["commits without an answer"] += 1
                self._remember(changes)
            return
        if action != "give up":
            self.counts[action] += 1
            self._remember(changes)

    def _gave_way(self, error: Exception) -> bool:
        """Tell whether the transaction had to end for a lock, or for a change of the schema, and count it."""
        code = getattr(error, "sqlstate", None) or (error.args[0] if error.args else None)
        if code not in _GAVE_WAY:
            return False
        self.counts[_GAVE_WAY[code]] += 1
        with contextlib.suppress(psycopg.Error, MySQLdb.Error), closing(self._connection.cursor()) as cursor:
            cursor.execute("ROLLBACK")
        return True

    def _remember(self, changes: Changes) -> None:
        for number, life in changes.items():
            if number not in self.lives:
                self._there.append(number)
            elif life.gone and not self.lives[number].gone:
                self._free.append(life.id)
            elif not life.gone:
                self.rows_updated += 1
            self.lives[number] = life

    def _is_in_journal(self) -> bool:
        """Ask whether the last transaction was committed, as soon as the server is there."""
        while True:
            try:
                with closing(self._open().cursor()) as cursor:
                    cursor.execute(
                        "SELECT 1 FROM journal WHERE writer = %s AND entry = %s", (self._number, self._entry)
                    )
                    return bool(cursor.fetchall())
            except (psycopg.Error, MySQLdb.Error):
                self.counts["connections lost"] += 1
                self._disconnect()
                time.sleep(0.2)

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = self._shop.open()
            with closing(self._connection.cursor()) as cursor:
                cursor.execute(_PATIENCE[self._shop.engine == "postgresql"])
        return self._connection

    def _disconnect(self) -> None:
        with contextlib.suppress(psycopg.Error, MySQLdb.Error):
            if self._connection is not None:
                self._connection.close()
        self._connection = None

    # what a transaction does

    def _insert(self, cursor: Any, changes: Changes) -> None:
        self._bear(cursor, changes, [self._born() for _ in range(self._random.randint(1, 40))])

    def _load(self, cursor: Any, changes: Changes) -> None:
        """Insert many rows of one age: a batch of the purge then finds few transactions to have written its own."""
        age = self._age(stale=True)
        born = [self._born() for _ in range(self._random.randint(100, 400))]
        self._bear(cursor, changes, [replace(life, at=age) for life in born])

    def _bear(self, cursor: Any, changes: Changes, born: list[Life]) -> None:
        cursor.executemany(self._inserting, [life.row for life in born])
        changes.update({life.life: life for life in born})

    def _insert_again(self, cursor: Any, changes: Changes) -> None:
        """Use keys of rows that are gone once more."""
        for _ in range(min(len(self._free), 3)):
            again = self._born(key=self._free.pop(self._random.randrange(len(self._free))))
            cursor.execute(self._inserting, again.row)
            changes[again.life] = again

    def _update(self, cursor: Any, changes: Changes) -> None:
        for life in self._some():
            self._change(
                cursor, changes,
                replace(life, note=f"changed {self._random.random()}", places=self._places(), amount=self._amount()),
            )  # fmt: skip

    def _freshen(self, cursor: Any, changes: Changes) -> None:
        for life in self._some():
            self._change(cursor, changes, replace(life, at=self._age(stale=False)))

    def _make_stale(self, cursor: Any, changes: Changes) -> None:
        for life in self._some():
            self._change(cursor, changes, replace(life, at=self._age(stale=True)))

    def _rekey(self, cursor: Any, changes: Changes) -> None:
        for life in self._some(2):
            self._made += WRITERS
            self._change(cursor, changes, replace(life, id=self._made, rekeyed=True), life.id)

    def _remove(self, cursor: Any, changes: Changes) -> None:
        for life in self._some():
            cursor.execute(f"DELETE FROM {self._kind} WHERE id = %s AND life = %s", (life.id, life.life))
            changes[life.life] = replace(life, **{"deleted" if cursor.rowcount else "missed": True})

    def _change(self, cursor: Any, changes: Changes, wanted: Life, key: int | None = None) -> None:
        changed = replace(wanted, stamp=self._stamp())
        assigned = ", ".join(f"{column} = %s" for column in COLUMNS)
        cursor.execute(
            f"UPDATE {self._kind} SET {assigned} WHERE id = %s AND life = %s",
            (*changed.row, wanted.id if key is None else key, wanted.life),
        )
        known = self.lives[wanted.life]
        changes[wanted.life] = changed if cursor.rowcount else replace(known, missed=True)

    def _some(self, most: int = 8) -> list[Life]:
        """Choose rows of its own that it takes to be there, in any order."""
        found: dict[int, Life] = {}
        for _ in range(self._random.randint(1, most)):
            while self._there:
                place = self._random.randrange(len(self._there))
                if not (life := self.lives[self._there[place]]).gone:
                    found[life.life] = life
                    break
                self._there[place] = self._there[-1]
                self._there.pop()
        return list(found.values())

    def _born(self, key: int | None = None) -> Life:
        self._made += WRITERS
        stale = self._random.random() < 0.7
        life = self._made
        note = f"new {self._random.random()}"
        return Life(life, key or life, self._age(stale=stale), self._stamp(), note, self._places(), self._amount())

    def _places(self) -> int:
        return self._random.randrange(PLACES)

    def _amount(self) -> Decimal:
        return Decimal(self._random.randrange(10**6)).scaleb(-2)

    def _stamp(self) -> int:
        self._stamps += 1
        return self._stamps

    def _age(self, *, stale: bool) -> dt.datetime:
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None, microsecond=0)
        return now - dt.timedelta(days=self._random.randint(2, 60) if stale else 0, minutes=self._random.randint(1, 60))


Act = Callable[[Writer, Any, Changes], None]
_DO: Final[dict[str, Act]] = {
    "insert": Writer._insert,
    "load": Writer._load,
    "insert again": Writer._insert_again,
    "update": Writer._update,
    "freshen": Writer._freshen,
    "make stale": Writer._make_stale,
    "rekey": Writer._rekey,
    "delete": Writer._remove,
    "give up": Writer._update,
}
_ACTIONS: Final = ("insert",) * 4 + ("load",) * 2 + tuple(_DO) + ("update", "update")
_PATIENCE: Final = {
    True: "SET lock_timeout = '3s'",
    False: "SET SESSION innodb_lock_wait_timeout = 3, lock_wait_timeout = 3, time_zone = '+00:00'",
}


@contextlib.contextmanager
def writing(writers: list[Writer]) -> Iterator[None]:
    """Let writers write for the length of a block."""
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        for writer in writers:
            writer.stop()
        for writer in writers:
            writer.join(60)
