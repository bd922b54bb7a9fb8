"""What the tables' owner changes about them: each change is made and taken back by statements of ``ddl.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.soak.shop import Shop


@dataclass(frozen=True)
class Change:
    """A change of a table's schema and what takes it back, by their names in ``ddl.py``."""

    name: str
    done: str
    undone: str
    words: dict[str, str]
    back: dict[str, str]


def _retyped(name: str, column: str, before: str, after: str) -> Change:
    words = {"column": column}
    return Change(f"type changed: {name}", "retype", "retype", {**words, "type": after}, {**words, "type": before})


def _renamed(column: str) -> Change:
    other = f"{column}_then"
    return Change(
        "column renamed", "rename", "rename", {"column": column, "other": other}, {"column": other, "other": column}
    )


def changes(shop: Shop) -> list[Change]:
    """Give all changes of a table on one engine."""
    postgres = shop.engine == "postgresql"
    moments = ("timestamptz", "timestamp") if postgres else ("datetime NOT NULL", "timestamp NOT NULL")
    seen = {"deed": f"INSERT INTO {shop.namespace}.seen_gone VALUES (OLD.life)"}
    return [
        Change("column added, dropped", "add", "drop", {"column": "extra"}, {"column": "extra"}),
        *(_renamed(column) for column in ("id", "at", "note")),
        _retyped("integer to bigint", "places", "integer", "bigint"),
        _retyped("varchar widened", "note", "varchar(60)", "varchar(90)"),
        _retyped("more decimals", "amount", "numeric(10,2)", "numeric(14,4)"),
        _retyped("integer to text", "places", "integer", "varchar(20)"),
        _retyped("with a zone or without", "at", *moments),
        Change("index dropped, made", "no index", "index", {}, {}),
        Change("trigger added, dropped", "trigger", "no trigger", seen, {}),
        Change("foreign key added, dropped", "key", "no key", {"column": "places", "other": "place (place)"}, {}),
        Change("child added, dropped", "child", "no child", {}, {}),
        Change("table renamed", "hide", "show", {}, {}),
        Change("truncated", "truncate", "truncate", {}, {}),
    ]
