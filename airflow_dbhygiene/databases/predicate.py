"""A user's predicate is parsed before any server sees it: one boolean expression, and nothing else."""

from __future__ import annotations

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

_REFUSED: dict[type[exp.Expr], str] = {
    exp.Query: "a subquery",
    exp.Subquery: "a subquery",
    exp.Exists: "a subquery",
    exp.DML: "a data-changing statement",
    exp.DDL: "a statement",
    exp.Command: "a statement",
    exp.Placeholder: "a placeholder",
    exp.Parameter: "a parameter",
    exp.Window: "a window function",
    exp.PropertyEQ: "an assignment",
    exp.Alias: "an alias",
    exp.Tuple: "a list of expressions",
    exp.Ordered: "an ORDER BY",
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
    if not isinstance(tree, _TOP) or isinstance(tree, exp.Literal):
        raise PolicyInvalid(_message(where, text, f"it is {_kind(tree)}"))
    for node in tree.walk():
        found = next((name for kind, name in _REFUSED.items() if isinstance(node, kind)), None)
        if found and not (isinstance(node, exp.Tuple) and isinstance(node.parent, exp.In | exp.Predicate)):
            raise PolicyInvalid(_message(where, text, f"it holds {found}"))
    functions = _functions(text, dialect)
    if clocks := sorted(functions & CLOCKS):
        fix = "Use OlderThan or Expired for age: their cutoff is fixed per run."
        raise PolicyInvalid(f"{where}: {clocks[0]} depends on when it is asked. {fix}")
    return functions


def _parse(text: str, dialect: str, where: str) -> exp.Expr:
    try:
        if any(token.comments for token in sqlglot.tokenize(text, read=dialect)):
            raise PolicyInvalid(_message(where, text, "it holds a comment"))
        trees = sqlglot.parse(text, read=dialect)
    except SqlglotError as error:
        raise PolicyInvalid(_message(where, text, str(error).splitlines()[0])) from None
    if len(trees) != 1 or trees[0] is None or ";" in {token.text for token in _tokens(text, dialect)}:
        raise PolicyInvalid(_message(where, text, "it is not one expression"))
    return trees[0]


def _functions(text: str, dialect: str) -> frozenset[str]:
    """Name what is followed by a bracket, and the clocks that need none."""
    stream = _tokens(text, dialect)
    called = {
        name.text.lower()
        for name, following in zip(stream, [*stream[1:], None], strict=True)
        if name.text.lower() in CLOCKS or (following is not None and following.token_type.name == "L_PAREN")
    }
    return frozenset(name for name in called if name.isidentifier())


def _tokens(text: str, dialect: str) -> list[Any]:
    return [token for token in sqlglot.tokenize(text, read=dialect) if token.token_type.name != "STRING"]


def _kind(tree: exp.Expr) -> str:
    return f"a {type(tree).__name__.lower()}"


def _message(where: str, text: str, fault: str) -> str:
    return f"{where}: {text!r} must be exactly one boolean SQL expression such as \"status = 'void'\", but {fault}."
