"""One tree of errors: complete in its own docstring, and whole after a trip between processes."""

import inspect
import pickle
from collections.abc import Iterator

import pyarrow as pa
import pytest

from airflow_dbhygiene import errors
from airflow_dbhygiene.databases.mysql.session import translate as of_mysql
from airflow_dbhygiene.databases.postgres.rows import translating
from airflow_dbhygiene.databases.postgres.session import translate as of_postgres
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


class Told(Exception):
    """A driver's error, with what it is known by."""

    def __init__(self, known_by: str | int, text: str = "what the server said") -> None:
        super().__init__(text)
        self.sqlstate = known_by
        self.errno = known_by


@pytest.mark.parametrize(
    ("state", "number", "kind"),
    [
        ("42501", 1142, errors.PrivilegeMissing),
        ("28P01", 1045, errors.PrivilegeMissing),
        ("42P01", 1146, errors.NotFound),
        ("25006", 1290, errors.ReadOnlyServer),
        ("23503", 1451, errors.RowsReferenced),
        ("42601", 1064, errors.StatementFailed),
        ("55P03", 1205, errors.StatementTimedOut),  # a lock
        ("57014", 1317, errors.StatementTooLong),  # cancelled
        ("57014", 3024, errors.StatementTooLong),
        ("57014", 1969, errors.StatementTooLong),
        ("40P01", 1213, errors.StatementTimedOut),  # a deadlock
        ("40001", 1213, errors.StatementTimedOut),  # serialization
        ("53100", 1114, errors.DatabaseUnavailable),  # disk full
        ("53100", 1021, errors.DatabaseUnavailable),
        ("53100", 1026, errors.DatabaseUnavailable),
        ("53100", 3, errors.DatabaseUnavailable),
        ("53300", 1040, errors.DatabaseUnavailable),  # connections
        ("53300", 1203, errors.DatabaseUnavailable),
        ("53300", 1226, errors.DatabaseUnavailable),
        ("57P01", 1927, errors.DatabaseUnavailable),  # ended by an administrator
        ("57P03", 1053, errors.DatabaseUnavailable),  # starts, or stops
        ("08006", 2013, errors.DatabaseUnavailable),
    ],
)
def test_a_servers_error_is_known_by_its_number(state: str, number: int, kind: type[HygieneError]) -> None:
    """The same trouble is the same error on both engines, whatever the text says."""
    for translate, known_by in ((of_postgres, state), (of_mysql, number)):
        error = translate(Told(known_by))
        assert (type(error), "what the server said" in str(error)) == (kind, True)


def test_a_refusal_lists_each_reason() -> None:
    """One line each, after the table's name and the reassurance."""
    assert str(make(PlanRefused)) == ("public.t cannot be purged safely, nothing was changed:\n  - no key\n  - a rule")


def test_a_server_that_dies_amid_the_rows_is_one_that_a_retry_may_find() -> None:
    """Arrow calls it an OSError, and knows no SQLSTATE."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"id": [1]})
        raise OSError("[libpq] PQgetCopyData() failed: server closed the connection unexpectedly")

    reading = translating(pa.RecordBatchReader.from_batches(pa.schema({"id": pa.int64()}), batches()))
    assert next(reading).num_rows == 1
    with pytest.raises(errors.DatabaseUnavailable, match="server closed the connection"):
        next(reading)
