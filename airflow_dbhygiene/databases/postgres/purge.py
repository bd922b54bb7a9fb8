"""Deleting them: first a whole range at once, compared exactly; where that differs, row by row.

The range is fast because the server walks one index. It looks each row up in a map of the archived keys, where a map
can hold them; else it gives all deleted rows' keys and versions back as a few values of bytes, which are compared with
the same bytes made from the archive. Nothing is committed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from airflow_dbhygiene.databases.postgres import keymap, pairs
from airflow_dbhygiene.databases.postgres.rows import place_of, text_of
from airflow_dbhygiene.databases.postgres.walk import between, one_heap
from airflow_dbhygiene.databases.protocol import VERSION_COLUMN, Outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.databases.protocol import Selection, Server


_ANY = sql.SQL("true")


def delete(
    session: PostgresSession, selection: Selection, rows: pa.Table, held: str | None, planned_on: Server
) -> bool:
    """Delete the range that the archived rows span; tell whether exactly these, in these versions, were deleted.

    :param rows: the batch's archived keys and versions, in the order of the walk
    :param held: condition of the rows that a legal hold protects
    :param planned_on: the server, as it was when the run was planned
    """
    # Whoever attaches a partition brings rows of old transactions into the table.
    archived = keymap.archived(selection, rows, planned_on.transaction) if one_heap(session, selection) else None
    with session.before_a_deadlock():
        if archived is not None:
            return session.change(_range(selection, rows, held, archived)) == rows.num_rows
        deleted = tuple(cells or b"" for cells in session.execute_binary(_returning(selection, rows, held))[0])
    wanted = pairs.expected(selection, rows)
    return deleted == wanted or pairs.same_records(selection, deleted, wanted)


def delete_carefully(
    session: PostgresSession, selection: Selection, rows: pa.Table, ordinals: Sequence[int], held: str | None
) -> Outcomes:
    """Delete those archived rows that are still identical and not locked, and say what became of the others.

    A row that is locked, or that changes between the two statements, counts as locked: a later look decides.
    """
    values = {"archived": _archived(selection, rows, ordinals), **_parts(selection, held)}
    session.one_by_one()
    seen = {ordinal: state for ordinal, *state in session.execute(_LOOK.format(**values))}
    purged = {row[0] for row in session.execute(_DELETE.format(**values))}
    outcomes: dict[str, list[int]] = {"drifted": [], "held": [], "vanished": [], "locked": []}
    for ordinal in ordinals:
        if ordinal not in purged:
            outcomes[_outcome(seen.get(ordinal))].append(ordinal)
    return Outcomes(len(purged), **{name: tuple(found) for name, found in outcomes.items()})


def _range(selection: Selection, rows: pa.Table, held: str | None, also: sql.Composable = _ANY) -> sql.Composed:
    parts = _parts(selection, held)
    first, last = place_of(selection, rows, 0), place_of(selection, rows, rows.num_rows - 1)
    return sql.SQL("DELETE FROM {table} WHERE {batch} AND {stale} AND ({held}) IS NOT TRUE AND {also}").format(
        batch=between(selection, (">=", first), ("<=", last)),
        also=also,
        **{name: parts[name] for name in ("table", "stale", "held")},
    )


def _returning(selection: Selection, rows: pa.Table, held: str | None) -> sql.Composed:
    return sql.SQL(
        "WITH _dbhygiene_deleted AS ({range} RETURNING {returned}) SELECT {sent} FROM _dbhygiene_deleted"
    ).format(range=_range(selection, rows, held), returned=pairs.returned(selection), sent=pairs.sent(selection))


def _parts(selection: Selection, held: str | None) -> dict[str, sql.Composable]:
    table = sql.Identifier(selection.table.schema, selection.table.table)
    joined = [
        sql.SQL("{table}.{name} = _dbhygiene_archived.{alias}::{type}").format(
            table=table,
            name=sql.Identifier(column.name),
            alias=sql.Identifier(f"_dbhygiene_key_{i}"),
            type=sql.SQL(column.type),
        )
        for i, column in enumerate(pairs.key_columns(selection))
    ]
    return {
        "table": table,
        "bare_table": sql.Identifier(selection.table.table),
        "same_key": sql.SQL(" AND ").join(joined),
        "stale": sql.SQL("({})").format(sql.SQL(selection.predicate)),
        "held": sql.SQL(held or "false"),
    }


_LOOK = sql.SQL(
    "SELECT _dbhygiene_ordinal, {table}.xmin::text::bigint = _dbhygiene_version, {stale} IS TRUE, ({held}) IS TRUE"
    " FROM {archived} JOIN {table} ON {same_key}"
)

_DELETE = sql.SQL(
    "WITH _dbhygiene_locked AS ("
    "SELECT _dbhygiene_archived.* FROM {archived} JOIN {table} ON {same_key}"
    " WHERE {table}.xmin::text::bigint = _dbhygiene_version AND {stale} AND ({held}) IS NOT TRUE"
    " FOR UPDATE OF {bare_table} SKIP LOCKED)"
    " DELETE FROM {table} USING _dbhygiene_locked AS _dbhygiene_archived"
    " WHERE {same_key} AND {table}.xmin::text::bigint = _dbhygiene_version AND {stale} AND ({held}) IS NOT TRUE"
    " RETURNING _dbhygiene_ordinal"
)


def _archived(selection: Selection, rows: pa.Table, ordinals: Sequence[int]) -> sql.Composed:
    """Give the archived keys, versions and ordinals as a table that SQL can join."""
    arrays: list[sql.Composable] = [sql.SQL("{}::bigint[]").format(sql.Literal(list(ordinals)))]
    arrays.append(sql.SQL("{}::bigint[]").format(sql.Literal(rows.column(VERSION_COLUMN).to_pylist())))
    names = ["_dbhygiene_ordinal", "_dbhygiene_version"]
    for i, column in enumerate(pairs.key_columns(selection)):
        texts = [text_of(value) for value in rows.column(column.name)]
        arrays.append(sql.SQL("{}::text[]").format(sql.Literal(texts)))  # an array of arrays would be taken for one
        names.append(f"_dbhygiene_key_{i}")
    return sql.SQL("unnest({}) AS _dbhygiene_archived({})").format(
        sql.SQL(", ").join(arrays), sql.SQL(", ").join(map(sql.Identifier, names))
    )


def _outcome(state: list[Any] | None) -> str:
    if state is None:
        return "vanished"
    same, stale, held = state
    if not same:
        return "drifted"
    if held:
        return "held"
    return "locked" if stale else "drifted"
