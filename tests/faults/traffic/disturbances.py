"""What others do to the table while runs are under way: rows change, transactions stay open, the schema changes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

import MySQLdb
import psycopg

from tests.faults.traffic.hygiene import Run
from tests.faults.traffic.oracle import Oracle
from tests.faults.traffic.shop import Application, Row, moment, new_row

_FRESH, _LATE = 50, 3

met: Counter[str] = Counter()
"""What has happened over all examples: an action that never happens shows nothing."""


class Disturbances:
    """The application and the table's owner. A number chooses a row among those that there are.

    :param application: whose statements these are
    :param oracle: which learns of each change
    """

    def __init__(self, application: Application, oracle: Oracle) -> None:
        self.application = application
        self.oracle = oracle
        self.runs: list[Run] = []
        self.undo: dict[str, Callable[[], bool]] = {}
        """How to take back each change of the schema that may stand in a step's way."""
        self.hidden = False
        """Whether the table has another name for now."""
        self.excuses: set[str] = set()
        """What may make the step at work give up."""
        self._amount = "amount"
        self._places = "integer"
        self._added: dict[str, str] = {}
        self._without: set[str] = set()
        self._pending: tuple[Any, int, Row | None] | None = None

    @property
    def leaves_a_row_locked(self) -> bool:
        """Whether a transaction of the application's is open."""
        return self._pending is not None

    def complete(self, row: Row) -> Row:
        """Give a row the columns that it was written without."""
        return {**self._added, **row}

    def leave(self) -> None:
        """Let go of all connections."""
        if self._pending:
            with contextlib.suppress(psycopg.Error, MySQLdb.Error):
                self._pending[0].close()
        self.application.close()

    # as rules call it

    def traffic(self, action: str, number: int) -> None:
        """Let the application do something to a row."""
        if self.hidden:
            return
        locked = self._pending[1] if self._pending else None
        keys = sorted(self.oracle.live.keys() - {locked})
        if action in _INSERTS:
            self._insert(action, number)
        elif keys:
            self._change(action, keys[number % len(keys)], number)

    def begin_change(self, number: int, *, deletes: bool) -> None:
        """Begin a transaction of the application's that changes a row, and leave it open."""
        if self._pending or self.hidden or not self.oracle.live:
            return
        key = sorted(self.oracle.live)[number % len(self.oracle.live)]
        connection = self.application.shop.open()
        with closing(connection.cursor()) as cursor:
            cursor.execute("BEGIN")
            statement = "DELETE FROM {} WHERE id = %s" if deletes else "UPDATE {} SET note = 'changed' WHERE id = %s"
            cursor.execute(statement.format(self.application.table), (key,))
            changed = cursor.rowcount
        row = None if deletes else {**self.oracle.live[key], "note": "changed"}
        self._pending = (connection, key, row) if changed else None
        self.excuses.add("locks")
        met["a change left open"] += bool(changed)
        if not changed:
            connection.close()

    def end_change(self, *, commit: bool) -> None:
        """End it."""
        if not self._pending:
            return
        (connection, key, row), self._pending = self._pending, None
        with closing(connection), closing(connection.cursor()) as cursor:
            cursor.execute("COMMIT" if commit else "ROLLBACK")
        if commit and row is None:
            del self.oracle.live[key]
        elif commit and row is not None:
            self.oracle.live[key] = row

    def alter(self, change: str) -> None:
        """Let somebody change the schema, or empty the table."""
        if self.hidden or self._pending or change in self.undo:
            return
        if change == "truncate":
            self._truncate()
        elif change in _UNDO:
            self._alter_for_now(change)
        elif change == "rename":
            self._rename("amount", "total") if self._amount == "amount" else None
        elif change == "drop" and self.application.alter("drop", column="places"):
            self._without.add("places")
            self._reshape(lambda row: {name: value for name, value in row.items() if name != "places"})
            self.undo["drop"] = self._put_back
        elif change == "add" and self.application.alter("add", column=(name := f"extra_{len(self._added)}")):
            self._added[name] = "late"
            self._reshape(lambda row: {**row, name: "late"})
        elif change == "widen":
            self._widen()
        met[f"schema: {change}"] += 1

    def undo_all(self) -> None:
        """Take back what stands in a step's way."""
        for change in reversed([*self.undo]):  # the table's own name comes first
            if self.undo[change]():
                del self.undo[change]

    # what these are made of

    def _insert(self, action: str, number: int) -> None:
        free = sorted(self.oracle.keys - self.oracle.live.keys())
        key = free[number % len(free)] if action == "insert again" and free else max(self.oracle.keys) + 1
        row = new_row(key, _FRESH if action == "insert fresh" else _LATE + number % 30)
        row = {name: value for name, value in row.items() if name not in self._without}
        row = {self._amount if name == "amount" else name: value for name, value in row.items()}
        if self.application.insert(row):
            self.oracle.keys.add(key)
            self.oracle.live[key] = self.complete(row)
            met[action] += 1

    def _change(self, action: str, key: int, number: int) -> None:
        if action == "delete":
            if self.application.change(f"DELETE FROM {self.application.table} WHERE id = %s", (key,)):
                del self.oracle.live[key]
                met[action] += 1
            return
        column, value = _changes(action, number, max(self.oracle.keys) + 1)
        statement = f"UPDATE {self.application.table} SET {column} = %s WHERE id = %s"
        if self.application.change(statement, (value, key)) or self._is_there(key, column, value):
            row = {**self.oracle.live.pop(key), column: value}
            self.oracle.live[int(str(row["id"]))] = row
            self.oracle.keys.add(int(str(row["id"])))
            met[action] += 1

    def _is_there(self, key: int, column: str, value: object) -> bool:
        """Tell whether a row that no statement has changed is what it should be: MySQL counts real changes only."""
        return column != "id" and self.oracle.live[key][column] == value

    def _truncate(self) -> None:
        if "child" in self.undo:
            return
        if self.application.alter("truncate"):
            self.oracle.live.clear()

    def _alter_for_now(self, change: str) -> None:
        if self.application.alter(change):
            self.hidden = change == "hide"
            self.application.table = self.application.table.replace(
                "orders", "orders_aside" if self.hidden else "orders"
            )
            self.undo[change] = lambda: self._take_back(change)
            self._altered(done=change not in ("hide", "no index"))

    def _take_back(self, change: str) -> bool:
        done = self.application.alter(_UNDO[change])
        if done and change == "hide":
            self.hidden, self.application.table = False, self.application.shop.table
        return done

    def _rename(self, before: str, after: str) -> bool:
        done = self.application.alter("rename", column=before, other=after)
        if done:
            self._amount = after
            self._reshape(lambda row: {after if name == before else name: value for name, value in row.items()})
            if after != "amount":
                self.undo["rename"] = lambda: self._rename(after, before)
        return done

    def _widen(self) -> None:
        if not self._without and self.application.alter("retype", column="places", type="bigint"):
            self._places = "bigint"
            self._altered(done=True)

    def _put_back(self) -> bool:
        done = self.application.alter("put back", column="places", type=self._places)
        if done:
            self._without.discard("places")
            self._reshape(lambda row: {**row, "places": None})
        return done

    def _reshape(self, shape: Callable[[Row], Row]) -> None:
        self.oracle.live = {key: shape(row) for key, row in self.oracle.live.items()}
        self._altered(done=True)

    def _altered(self, *, done: bool) -> None:
        for run in self.runs:
            run.altered = run.altered or done


_INSERTS: Final = ("insert fresh", "insert late", "insert again")
_UNDO: Final = {"trigger": "no trigger", "child": "no child", "hide": "show", "no index": "index"}
ROW_ACTIONS: Final = (*_INSERTS, "freshen", "make stale", "note", "touch", "void", "another key", "delete")
SCHEMA_ACTIONS: Final = (*_UNDO, "truncate", "rename", "drop", "add", "widen")


def _changes(action: str, number: int, free_key: int) -> tuple[str, object]:
    return {
        "freshen": ("at", moment(_FRESH + number % 5)),
        "make stale": ("at", moment(_LATE + number % 30)),
        "note": ("note", f"note {number % 6}"),
        "touch": ("note", f"touched {number % 3}"),
        "void": ("note", "void"),
        "another key": ("id", free_key),
    }[action]
