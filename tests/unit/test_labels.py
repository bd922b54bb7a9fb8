"""Chunks have names that a person reads."""

import pytest

from airflow_dbhygiene.databases.protocol import Bound, Span
from airflow_dbhygiene.steps.labels import label


@pytest.mark.parametrize(
    ("lower", "upper", "written"),
    [
        (None, None, "chunk 7 · start → end"),
        (("2013-03-01 05:00:00+00", "17"), ("2013-03-09", "4"), "chunk 7 · 2013-03-01 → 2013-03-09"),
        (("100",), ("200",), "chunk 7 · 100 → 200"),
        (None, ("x" * 30,), "chunk 7 · start → " + "x" * 23 + "…"),
        (("x" * 24,), None, "chunk 7 · " + "x" * 24 + " → end"),
    ],
)
def test_a_label_tells_the_range(lower: Bound | None, upper: Bound | None, written: str) -> None:
    """Dates are shown as dates, long keys are cut short, open ends say so."""
    assert label(7, Span(lower, upper)) == written
