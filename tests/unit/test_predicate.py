"""A user's predicate is one boolean expression without a clock: all else is refused before a server sees it."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dbhygiene.databases.predicate import check_predicate
from airflow_dbhygiene.errors import PolicyInvalid


def check(text: str) -> frozenset[str]:
    """Check a predicate as PostgreSQL's."""
    return check_predicate(text, dialect="postgres", where="stale.where of policy 'p'")


GOOD = [
    *("status = 'void'", "status <> 'open'", "void", "NOT void", "(void)", "a = 1 AND b = 2", "a = 1 OR b = 2"),
    *("(a = 1 OR b = 2) AND NOT c", "a IN (1, 2, 3)", "a NOT IN ('x', 'y')", "a BETWEEN 1 AND 2", "a IS NULL"),
    *("a IS NOT NULL", "a IS DISTINCT FROM b", "a IS NOT FALSE", "a LIKE '50%'", "a ILIKE 'x_'", "a ~ '^x.*$'"),
    *("a !~* 'x'", "lower(a) = 'x'", "coalesce(a, 0) > 5", "length(a || b) > 3", "a::int > 5", "CAST(a AS date) < b"),
    *("at < '2013-01-01'", "at < timestamptz '2013-01-01 00:00:00+00'", "at < DATE '2013-01-01'", "a = ANY(b)"),
    *("data ->> 'kind' = 'x'", "data @> '{\"a\": 1}'", "data ? 'kind'", "data #>> '{a,b}' = 'c'", "tags && ARRAY['a']"),
    *("at + interval '1 day' < other", "a % 2 = 0", "-a > 5", "a = 'it''s'", "a = ';'", "a = '--'", "a = '/* x */'"),
    *("a = 'a) OR (b'", "a = E'tab\\t'", "a = '\\'", '"Upper" = 1', '"a;b" = 1', '"a--b" = 1', "größe > 5", "a = 'ü'"),
    *("(a, b) = (1, 2)", "(a, b) IN ((1, 2), (3, 4))", "CASE WHEN a > 1 THEN b ELSE c END", "a = 5 -1", "true"),
    *("extract(year FROM at) = 2013", "date_trunc('day', at) = '2013-01-01'", "position('x' IN a) > 0", "a = '%s'"),
    *(
        "substring(a FROM 1 FOR 2) = 'x'",
        "a = 1\n AND b = 2",
        "t.a = 1",
        "a COLLATE \"C\" < 'b'",
        "a = '{x}'",
        "a <> ''",
    ),
    *("age > 18", '"age" > 18', '"now" = 5', "timeofday = 'noon'", "sysdate IS NULL", "note = 'open from now on'"),
]


@pytest.mark.parametrize("text", GOOD)
def test_one_boolean_expression_passes(text: str) -> None:
    """What people write about rows works, odd characters in strings and names included."""
    check(text)


