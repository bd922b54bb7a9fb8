"""archive into a cold table of the same database: the server copies object after object.

While it copies one, it digests the one before on a second connection, and looks on a third where the next one ends.
Each object has its own: a server may close what stands idle while another is at work.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.databases.protocol import Span
from airflow_dbhygiene.ledger import Ledger, ObjectReceipt
from airflow_dbhygiene.ledger.objects import Objects
from airflow_dbhygiene.steps.ahead import ahead
from airflow_dbhygiene.steps.schema import check_schema

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.cold import Copied
    from airflow_dbhygiene.steps.attempt import Attempt
    from airflow_dbhygiene.stores.protocol import Beside


@dataclass(frozen=True)
class _Copy:
    """One object that is committed, and has no receipt yet."""

    part: int
    name: str
    copied: Copied


def copy(attempt: Attempt, beside: Beside) -> list[ObjectReceipt]:
    """Copy object after object, each in a transaction of its own; a chunk has one at least."""
    receipts: list[ObjectReceipt] = []
    with (
        ahead(_spans(attempt, beside.object_rows)) as spans,
        ahead(_copies(attempt, beside, spans)) as copies,
    ):
        for each in copies:
            receipts.append(_receive(attempt, beside, each))
            attempt.progress.at(each.copied.end)
    attempt.progress.at(receipts[-1].first_ordinal + receipts[-1].rows, last=True)
    return receipts


def _spans(attempt: Attempt, rows: int) -> Generator[Span, None, None]:
    """Split so many stale rows after the other off the chunk's span."""
    database, span = attempt.site.database, attempt.chunk.span
    while True:
        with database.session() as session, session.transaction(walking=True):
            upper = database.hop(session, attempt.run.selection, span, rows)
        if upper is None:
            break
        yield Span(span.lower, upper)
        span = Span(upper, span.upper)
    yield span


def _copies(attempt: Attempt, beside: Beside, spans: Iterator[Span]) -> Generator[_Copy, None, None]:
    first = 0
    for part, span in enumerate(spans):
        with attempt.site.database.session() as session:
            each = _copy(attempt, beside, session, span, part, first)
        yield each
        first = each.copied.end


def _copy(attempt: Attempt, beside: Beside, session: Any, span: Span, part: int, first: int) -> _Copy:  # noqa: PLR0913, PLR0917 - which rows, and what they become
    """Commit without waiting for the disk: what is lost in a crash is lost with all behind it, and done again.

    :raises SchemaChanged: when the table that was read is not the one that was planned, though it be so again soon
    """
    name = attempt.name(part)
    with session.transaction(durable=False):
        held = Ledger(session).held_condition(attempt.site.database, attempt.run.policy)
        Objects(session).intend(attempt.chunk, attempt.nonce, part, name)
    with session.transaction(walking=True, durable=False):
        copied = beside.copy(session, attempt.run, span, held, name, attempt.notes(part, first))
        check_schema(attempt.site, session, attempt.run)  # nobody changes it until the copy is committed
    return _Copy(part, name, copied)


def _receive(attempt: Attempt, beside: Beside, each: _Copy) -> ObjectReceipt:
    """Digest what was committed, and record it. A copy that was changed in between is none: its transaction is another.

    Where no transaction stands beside a row, its version does, which verify compares with it.
    """
    with attempt.site.database.session() as session, session.transaction(durable=False):
        written = beside.digest(session, attempt.run, each.copied)
        return attempt.receive(session, each.part, each.copied.first, each.name, written)
