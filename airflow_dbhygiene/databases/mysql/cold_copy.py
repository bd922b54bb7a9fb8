"""Rows copied into a cold table beside: by the server alone, and where there are many, by two connections."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.databases import cold
from airflow_dbhygiene.databases.mysql.cold_compare import lies
from airflow_dbhygiene.databases.mysql.meanwhile import WORTH_TWO, meanwhile
from airflow_dbhygiene.databases.mysql.rows import version_sql
from airflow_dbhygiene.databases.mysql.types import inexact, inexact_sql
from airflow_dbhygiene.databases.mysql.walk import hop, source, within
from airflow_dbhygiene.databases.mysql.writing import lenient, listed, literal, spelled

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.cold import Copied, Origin
    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Selection, Span

NOW: Final = "utc_timestamp(6)"


def copy(  # noqa: PLR0913, PLR0917 - the protocol's own parameters
    session: MySqlSession, selection: Selection, span: Span, held: str | None, to: Copied, origin: Origin
) -> Copied:
    """Copy rows in the order of the walk, the first of many on a second connection at the same time.

    READ COMMITTED: no row of the table is locked for it. What the second one commits belongs to no archive before
    the object's receipt. This one has read from the table before, so that nobody changes its columns meanwhile.
    """
    unheld = replace(selection, predicate=f"({selection.predicate}) AND ({held or 'FALSE'}) IS NOT TRUE")
    middle = hop(session, unheld, span, WORTH_TWO)
    if middle is None:
        rows = _insert(session, unheld, span, to, origin)
    else:
        halves = replace(span, upper=middle), replace(span, lower=middle)
        rows = _insert_by_two(session, unheld, halves, to, origin)
    copied = replace(to, end=to.first + rows)
    _refuse_inexact(session, selection, copied)
    return copied


def _insert(  # noqa: PLR0913, PLR0917 - which rows, where, and for whom
    session: MySqlSession, selection: Selection, span: Span, to: Copied, origin: Origin, most: int | None = None
) -> int:
    session.execute("SET @dbhygiene_ordinal = %s", (to.first - 1,))
    columns = listed(column.name for column in selection.columns)
    statement = (
        f"INSERT INTO {spelled(to.table)} ({listed(cold.OWN)}, {columns})"
        f" SELECT {to.object}, (@dbhygiene_ordinal := @dbhygiene_ordinal + 1), {version_sql(selection)},"
        f" {NOW}, {origin.chunk}, {literal(origin.run)}, {columns}"
        f" FROM {source(session, selection)} WHERE {within(selection, span)} ORDER BY {listed(selection.walk)}"
        f"{'' if most is None else f' LIMIT {most}'}"
    )
    # The values pass between columns of the same types: nothing could be cut to fit, and verify compares them.
    return session.change(lenient(statement, mariadb=session.flavour.mariadb))


def _insert_by_two(
    session: MySqlSession, selection: Selection, spans: tuple[Span, Span], to: Copied, origin: Origin
) -> int:
    """Copy the second span as if the first had as many rows as were counted; once more if it has fewer.

    Of rows that came since, as many stay, for a later run: their ordinals are taken.
    """
    session.execute("SAVEPOINT dbhygiene_none_copied")
    with meanwhile(session, lambda second: _insert(second, selection, spans[0], to, origin, WORTH_TWO)) as others:
        rows = _insert(session, selection, spans[1], replace(to, first=to.first + WORTH_TWO), origin)
        first = others.result()
    if first != WORTH_TWO:
        session.execute("ROLLBACK TO SAVEPOINT dbhygiene_none_copied")
        rows = _insert(session, selection, spans[1], replace(to, first=to.first + first), origin)
    return first + rows


def _refuse_inexact(session: MySqlSession, selection: Selection, copied: Copied) -> None:
    """Refuse what a restore could not bring back, though it lies in the cold table as it was."""
    for column in selection.columns:
        condition = inexact_sql(column)
        looked = f"SELECT 1 FROM {spelled(copied.table)} WHERE {lies(copied)}"
        if condition and session.execute(f"{looked} AND {condition} LIMIT 1"):
            raise inexact(column)
