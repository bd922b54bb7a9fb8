"""Table names are read as the catalogue spells them, whatever they hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.policy.names import TableName, parse_table_name

parts = st.text(min_size=1, max_size=20)


@given(parts, parts)
def test_a_written_name_reads_back_the_same(schema: str, table: str) -> None:
    """Any name at all, quotes, dots, semicolons and line breaks included, survives being written and read."""
    name = TableName(schema, table)
    assert parse_table_name(str(name)) == name


@given(st.text(max_size=30))
def test_reading_either_refuses_or_is_stable(text: str) -> None:
    """Whatever text is given, what was understood is written so that it is understood again."""
    try:
        name = parse_table_name(text)
    except PolicyInvalid:
        return
    assert parse_table_name(str(name)) == name


@pytest.mark.parametrize(
    ("text", "schema", "table"),
    [
        ("public.flights", "public", "flights"),
        ("Public.Flights", "Public", "Flights"),
        ('"my schema"."ta.ble"', "my schema", "ta.ble"),
        ('"a""b".c', 'a"b', "c"),
        ("größe.表", "größe", "表"),
        ('public."50%; DROP"', "public", "50%; DROP"),
        ("select.from", "select", "from"),
    ],
)
def test_names_are_not_folded(text: str, schema: str, table: str) -> None:
    """Upper case stays upper case, and reserved words are names like any other."""
    assert parse_table_name(text) == TableName(schema, table)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "flights",
        "a.b.c",
        "a.",
        ".b",
        'a."b',
        'a.b"',
        '"".b',
        "a b.c",
        "a.b c",
        "a;b.c",
        'a."b"c',
        "a..b",
        " a.b",
    ],
)
def test_half_names_are_refused_with_the_right_form(text: str) -> None:
    """The message shows the text and how it is written."""
    with pytest.raises(PolicyInvalid) as refused:
        parse_table_name(text)
    assert repr(text) in str(refused.value)
    assert "public.flights" in str(refused.value)
