"""Names of chunks that a person reads in the Airflow UI."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Bound, Span

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_LONGEST = 24


def label(number: int, span: Span, cutoff: str | None = None) -> str:
    """Write "chunk 7 · 2013-03-01 → 2013-03-09". What is open at its end goes as far as the cutoff's date."""
    dated = any(bound and _DATE.match(bound[0]) for bound in (span.lower, span.upper))
    end = cutoff[:10] if cutoff and dated else "end"
    return f"chunk {number} · {_place(span.lower, 'start')} → {_place(span.upper, end)}"


def _place(bound: Bound | None, otherwise: str) -> str:
    if bound is None:
        return otherwise
    first = bound[0]
    if _DATE.match(first):
        return first[:10]
    return first if len(first) <= _LONGEST else first[: _LONGEST - 1] + "…"
