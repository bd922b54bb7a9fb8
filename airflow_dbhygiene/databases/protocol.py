"""What a database must be able to do, and the frozen values that pass between it and the steps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from airflow_dbhygiene.errors import StatementTimedOut

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_dbhygiene.databases.cold import ColdTables
    from airflow_dbhygiene.policy.model import Pace, Policy
    from airflow_dbhygiene.policy.moments import Window
    from airflow_dbhygiene.policy.names import TableName
    from airflow_dbhygiene.policy.stale import Expired, OlderThan

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
    """Which server, in which history, answers: a version token means nothing elsewhere.

    ``transaction`` is the server's latest transaction number, which never starts again from zero.
    """

    engine: str
    version: int
    system_identifier: str
    timeline: str
    transaction: int


@dataclass(frozen=True)
class Shape:
    """A table's name, columns and primary key: all that a condition needs to know of it."""

    name: TableName
    columns: tuple[Column, ...]
    key: tuple[str, ...]


@dataclass(frozen=True)
class Facts(Shape):
    """All that the catalogue says of a table. ``row_estimate`` is None while the server has no idea."""

    ddl: str
    fingerprint: str
    row_estimate: int | None
    table_bytes: int
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]


def refuse_if_changed(table: TableName, before: object, after: object) -> None:
    """Compare what two statements told of a schema, such as its digests from before and after its facts were read.

    :raises StatementTimedOut: when they differ, for half of the facts would be those of another table
    """
    if before != after:
        raise StatementTimedOut(f"table {table} was changed while it was looked at. A retry looks at it anew.")


@dataclass(frozen=True)
class Relatives:
    """Of names of tables, those that a table's rows go by: its own and its parents', and those of its partitions."""

    whole: frozenset[TableName]
    parts: frozenset[TableName] = frozenset()


@dataclass(frozen=True)
class Selection:
    """The stale rows of one run: a predicate, and the order in which the run walks them."""

    table: TableName
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    walk: tuple[str, ...]
    predicate: str

    @property
    def identifying(self) -> tuple[str, ...]:
        """The columns that a purge needs of the archive: walk, key and version."""
        return tuple(dict.fromkeys((*self.walk, *self.key, VERSION_COLUMN)))


@dataclass(frozen=True)
class Span:
    """A half-open piece of the walk, from ``lower`` (included) to ``upper`` (not included); None is the end."""

    lower: Bound | None
    upper: Bound | None


@dataclass(frozen=True)
class Restored:
    """How many archived rows were put back, and how many were left alone since their key exists again.

    :param earlier: how many earlier tries of the same restore had put back; they may have been purged again since
    """

    restored: int = 0
    existing: int = 0
    earlier: int = 0


@dataclass(frozen=True)
class Outcomes:
    """What became of archived rows, by their ordinals in the chunk's archive."""

    purged: int
    drifted: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    vanished: tuple[int, ...] = ()
    locked: tuple[int, ...] = ()


@dataclass(frozen=True)
class Discarded:
    """What became of stale rows of which there is no archive.

    :param rows: how many were deleted
    :param skipped: whether some were left out, since others had locked them
    """

    rows: int
    skipped: bool = False


