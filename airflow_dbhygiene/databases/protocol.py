"""What a database must be able to do, and the frozen values that pass between it and the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.names import TableName

Bound = tuple[str, ...]
"""A place in the walk: the values of its columns in the server's own text form."""

VERSION_COLUMN = "_dbhygiene_version"
"""The archive's column that holds each row's version token."""


@dataclass(frozen=True)
class Column:
    """A column, its type as the server spells it, and the form in which it is archived.

    ``form`` is ``native`` (Arrow's own type is exact), ``decimal`` or ``text`` (the server's text form).
    """

    name: str
    type: str
    form: str


@dataclass(frozen=True)
class Server:
    """Which server, in which history, answers: a version token means nothing elsewhere."""

    engine: str
    version: int
    system_identifier: str
    timeline: str


@dataclass(frozen=True)
class Facts:
    """What the catalogue says of a table. ``row_estimate`` is None while the server has no idea."""

    name: TableName
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    ddl: str
    fingerprint: str
    row_estimate: int | None
    table_bytes: int
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """The stale rows of one run: a predicate, and the order in which the run walks them."""

    table: TableName
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    walk: tuple[str, ...]
    predicate: str


@dataclass(frozen=True)
class Span:
    """A half-open piece of the walk, from ``lower`` (included) to ``upper`` (not included); None is the end."""

    lower: Bound | None
    upper: Bound | None


@dataclass(frozen=True)
class Outcomes:
    """What became of archived rows, by their ordinals in the chunk's archive."""

    purged: int
    drifted: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    vanished: tuple[int, ...] = ()
    locked: tuple[int, ...] = ()


class Session(Protocol):
    """One connection to the database."""

    def transaction(self, **settings: object) -> AbstractContextManager[None]:
        """Commit on leaving, roll back on an exception; settings hold for this transaction only."""

    def execute(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement with bound values and give all its rows."""


class Database(Protocol):
    """One engine's answers to: what is this table, which rows, their values, deleting them, how busy is it."""

    engine: str

    def session(self) -> AbstractContextManager[Any]:
        """Open a connection and close it at the end; driver errors leave as ours."""

    def cancel(self) -> None:
        """Cancel what all open sessions are running, from another connection."""

    def server(self, session: Any) -> Server:
        """Tell which server answers; refuse one that is read-only."""

    def inspect(self, session: Any, policy: Policy) -> Facts:
        """Read the table's facts, refusals and warnings from the catalogue."""

    def fingerprint(self, session: Any, table: TableName) -> str:
        """Digest everything about the table's schema that a purge relies on."""

    def predicate(self, session: Any, policy: Policy, facts: Facts, since: Any, cutoff: Any) -> str:
        """Render the policy's stale rows between two moments as one SQL condition."""

    def choose_walk(self, session: Any, policy: Policy, facts: Facts) -> tuple[str, ...]:
        """Choose the columns whose index order the run follows."""

    def bounds(self, session: Any, selection: Selection, rows: int, most: int) -> tuple[list[Bound], int]:
        """Cut the stale rows into pieces of that many rows; give the pieces' first places and the rows seen."""

    def read(
        self, selection: Selection, span: Span, after: Bound | None, rows: int
    ) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """Stream rows of the span with their versions, in the order of the walk, from one snapshot."""

    def encode_keys(self, selection: Selection, rows: pa.Table) -> bytes:
        """Give the rows' (key, version) pairs, in the form that the server's deletes return them."""

    def delete(self, session: Any, selection: Selection, rows: pa.Table, held: str | None) -> bool:
        """Delete the range that the rows span; tell whether exactly these rows, in these versions, went."""

    def delete_carefully(
        self, session: Any, selection: Selection, rows: pa.Table, ordinals: Sequence[int], held: str | None
    ) -> Outcomes:
        """Match row by row without waiting, delete the identical rows, and say what became of the others."""

    def differing(self, session: Any, selection: Selection, rows: pa.Table) -> tuple[int, int]:
        """Load the rows beside the table; give how many the server could compare, and how many differ."""


Progress = Callable[[str], None]
