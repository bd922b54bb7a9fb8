"""Deleting stale rows of which there is no archive: those of a piece of the walk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from airflow_dbhygiene.databases.postgres.walk import hop, within
from airflow_dbhygiene.databases.protocol import Discarded

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.databases.protocol import Selection, Span


def delete_stale(  # noqa: PLR0913 - the protocol's own parameters
    session: PostgresSession,
    selection: Selection,
    span: Span,
    rows: int,  # noqa: ARG001 - MySQL's needs a LIMIT
    held: str | None,
    *,
    careful: bool,
) -> Discarded:
    """Delete the span's stale rows that no hold protects.

    :param rows: how many there were when somebody looked
    :param careful: skip rows that others have locked, instead of waiting for them
    """
    statement = (_CAREFULLY if careful else _AT_ONCE).format(
        table=sql.Identifier(selection.table.schema, selection.table.table),
        key=sql.SQL(", ").join(map(sql.Identifier, selection.key)),
        piece=within(selection, span),
        held=sql.SQL(held or "false"),
    )
    if careful:
        deleted = session.change(statement)
        return Discarded(deleted, skipped=_stale_left(session, selection, span, held))
    with session.before_a_deadlock():
        return Discarded(session.change(statement))


def _stale_left(session: PostgresSession, selection: Selection, span: Span, held: str | None) -> bool:
    """Tell whether the span holds a stale row that no hold protects."""
    unheld = f"({selection.predicate}) AND ({held or 'FALSE'}) IS NOT TRUE"
    return hop(session, replace(selection, predicate=unheld), span, 0) is not None


_AT_ONCE = sql.SQL("DELETE FROM {table} WHERE {piece} AND ({held}) IS NOT TRUE")

_CAREFULLY = sql.SQL(
    "DELETE FROM {table} WHERE ({key}) IN ("
    "SELECT {key} FROM {table} WHERE {piece} AND ({held}) IS NOT TRUE FOR UPDATE SKIP LOCKED)"
    " AND {piece} AND ({held}) IS NOT TRUE"
)
