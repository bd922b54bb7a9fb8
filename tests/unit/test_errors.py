"""One tree of errors: complete in its own docstring, and whole after a trip between processes."""

import inspect
import pickle

import pytest

from airflow_dbhygiene import errors
from airflow_dbhygiene.errors import HygieneError, PlanRefused, Terminal, Transient

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, HygieneError)]
LEAVES = [each for each in CLASSES if each not in (HygieneError, Terminal, Transient)]


def make(kind: type[HygieneError]) -> HygieneError:
    """Make an error as the package would."""
    return kind("public.t", ("no key", "a rule")) if kind is PlanRefused else kind("what happened to what: the fix")


def test_the_docstring_draws_every_class() -> None:
    """Whoever adds an error adds it to the picture, under the branch that it belongs to."""
    assert errors.__doc__
    above, below = errors.__doc__.split("└── Transient")
    for kind in LEAVES:
        assert f"── {kind.__name__} " in (below if issubclass(kind, Transient) else above)
    drawn = [line for line in errors.__doc__.splitlines() if "── " in line]
    assert len(drawn) == len(LEAVES) + 2


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_an_error_is_terminal_or_transient(kind: type[HygieneError]) -> None:
    """Airflow retries one kind and fails at once on the other: there is no third."""
    assert issubclass(kind, Terminal) is not issubclass(kind, Transient)
    assert kind.__doc__


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[HygieneError]) -> None:
    """Workers send errors to other processes."""
    error = make(kind)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_refusal_lists_each_reason() -> None:
    """One line each, after the table's name and the reassurance."""
    assert str(make(PlanRefused)) == ("public.t cannot be purged safely, nothing was changed:\n  - no key\n  - a rule")