class Session(Protocol):
    """A connection. Outside ``transaction`` every statement commits by itself."""

    def transaction(
        self,
        *,
        walking: bool = False,
        durable: bool | None = None,
        statement_seconds: float | None = None,
        lock_seconds: float | None = None,
        idle_seconds: float | None = None,
    ) -> AbstractContextManager[None]:
        """Commit on leaving, roll back on an exception.

        :param walking: make the planner follow the walk's index
        :param durable: whether the commit waits for the disk, where the engine lets one choose; None: its own default
        :param statement_seconds: how long a statement may take
        :param lock_seconds: how long it waits for others' locks
        :param idle_seconds: how long it may be open and ask nothing, where the engine has a limit; default a minute
        """

    def execute(self, statement: Any, values: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement with bound values and give all its rows."""

    def change(self, statement: Any, values: Sequence[object] | Mapping[str, object] = ()) -> int:
        """Run one statement that changes rows, and give their number."""

    def insert_new(self, table: str, row: Mapping[str, object]) -> bool:
        """Insert a row; False when its key is there already."""

    def rollback(self) -> NoReturn:
        """Undo the transaction that it is called in, and go on behind it."""


class Database(Protocol):
    """One engine's answers to: what is this table, which rows, their values, deleting them, how busy is it.

    ``held`` is always the condition of the rows that a legal hold protects, or None without a hold.
    """

    engine: str
    measures: frozenset[str]
    """What ``measure`` knows of a table here."""

    @property
    def cold_tables(self) -> ColdTables:
        """The engine's way with cold tables."""

    # connections

    def session(self) -> AbstractContextManager[Any]:
        """Open a connection and close it at the end; driver errors leave as ours."""

    def cancel(self) -> None:
        """Cancel what all open sessions are running, from another connection."""

    def share_gate(self, session: Any, /) -> None:
        """Hold off, until this transaction ends, anyone who places a legal hold."""

    def changing_ledger(self, session: Any, /) -> AbstractContextManager[None]:
        """Keep others from changing the ledger's schema; where the engine can, all changes inside are one."""

    def ledger_grant(self, session: Any, /) -> str:
        """Give the statement by which an administrator makes the ledger's schema for us."""

    def close_gate(self, session: Any, /) -> None:
        """Wait for all batches under way, and hold off new ones until this transaction ends."""

    def give_way(self, session: Any, seconds: float, /) -> None:
        """Wait for others' locks no longer than this, until the transaction ends."""

    # what is this table

    def server(self, session: Any, /) -> Server:
        """Tell which server answers; refuse one that is read-only."""

    def inspect(self, session: Any, policy: Policy, /) -> Facts:
        """Read the table's facts, refusals and warnings from the catalogue."""

    def shape(self, session: Any, policy: Policy, /) -> Shape:
        """Read the table's columns and key alone, as a sensor does again and again."""

    def fingerprint(self, session: Any, table: TableName, /) -> str:
        """Digest everything about the table's schema that a purge relies on; refuse a table that is not there."""

    def ddl(self, session: Any, table: TableName, /) -> str:
        """Write the table's columns and key as SQL, a line for each."""

    def referenced(self, session: Any, selection: Selection, /) -> Iterator[str]:
        """Name the foreign keys whose rows point at stale ones; ask outside of a transaction."""

    def index_advice(self, table: TableName, columns: Sequence[str], /) -> str:
        """Give the statement that makes an index without keeping others out."""

    # which rows

    def predicate(self, session: Any, policy: Policy, table: Shape, window: Window, /) -> str:
        """Render the policy's stale rows within the window as one SQL condition."""

    def check_condition(self, session: Any, text: str, where: str, /) -> object:
        """Refuse SQL of a user's that is not one boolean expression; ``where`` names it in the error."""

    def key_columns(self, session: Any, table: TableName, /) -> tuple[Column, ...]:
        """Give the columns of the primary key, none when there is no key; refuse what is no table by itself."""

    def relatives(self, session: Any, table: TableName, names: Collection[TableName], /) -> Relatives:
        """Tell which of these names mean rows of the table, too."""

    def keys_condition(self, columns: Sequence[Column], keys: Sequence[Sequence[str]], /) -> str:
        """Write a condition that rows with these keys fulfil."""

    def try_condition(self, session: Any, table: TableName, condition: str, where: str, /) -> None:
        """Let the server read a condition without running it; ``where`` names it in the error."""

    def choose_walk(
        self, session: Any, policy: Policy, facts: Facts, condition: str, stale_fraction: float, /
    ) -> tuple[str, ...]:
        """Choose the columns whose index order the run follows: by age, unless by key it is cheaper.

        :param condition: which rows are stale
        :param stale_fraction: how much of the table is stale; 0 for a walk by age wherever an index has it
        """

    def hop(self, session: Any, selection: Selection, span: Span, rows: int, /) -> Bound | None:
        """Give the place in the span that so many stale rows lie before, None when it has no more."""

    def count_up_to(self, session: Any, table: TableName, condition: str, most: int, /) -> int:
        """Count rows that fulfil the condition, and stop counting at ``most``."""

    def estimate(self, session: Any, selection: Selection, /) -> int:
        """Give the planner's guess of how many rows are stale."""

    def leads_to(self, session: Any, table: TableName, column: str, /) -> bool:
        """Tell whether an index, or how the table is partitioned, leads to a column's values."""

    def full_scans(self, session: Any, selection: Selection, rows: int, /) -> bool:
        """Tell whether the planner would read the whole table for the first batch."""

    # their values and versions

    def arrow_schema(self, selection: Selection, /) -> pa.Schema:
        """Give the archive's columns: the table's own in their order, then the version."""

    def read(
        self, selection: Selection, span: Span, after: Bound | None, rows: int, held: str | None, /
    ) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """Stream rows of the span, behind ``after``, with their versions, in walk order, from one snapshot."""

    def place_of(self, selection: Selection, rows: pa.Table, index: int, /) -> Bound:
        """Give a row's place in the walk in the server's text form."""

    def as_archived(self, selection: Selection, keys: Sequence[Sequence[str]], /) -> list[Bound]:
        """Let the server read keys as people write them; give each as `place_of` gives an archived row's."""

    def encode_keys(self, selection: Selection, rows: pa.Table, /) -> bytes:
        """Give the rows' (key, version) pairs, in the form that the server's deletes return them."""

    def differing(self, session: Any, selection: Selection, rows: pa.Table, /) -> tuple[int, int]:
        """Load the rows beside the table; give how many the server could compare, and how many differ.

        Columns that the rows lack are not compared.
        """

    def count_fulfilling(self, session: Any, selection: Selection, rows: pa.Table, condition: str, /) -> int:
        """Load the rows beside the table, and count those for which a condition is true.

        Columns that the rows lack are unknown to it.
        """

    # deleting them

    def delete(
        self, session: Any, selection: Selection, rows: pa.Table, held: str | None, planned_on: Server, /
    ) -> bool:
        """Delete the range that the rows span; tell whether exactly these rows, in these versions, went.

        :param planned_on: the server, as it was when the run was planned
        """

    def delete_carefully(
        self, session: Any, selection: Selection, rows: pa.Table, ordinals: Sequence[int], held: str | None, /
    ) -> Outcomes:
        """Match row by row without waiting, delete the identical rows, and say what became of the others."""

    def delete_stale(  # noqa: PLR0913 - which rows, and how
        self, session: Any, selection: Selection, span: Span, rows: int, held: str | None, /, *, careful: bool
    ) -> Discarded:
        """Delete the span's stale rows, of which there is no archive; carefully: without locked ones.

        :param rows: how many there were when somebody looked
        """

    # putting them back

    def restore_rows(
        self, session: Any, selection: Selection, rows: pa.Table, target: TableName, where: str | None, /
    ) -> Restored:
        """Insert archived rows whose keys are free, and compare them with what the table then holds."""

    # how busy is it

    def clock(self, session: Any, /) -> float:
        """Give the database's own clock, in seconds since 1970."""

    def measure(self, session: Any, table: TableName, names: Collection[str], /) -> dict[str, float]:
        """Measure some of ``measures``; refuse a figure that the server does not know or cannot be believed in."""

    def oldest_age_seconds(
        self, session: Any, table: TableName, stale: OlderThan | Expired, condition: str, /
    ) -> float | None:
        """Give the age of the oldest stale row; None when no row is stale."""

    limits: frozenset[str]
    """The limits of a pace that the engine can observe."""

    def busy(self, session: Any, table: TableName, pace: Pace, /) -> Iterator[str]:
        """Give every reason to pause that the server itself shows: those that the pace limits."""

    def waiters(self, session: Any, /) -> int:
        """Count who waits for a row now, as a transaction that has locked some is about to end."""

    def replica_lags(self, session: Any, /) -> list[float | None]:
        """Give how many seconds a replica is behind each of its primaries; None where it does not replicate."""

    def vacuum(self, session: Any, table: TableName, /) -> tuple[str, ...]:
        """Let the table use the space of deleted rows again, and renew statistics; give what the server remarked."""

    def analyze(self, session: Any, table: TableName, /) -> tuple[str, ...]:
        """Renew the table's statistics; give what the server remarked."""

    def optimize(self, session: Any, policy: Policy, /) -> str | None:
        """Copy the table so that free space goes back to the disk; where that would hurt, leave it and say why."""