STATEMENTS = [
    *("DELETE FROM t", "DROP TABLE t", "UPDATE t SET a = 1", "INSERT INTO t VALUES (1)", "TRUNCATE t", "VACUUM t"),
    *("SELECT 1", "SELECT true", "WITH x AS (SELECT 1) SELECT * FROM x", "VALUES (1)", "TABLE t", "CALL p()"),
    *("CREATE TABLE x (a int)", "ALTER TABLE t DROP a", "GRANT ALL ON t TO x", "COPY t TO '/x'", "SET a = 1"),
    *("DO $$ BEGIN END $$", "LOCK t", "COMMIT WORK", "EXPLAIN SELECT 1", "SHOW a", "EXECUTE x", "NOTIFY x"),
]
SEVERAL = [
    *("a = 1; DELETE FROM t", "a = 1;", ";", "; a = 1", "a = 1; b = 2", "a = ';' ; DROP TABLE t", "a = 1;;", "a;--"),
    *("a = 'x'; SELECT pg_sleep(9)", "a = E'\\''; DROP TABLE t; --'", '"a;b"; DROP TABLE t', "a = 1, b = 2", "a, b"),
]
COMMENTS = [
    *("a = 1 -- b", "-- a\na = 1", "a = 1 /* b */", "/* a */ a = 1", "a /*! = 1 */ = 2", "a = 1 --", "a = /**/ 1"),
    *("a = 1 /* /* nested */ */", "a = 1 -- '", "a = '--' -- x", "a = 1 /* unfinished"),
]
ESCAPES = [
    *(
        "a) OR (b",
        ") OR (true",
        "a = 1) OR (1 = 1",
        "a = 1)",
        "(a = 1",
        "a = 1)) OR ((true",
        "a = 'x",
        'a = "x',
        "a = 'x''",
    ),
    *(
        "a = E'\\'",
        "a = $$x$$",
        "a = $x$ y $x$",
        "a = $$; DROP TABLE t$$",
        "a = $$'$$ OR b = $$'$$",
        "a = [",
        "a = 1 WHERE b",
    ),
    *(
        "true LIMIT 1",
        "true ORDER BY a",
        "true GROUP BY a",
        "true UNION SELECT true",
        "true RETURNING a",
        "true FOR UPDATE",
    ),
    *(
        "a = 1 AS b",
        "a b",
        "a = 1 INTO x",
        "a = 1 HAVING b",
        "true WINDOW w AS ()",
        "a = U&'\\0027' OR (",
        "true FROM t",
    ),
]
SUBQUERIES = [
    *(
        "a IN (SELECT 1)",
        "EXISTS (SELECT 1)",
        "(SELECT true)",
        "a = (SELECT max(b) FROM t)",
        "a = ANY (SELECT b FROM t)",
    ),
    *("NOT EXISTS (SELECT FROM t)", "a = ARRAY(SELECT 1)", "a IN (VALUES (1))", "a = (TABLE t)", "a > ALL (SELECT 1)"),
    *(
        "CASE WHEN (SELECT true) THEN a END",
        "coalesce((SELECT 1), 2) = 1",
        "a IN (WITH x AS (SELECT 1) SELECT * FROM x)",
    ),
    *(
        "(WITH x AS (DELETE FROM t RETURNING a) SELECT true FROM x)",
        "row_number() OVER (ORDER BY a) > 1",
        "sum(a) OVER () > 1",
    ),
]
CLOCKS = [
    *(
        "at < now()",
        "at < now() - interval '1 day'",
        "at < current_timestamp",
        "at < CURRENT_DATE",
        "at < Current_Timestamp(3)",
    ),
    *(
        "at < localtimestamp",
        "at < localtime",
        "at < current_time",
        "age(at) > '1 year'",
        "at < pg_catalog.now()",
        "at < NOW ()",
    ),
    *(
        'at < "now"()',
        "at < clock_timestamp()",
        "at < statement_timestamp()",
        "at < transaction_timestamp()",
        "timeofday() > ''",
    ),
    *(
        "at < 'now'",
        "at < 'today'::date",
        "at < date 'yesterday'",
        "at < timestamp 'Tomorrow'",
        "at < ' now '",
        "at < 'today 12:00'",
    ),
]
PLACEHOLDERS = [
    "a = %s",
    "a = %(a)s",
    "a = $1",
    "a = :a",
    "a = ?",
    "a = @a",
    "a := 1",
    "a = {a}",
    "a = {{ ds }}",
    "a = %",
]
NO_CONDITION = ["", " ", "\n", "1", "'text'", "NULL", "*", "a.*", "1, 2", "a, b", "ARRAY[true", "'a' 'b' c", "\x00"]

BAD = [*STATEMENTS, *SEVERAL, *COMMENTS, *ESCAPES, *SUBQUERIES, *CLOCKS, *PLACEHOLDERS, *NO_CONDITION]


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """The error names the policy's field, and the parser logs nothing of its own."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(PolicyInvalid, match=r"^stale\.where of policy 'p': "):
        check(text)
    assert caplog.records == []


def test_the_corpus_is_large() -> None:
    """Sixty injections and more stand between a policy file and a production table."""
    assert len({*STATEMENTS, *SEVERAL, *COMMENTS, *ESCAPES, *SUBQUERIES}) >= 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("at < now()", "now depends on when it is asked. Use OlderThan or Expired"),
        ("at < 'yesterday'", "'yesterday' depends on when it is asked. Use OlderThan or Expired"),
        ("a IN (SELECT 1)", "a subquery"),
        ("a = 1 -- b", "a comment"),
        ("a = 1; b = 2", "a semicolon"),
        ("a = 1 b = 2", "not one expression"),
        ("a = %s", "placeholder"),
    ],
)
def test_the_error_says_what_was_found(text: str, said: str) -> None:
    """Not merely "invalid"."""
    with pytest.raises(PolicyInvalid, match=said):
        check(text)


@pytest.mark.parametrize(
    ("text", "functions"),
    [
        ("lower(a) = 'x'", {"lower"}),
        ("public.f(a) AND NOT g (b)", {"f", "g"}),
        ('"Odd Name"(a)', {"odd name"}),
        ('"MyVolatile"(a)', {"myvolatile"}),
        ("a = 'f(x)'", set()),
    ],
)
def test_called_functions_are_named(text: str, functions: set[str]) -> None:
    """The server is then asked whether any of them is volatile: none may slip through, quoted ones included."""
    assert functions <= check(text)
    assert not check("a = 'f(x)'") & {"f", "x"}


@given(
    st.sampled_from(GOOD), st.sampled_from(["; DELETE FROM t", " -- x", " /* x */", ") OR (true", "; ", " RETURNING a"])
)
def test_no_good_predicate_carries_a_bad_one(good: str, tail: str) -> None:
    """Whatever precedes it, an injected tail is seen."""
    with pytest.raises(PolicyInvalid):
        check(good + tail)


@given(st.text(alphabet="a1'\"$;-/*()\\E \n=", max_size=25))
def test_quotes_never_confuse_the_check(text: str) -> None:
    """A predicate that passes cannot end the brackets that are put around it."""
    try:
        check(text)
    except PolicyInvalid:
        return
    with pytest.raises(PolicyInvalid):
        check(f"(\n{text}\n) ; b")
    check(f"(\n{text}\n)")
