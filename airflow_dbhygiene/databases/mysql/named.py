"""Keys as people write them, as archived rows have them: the server itself reads them, and writes them again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from airflow_dbhygiene.databases.mysql.catalog import column_of
from airflow_dbhygiene.databases.mysql.rows import batch_of, line_sql, place_of
from airflow_dbhygiene.databases.mysql.values import literal_of
from airflow_dbhygiene.databases.mysql.writing import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.databases.protocol import Bound, Column, Selection

_KEYS: Final = "dbhygiene._dbhygiene_keys"
_ORDINAL: Final = "_dbhygiene_ordinal"
_AT_A_TIME: Final = 500


def as_archived(session: MySqlSession, selection: Selection, keys: Sequence[Sequence[str]]) -> list[Bound]:
    """Let the server read keys as people write them; give each as `place_of` gives an archived row's.

    :raises NotLossless: when a text is no value of its column's type
    """
    columns = tuple(column_of(selection.columns, name) for name in selection.key)
    by_key = replace(selection, walk=selection.key, columns=columns)
    definitions = ", ".join(f"{quoted(column.name)} {column.type} NULL" for column in columns)
    session.execute(
        f"CREATE TEMPORARY TABLE {_KEYS} ({_ORDINAL} int PRIMARY KEY, {definitions})"
        f" ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4"
    )
    for start in range(0, len(keys), _AT_A_TIME):
        session.execute(_insert(columns, keys[start : start + _AT_A_TIME], start))
    lines = session.execute(f"SELECT {line_sql(by_key)} FROM {_KEYS} ORDER BY {_ORDINAL}")
    session.execute(f"DROP TEMPORARY TABLE {_KEYS}")
    rows = pa.Table.from_batches([batch_of(by_key, [bytes(line) for (line,) in lines])])
    return [place_of(by_key, rows, i) for i in range(rows.num_rows)]


def _insert(columns: Sequence[Column], keys: Sequence[Sequence[str]], first: int) -> str:
    tuples = (
        ", ".join((str(ordinal), *(literal_of(column, text) for column, text in zip(columns, key, strict=True))))
        for ordinal, key in enumerate(keys, first)
    )
    return f"INSERT INTO {_KEYS} VALUES {', '.join(f'({each})' for each in tuples)}"
