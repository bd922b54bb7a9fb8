"""What has changed about a table, told by the lines of its DDL."""

from __future__ import annotations

from typing import Final

_MOST: Final = 5
_ELSE: Final = "its triggers, rules, policies, foreign keys or the labels of a type are others"


def changes(planned: str, found: str) -> str:
    """Say which columns, or other lines, a table has had and now has; where there are none, what else it may be."""
    before, after = _lines(planned), _lines(found)
    had = [line for line in before if line not in after]
    has = [line for line in after if line not in before]
    parts = [f"{verb} {_listed(lines)}" for verb, lines in (("it had", had), ("it has", has)) if lines]
    return "; ".join(parts) or _ELSE


def _lines(ddl: str) -> list[str]:
    return [line.strip().removesuffix(",") for line in ddl.splitlines()]


def _listed(lines: list[str]) -> str:
    more = f" and {len(lines) - _MOST} more" if len(lines) > _MOST else ""
    return ", ".join(f"«{line}»" for line in lines[:_MOST]) + more
