"""Copies beside the rows that they were made of: compared, and deleted by, on the server."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from psycopg import sql

from airflow_dbhygiene.databases import cold
from airflow_dbhygiene.databases.postgres import cold_look
from airflow_dbhygiene.databases.postgres.condition import table_sql
from airflow_dbhygiene.databases.postgres.rows import fence

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.cold import Copied
    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.databases.protocol import Selection

_WORTH_SHARING: Final = 20_000
"""Rows; a purge's careful batch has no more, and takes no processes from others."""

_PLACE: Final = sql.SQL("hot.ctid = copied.{}").format(sql.Identifier(cold_look.PLACE))


def compared(session: PostgresSession, selection: Selection, copied: Copied) -> tuple[int, int]:
    """Compare with the rows that lie where they lay; by key where these are not identical to their copies.

    Where all rows have moved, another row of the same version may lie there.

    :returns: how many rows have the version that was copied, and how many of these are identical to their copies
    """
    session.one_by_one()
    in_place = _in_place(session, selection, copied)
    with session.shared() if copied.rows > _WORTH_SHARING else nullcontext():
        if in_place and (found := _compared(session, selection, copied, _PLACE)) == (copied.rows, copied.rows):
            return found
        return _compared(session, selection, copied, _keys(selection))


def delete(session: PostgresSession, selection: Selection, copied: Copied, held: str | None) -> int:
    """Delete what is stale, not held, and identical to its copy, to the bit.

    The copy's columns have other names here, since conditions call the table's by theirs alone.
    """
    session.one_by_one()
    if in_place := _in_place(session, selection, copied):
        session.as_they_lie()
    hot = table_sql(selection.table)
    renamed = {column.name: sql.Identifier(f"_dbhygiene_{i}") for i, column in enumerate(selection.columns)}
    same_key = [sql.SQL("{}.{} = {}").format(hot, sql.Identifier(name), renamed[name]) for name in selection.key]
    same_place = sql.SQL("{}.ctid = _dbhygiene_place").format(hot)
    statement = sql.SQL(
        "DELETE FROM {hot} USING (SELECT {renamed}, {version} AS _dbhygiene_version, {place} AS _dbhygiene_place"
        " FROM {cold} AS copied WHERE {lies}) AS _dbhygiene_copied WHERE {joined}"
        " AND {hot}.xmin = _dbhygiene_version AND {same} AND ({stale}) AND ({held}) IS NOT TRUE"
    ).format(
        hot=hot,
        renamed=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(name), other) for name, other in renamed.items()
        ),
        version=sql.Identifier(cold.VERSION),
        place=sql.Identifier(cold_look.PLACE),
        cold=table_sql(copied.table),
        lies=lies(copied),
        joined=same_place if in_place else sql.SQL(" AND ").join(same_key),
        same=sql.SQL("ROW({})::record *= ROW({})::record").format(
            sql.SQL(", ").join(sql.SQL("{}.{}").format(hot, sql.Identifier(name)) for name in renamed),
            sql.SQL(", ").join(renamed.values()),
        ),
        stale=sql.SQL(selection.predicate),
        held=sql.SQL(held or "false"),
    )
    with session.before_a_deadlock():
        return session.change(statement)


def lies(copied: Copied) -> sql.Composed:
    """Say that a row of a cold table is one of these."""
    written = "" if copied.writer is None else f" AND copied.xmin = '{int(copied.writer)}'"
    return sql.SQL("copied.{} = {} AND copied.{} >= {} AND copied.{} < {}{}").format(
        sql.Identifier(cold.OBJECT),
        sql.Literal(copied.object),
        sql.Identifier(cold.ORDINAL),
        sql.Literal(copied.first),
        sql.Identifier(cold.ORDINAL),
        sql.Literal(copied.end),
        sql.SQL(written),
    )


def _in_place(session: PostgresSession, selection: Selection, copied: Copied) -> bool:
    """Tell whether the first row, as it was copied, lies where it lay: VACUUM FULL, CLUSTER and the like move rows."""
    first = copied.part(copied.first, copied.first + 1)
    return _compared(session, selection, first, _PLACE) == (1, 1)


def _compared(session: PostgresSession, selection: Selection, copied: Copied, joined: sql.Composed) -> tuple[int, int]:
    """Count rows in the version that was copied, and those of them that are identical to their copies.

    By record images: ``=`` would call 1.0 and 1.00 equal, ``*=`` does not. The join expects more rows where it does
    not compare versions; of very few the planner would let one process count what the others find.
    """
    statement = sql.SQL(
        "SELECT count(*) FILTER (WHERE unchanged), count(*) FILTER (WHERE unchanged AND same)"
        " FROM (SELECT hot.xmin = copied.{version} AS unchanged, ROW({hots})::record *= ROW({copies})::record AS same"
        " FROM {cold} AS copied JOIN {hot} AS hot ON {joined} WHERE {lies}{fence}) AS compared"
    ).format(
        fence=fence(selection),
        hots=_owned("hot", selection),
        copies=_owned("copied", selection),
        cold=table_sql(copied.table),
        hot=table_sql(selection.table),
        joined=joined,
        lies=lies(copied),
        version=sql.Identifier(cold.VERSION),
    )
    compared, equal = session.execute(statement)[0]
    return int(compared), int(equal)


def _owned(owner: str, selection: Selection) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(owner, column.name) for column in selection.columns)


def _keys(selection: Selection) -> sql.Composed:
    return sql.SQL(" AND ").join(sql.SQL("hot.{0} = copied.{0}").format(sql.Identifier(name)) for name in selection.key)
