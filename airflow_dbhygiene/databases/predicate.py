"""A user's predicate is parsed before any server sees it: one boolean expression, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from airflow_dbhygiene.errors import PolicyInvalid

CLOCKS = frozenset(
    "now current_timestamp current_date current_time localtime localtimestamp clock_timestamp statement_timestamp "
    "transaction_timestamp timeofday age sysdate curdate curtime utc_timestamp utc_date utc_time unix_timestamp".split()
)
"""Functions whose answer depends on when they are asked."""

BARE_CLOCKS = frozenset(
    "current_timestamp current_date current_time localtime localtimestamp utc_timestamp utc_date utc_time".split()
)
"""Those of them that need no brackets. The others may be names of columns: age, now."""

CLOCK_WORDS = frozenset("now today tomorrow yesterday".split())
"""Strings that become a moment when a server reads them as a date: ``at < 'yesterday'``."""
_BESIDE_CLOCK_WORDS = frozenset("allballs am pm z utc gmt".split())
_REFUSED_TOKENS = {
    "SEMICOLON": "a semicolon",
    "HEREDOC_STRING": "a dollar-quoted string",
    "L_BRACE": "a brace",
}

_REFUSED: dict[type[exp.Expr], str] = {
    exp.Query: "a subquery",
    exp.Subquery: "a subquery",
    exp.Exists: "a subquery",
    exp.DML: "a data-changing statement",
    exp.DDL: "a statement",
    exp.Command: "a statement",
    exp.Placeholder: "a placeholder",
    exp.Parameter: "a parameter",
    exp.SessionParameter: "a parameter",
    exp.Window: "a window function",
    exp.PropertyEQ: "an assignment",
    exp.Alias: "an alias",
    exp.Tuple: "a list of expressions",
    exp.Ordered: "an ORDER BY",
    exp.Star: "a star",
}
_TOP = (exp.Condition, exp.Predicate, exp.Connector, exp.Not, exp.Paren)


def check_predicate(text: str, *, dialect: str, where: str) -> frozenset[str]:
    """Refuse anything but one boolean expression that does not look at the clock.

    :param text: the SQL as the user wrote it
    :param dialect: sqlglot's name for the engine's SQL
    :param where: how an error names the predicate: "stale.where of policy 'flights'"
    :returns: the names of the functions that the expression calls, in lower case
    :raises PolicyInvalid: saying what was found
    """
    tree = _parse(text, dialect, where)
    if not isinstance(tree, _TOP) or isinstance(tree, exp.Literal | exp.Null):
        raise PolicyInvalid(_message(where, text, f"it is {_kind(tree)}"))
    for node in tree.walk():
        found = next((name for kind, name in _REFUSED.items() if isinstance(node, kind)), None)
        if found and not (isinstance(node, exp.Tuple) and isinstance(node.parent, exp.In | exp.Predicate)):
            raise PolicyInvalid(_message(where, text, f"it holds {found}"))
    functions = _functions(text, dialect)
    if clocks := [*sorted(functions & CLOCKS), *_clock_strings(text, dialect)]:
        fix = "Use OlderThan or Expired for age: their cutoff is fixed per run."
        raise PolicyInvalid(f"{where}: {clocks[0]} depends on when it is asked. {fix}")
    return functions


def _parse(text: str, dialect: str, where: str) -> exp.Expr:
    try:
        stream = sqlglot.tokenize(text, read=dialect)
        if any(token.comments for token in stream):
            raise PolicyInvalid(_message(where, text, "it holds a comment"))
        if found := next((fault for kind, fault in _REFUSED_TOKENS.items() if kind in _kinds(stream)), None):
            raise PolicyInvalid(_message(where, text, f"it holds {found}"))
        if _escapes(stream):
            raise PolicyInvalid(_message(where, text, 'it holds U&"…", whose escapes hide what they name'))
        if not stream or "\0" in text:
            raise PolicyInvalid(_message(where, text, "it is no text"))
        return sqlglot.parse_one(text, read=dialect, into=exp.Condition)  # which never tries to read a statement
    except SqlglotError as error:
        raise PolicyInvalid(_message(where, text, f"it is not one expression ({_first_line(error)})")) from None


def _escapes(stream: list[Any]) -> bool:
    """Tell whether a name or a string is written as U&"…": without a blank between it is no column called u."""
    triples = zip(stream, stream[1:], stream[2:], strict=False)
    return any(
        first.text.lower() == "u" and second.text == "&" and third.token_type.name in ("IDENTIFIER", "STRING")
        and first.end + 1 == second.start and second.end + 1 == third.start
        for first, second, third in triples
    )  # fmt: skip


def _functions(text: str, dialect: str) -> frozenset[str]:
    """Name what is followed by a bracket, and the clocks that need none."""
    stream = sqlglot.tokenize(text, read=dialect)
    called = {
        name.text.lower()
        for name, following in zip(stream, [*stream[1:], None], strict=True)
        if following is not None and following.token_type.name == "L_PAREN" and name.token_type.name != "STRING"
    }
    bare = {token.text.lower() for token in stream if token.token_type.name not in ("STRING", "IDENTIFIER")}
    return frozenset(called | (bare & BARE_CLOCKS))


def _clock_strings(text: str, dialect: str) -> list[str]:
    strings = [token.text for token in sqlglot.tokenize(text, read=dialect) if token.token_type.name == "STRING"]
    words = {string: set(re.findall(r"[a-z]+", string.lower())) for string in strings}
    return [repr(string) for string, said in words.items() if said & CLOCK_WORDS and not _tells(said)]


def _tells(words: set[str]) -> bool:
    """Tell whether a string says more than a date would."""
    return bool(words - CLOCK_WORDS - _BESIDE_CLOCK_WORDS)


def _kinds(stream: list[Any]) -> set[str]:
    return {token.token_type.name for token in stream}


def _first_line(error: SqlglotError) -> str:
    return str(error).splitlines()[0]


def _kind(tree: exp.Expr) -> str:
    return f"a {type(tree).__name__.lower()}"


def _message(where: str, text: str, fault: str) -> str:
    return f"{where}: {text!r} must be exactly one boolean SQL expression such as \"status = 'void'\", but {fault}."
