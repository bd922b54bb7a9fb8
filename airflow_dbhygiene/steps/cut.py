"""Where do a run's chunks begin and end? Hops through the walk's index find out, a chunk's rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_dbhygiene.databases.protocol import Span
from airflow_dbhygiene.ledger import Chunk, Run
from airflow_dbhygiene.ledger.moves import PLANNED
from airflow_dbhygiene.steps.labels import label

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Bound
    from airflow_dbhygiene.policy import Guard

    Hop = Callable[[Span, int], Bound | None]


@dataclass(frozen=True)
class Cut:
    """Where chunks end and the next begin, how many rows each takes, all together, and how many wait for the next run.

    Where rows wait, the last place is the end of the last chunk; else that one is open.
    """

    places: tuple[Bound, ...]
    size: int
    taken: int
    waiting: int


def cut_evenly(hop: Hop, guard: Guard, stale: int, expected: int) -> Cut:
    """Cut the stale rows into as many chunks as the guard allows, of one size.

    :param hop: gives the place in a span that so many stale rows lie before, None when it has no more
    :param stale: how many there are, counted to one more than guard.max_rows
    :param expected: how many there are, as far as can be told
    """
    taken = min(stale, guard.max_rows)
    chunks = min(guard.max_chunks, max(taken // guard.min_chunk_rows, 1))
    size = max(math.ceil(taken / chunks), 1)
    waiting = max(expected - taken, 1) if stale > taken else 0
    ends = [*range(size, taken, size), *([taken] if waiting else [])]
    return Cut(tuple(_places(hop, ends)), size, taken, waiting)


def _places(hop: Hop, ends: Sequence[int]) -> Iterator[Bound]:
    """Give the place that so many rows lie before, for each of these numbers."""
    place, seen = None, 0
    for end in ends:
        place = hop(Span(place, None), end - seen)
        if place is None:  # rows have gone since they were counted
            return
        yield place
        seen = end


def chunks_of(run: Run, cut: Cut) -> Iterator[Chunk]:
    """Make half-open ranges of the places; the last one is open unless rows beyond the guard must wait."""
    ends: list[Bound | None] = [*cut.places] if cut.waiting else [*cut.places, None]
    lower: Bound | None = None
    left = cut.taken
    for number, upper in enumerate(ends, start=1):
        rows = min(cut.size, left)
        left -= rows
        if rows:
            span = Span(lower, upper if left or cut.waiting else None)
            yield Chunk(run.run_id, number, PLANNED, label(number, span, run.cutoff), span, rows)
        lower = upper
