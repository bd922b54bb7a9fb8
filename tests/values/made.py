"""A table made at random: its columns, its key, its rows, and how a run goes through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any, Final

from hypothesis import strategies as st

from tests.job import AS_OF

Draw = Callable[[st.SearchStrategy[Any]], Any]

KEEP_DAYS: Final = 300
CUTOFF: Final = AS_OF.subtract(days=KEEP_DAYS).replace(tzinfo=None)
MOST_ROWS: Final = 18
ORDINAL: Final = "n; ordinal"
"""A column that every table has: the row's number, by which the test knows it."""

STORES: Final = ("parquet", "cold table beside", "cold table elsewhere")
NAMES: Final = (
    *("plain", "with space", 'dou"ble', "quo`te", "per%cent %s", "select", "ünïcode", "Upper", "semi;colon", "a.b"),
    *(
        "{brace}",
        "'single'",
        "back\\slash",
        "-- comment",
        "/* */",
        "tab\there",
        "new\nline",
        "$1",
        "漢字",
        "_x",
        "x" * 50,
    ),
)


@dataclass(frozen=True)
class Kind:
    """A type of a column as its definition spells it, its values as SQL, and whether it can be in a primary key."""

    spelled: str
    values: st.SearchStrategy[str]
    key: bool = True


@dataclass(frozen=True)
class Column:
    """One column.

    :param given: whether rows bring a value; the server makes the others itself
    """

    name: str
    definition: str
    given: bool = True


@dataclass(frozen=True)
class Table:
    """A table, and a run over it.

    :param rows: values as SQL, in the order of the columns that are given
    :param stale: numbers of the rows that are to go
    :param epoch: whether the age is a number of seconds
    :param partition_by: what partitions it, None for an ordinary table
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    age: str
    epoch: bool
    rows: tuple[tuple[str, ...], ...]
    stale: frozenset[int]
    indexed: bool
    partition_by: str | None
    store: str
    batch_rows: int
    chunk_rows: int


@st.composite
def tables(
    draw: Draw,
    kinds: st.SearchStrategy[Kind],
    ages: dict[str, str],
    computed: tuple[str, ...],
    names: st.SearchStrategy[str],
) -> Table:
    """Make a table.

    :param kinds: of its columns
    :param ages: types that an age column may have, each with the form of a moment in it
    :param computed: definitions of columns that the server fills, where {n} is the ordinal's column
    :param names: of table and columns
    """
    key_kinds = draw(st.lists(kinds.filter(lambda kind: kind.key), min_size=1, max_size=3))
    other_kinds = draw(st.lists(kinds, max_size=6))
    age_type = draw(st.sampled_from(sorted(ages)))
    made = draw(st.lists(st.sampled_from(computed), unique=True, max_size=len(computed)))
    count = len(key_kinds) + len(other_kinds) + len(made) + 2
    name, age, *rest = draw(st.lists(names, min_size=count, max_size=count, unique_by=str.casefold))
    key, others, server_made = (
        rest[: len(key_kinds)],
        rest[len(key_kinds) : len(rest) - len(made)],
        rest[len(rest) - len(made) :],
    )
    in_key = draw(st.booleans()) and draw(st.booleans())
    columns = [
        Column(ORDINAL, "bigint NOT NULL"),
        Column(age, f"{age_type} {'NOT NULL' if in_key else 'NULL'}"),
        *(Column(each, f"{kind.spelled} NOT NULL") for each, kind in zip(key, key_kinds, strict=True)),
        *(Column(each, f"{kind.spelled} NULL") for each, kind in zip(others, other_kinds, strict=True)),
        *(Column(each, definition, given=False) for each, definition in zip(server_made, made, strict=True)),
    ]
    ages_of_rows = draw(st.lists(st.tuples(st.sampled_from("ssfn"), st.integers(0, 4)), min_size=1, max_size=MOST_ROWS))
    rows = []
    for number, (state, days) in enumerate(ages_of_rows):
        nullable = [st.none() | kind.values for kind in other_kinds]
        values = [draw(kind.values) for kind in key_kinds] + [draw(each) or "NULL" for each in nullable]
        rows.append((str(number), _moment(ages[age_type], state, days, in_key=in_key), *values))
    return Table(
        name=name,
        columns=tuple(columns),
        key=(age, *key) if in_key else tuple(key),
        age=age,
        epoch=age_type == "bigint",
        rows=tuple(rows),
        stale=frozenset(number for number, (state, _) in enumerate(ages_of_rows) if state == "s"),
        indexed=draw(st.booleans()),
        partition_by=key[0] if draw(st.sampled_from((False, False, True))) else None,
        store=draw(st.sampled_from(STORES)),
        batch_rows=draw(st.integers(2, 9)),
        chunk_rows=draw(st.integers(4, 12)),
    )


def _moment(form: str, state: str, days: int, *, in_key: bool) -> str:
    """Write an age: stale ("s"), fresh ("f") or none ("n"), at the cutoff and around it."""
    if state == "n" and not in_key:
        return "NULL"
    offset = timedelta(days=days)
    moment = CUTOFF - timedelta(seconds=1) - offset if state == "s" else CUTOFF + timedelta(days=1) + offset
    return form.format(
        text=moment.isoformat(" "), day=moment.date().isoformat(), seconds=int(moment.replace(tzinfo=UTC).timestamp())
    )
