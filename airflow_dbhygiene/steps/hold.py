"""hold: place, list and release legal holds. A hold binds every purge of its table from the next batch on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_dbhygiene.errors import HygieneError, IllegalMove, NotFound, NotLossless, PolicyInvalid
from airflow_dbhygiene.ledger import Ledger, migrate
from airflow_dbhygiene.ledger.holds import Hold, Holds
from airflow_dbhygiene.policy.names import TableName, parse_table_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from airflow_dbhygiene.steps.site import Site

Key = tuple[str, ...]

_COUNT_SECONDS: Final = 10.0
_COUNT_ROWS: Final = 1_000_000
_GATE_SECONDS: Final = 30.0


@dataclass(frozen=True)
class HoldWish:
    """What to protect, why and for how long: rows that fulfil ``where``, or rows with these ``keys``.

    :param table: schema.table
    :param reason: the case, for whoever asks later
    :param placed_by: who wants it
    :param where: one boolean SQL expression over the table's columns; a row for which it is NULL is held too
    :param keys: values of the primary key as text, in the key's own order; bytes in hexadecimal digits
    :param until: when the hold ends by itself; None means when it is released
    :param hold_id: what to release it by; made up when it is None
    """

    table: str
    reason: str
    placed_by: str
    where: str | None = None
    keys: tuple[Key, ...] = ()
    until: datetime | None = None
    hold_id: str | None = None


@dataclass(frozen=True)
class Placed:
    """A hold, and how many rows it protects now: at most a million are counted, and None means that it took too long.

    Fewer rows than one expects are a sign of a wrong condition.
    """

    hold: Hold
    rows: int | None


def place_hold(site: Site, wish: HoldWish) -> Placed:
    """Protect rows. Batches under way end first; those that begin later see the hold. The same wish again does nothing.

    With a later ``until``, or with none, the hold that stands lasts so long; one that was over binds again.

    :raises PolicyInvalid: when the condition is not one boolean expression, or the keys do not fit the primary key
    :raises NotFound: when there is no such table or column
    :raises StatementFailed: when the server rejects the condition
    :raises IllegalMove: when the id belongs to another hold, to one that was released, or to one that lasts longer; and
        when the hold would be over at once
    """
    table = parse_table_name(wish.table)
    with site.database.session() as session:
        predicate = _predicate(site, session, table, wish)
        migrate(site.database, session)
        hold_id = wish.hold_id or f"hold-{os.urandom(5).hex()}"
        with session.transaction(lock_seconds=_GATE_SECONDS, durable=True):
            site.database.close_gate(session)
            fields = {"hold_id": hold_id, "table_name": str(table), "predicate": predicate}
            hold = _write(Holds(session), fields | {"reason": wish.reason, "placed_by": wish.placed_by}, wish.until)
        return Placed(hold, _count(site, session, table, predicate))


def list_holds(site: Site, table: str | None = None, *, released: bool = False) -> tuple[Hold, ...]:
    """Give the holds that bind, of a table or of all; with ``released``, also those that are over."""
    with site.database.session() as session:
        if not Ledger.exists(session):
            return ()
        return tuple(hold for hold in Holds(session).listed(table) if released or hold.binding)


def release_hold(site: Site, hold_id: str, released_by: str) -> Hold:
    """End a hold: its rows may go with the next run that finds them stale. Releasing twice changes nothing.

    :raises NotFound: when there is no hold of that id
    """
    with site.database.session() as session:
        if Ledger.exists(session):
            Holds(session).release(hold_id, released_by)
            if hold := Holds(session).find(hold_id):
                return hold
    raise NotFound(f"hold {hold_id!r} is not in this database's ledger: list the holds to see their ids.")


def parse_keys(lines: Iterable[str]) -> tuple[Key, ...]:
    """Read keys as people write them: a value a line, or a JSON list a line for a key of several columns."""
    return tuple(_parse_key(line.strip()) for line in lines if line.strip())


def _parse_key(line: str) -> Key:
    if not line.startswith("["):
        return (line,)
    try:
        values = json.loads(line)
    except ValueError as error:
        raise PolicyInvalid(f'key {line!r} is no JSON list: write ["2013-01-01", "UA", "1545"].') from error
    return tuple(value if isinstance(value, str) else json.dumps(value) for value in values)


def _predicate(site: Site, session: Any, table: TableName, wish: HoldWish) -> str:
    columns = site.database.key_columns(session, table)
    if bool(wish.where) == bool(wish.keys):
        raise PolicyInvalid(f"a hold on {table} needs either a condition or a list of keys.")
    if wish.where:
        site.database.check_condition(session, wish.where, f"the hold on {table}")
        predicate = wish.where
    else:
        if not columns:
            raise PolicyInvalid(f"table {table} has no primary key: give a condition instead.")
        names = ", ".join(column.name for column in columns)
        if odd := next((key for key in wish.keys if len(key) != len(columns) or "\0" in "".join(key)), None):
            raise PolicyInvalid(f"key {odd!r} does not fit the primary key of {table}: ({names}).")
        try:
            predicate = site.database.keys_condition(columns, wish.keys)
        except NotLossless as error:
            raise PolicyInvalid(f"a key does not fit the primary key of {table} ({names}): {error}") from error
    site.database.try_condition(session, table, predicate, f"the hold on {table}")
    return predicate


def _write(holds: Holds, fields: dict[str, str], until: datetime | None) -> Hold:
    """Place a hold, or move the end of the one that has its id; behind a closed gate."""
    holds.place(fields, until)
    place = fields["hold_id"], fields["table_name"], fields["predicate"]
    if _later(until, _same(holds, *place, "use another id").until_at):
        holds.prolong(fields, until)
    hold = standing(holds, *place, "give a later until, or none")
    if hold.until_at != until:
        message = f"hold {hold.hold_id!r} lasts longer, until {_end(hold)}: release it when it is to end sooner."
        raise IllegalMove(message)
    return hold


def standing(holds: Holds, hold_id: str, table: str, predicate: str, fix: str) -> Hold:
    """Give the hold of an id, if it says the same and binds.

    :raises IllegalMove: when the id belongs to another hold, or to one that was released or is over: none binds again
        by chance
    """
    hold = _same(holds, hold_id, table, predicate, fix)
    if not hold.binding:
        raise IllegalMove(f"hold {hold_id!r} is over since {_end(hold)}, and protects nothing: {fix}.")
    return hold


def _same(holds: Holds, hold_id: str, table: str, predicate: str, fix: str) -> Hold:
    hold = holds.find(hold_id)
    assert hold is not None  # noqa: S101 - it was placed just now, or before
    if hold.released_at is not None:
        message = f"hold {hold.hold_id!r} was released at {hold.released_at:%F %T} UTC by {hold.released_by}: {fix}."
        raise IllegalMove(message)
    if (parse_table_name(hold.table), hold.predicate) != (parse_table_name(table), predicate):
        raise IllegalMove(f"hold {hold.hold_id!r} protects other rows already, of {hold.table}: {fix}.")
    return hold


def _later(until: datetime | None, end: datetime | None) -> bool:
    return end is not None and (until is None or until > end)


def _end(hold: Hold) -> str:
    return f"{hold.until_at:%F %T} UTC" if hold.until_at else "it is released"


def _count(site: Site, session: Any, table: TableName, predicate: str) -> int | None:
    """Count what a hold protects; it binds already, so that nothing here may fail it."""
    try:
        with session.transaction(statement_seconds=_COUNT_SECONDS):
            held = f"((\n{predicate}\n) IS NOT FALSE)"
            return int(site.database.count_up_to(session, table, held, _COUNT_ROWS))
    except HygieneError:
        return None
