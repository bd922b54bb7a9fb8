"""Rows on their way into the server, in INSERTs that its packets take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.errors import NotLossless

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from airflow_dbhygiene.databases.mysql.session import MySqlSession

_ROWS_AT_A_TIME: Final = 500
_BYTES_AT_A_TIME: Final = 4 * 2**20


def pieces(rows: pa.Table | pa.RecordBatch) -> Iterator[tuple[int, pa.Table | pa.RecordBatch]]:
    """Cut rows into pieces of which SQL can be written at once; give the place of each piece's first row."""
    wide = max(1, rows.nbytes // max(1, rows.num_rows))
    step = max(1, min(_ROWS_AT_A_TIME, _BYTES_AT_A_TIME // wide))
    for start in range(0, rows.num_rows, step):
        yield start, rows.slice(start, step)


def insert(session: MySqlSession, into: str, rows: Iterable[str]) -> None:
    """Insert rows, as many with each statement as a quarter of the server's packet holds.

    :param into: a table's name, with or without its columns
    :param rows: values in parentheses
    :raises NotLossless: when a row alone is too long for the server's max_allowed_packet
    """
    longest = int(session.execute("SELECT @@max_allowed_packet")[0][0])
    for values in _together(rows, min(_BYTES_AT_A_TIME, longest // 4)):
        statement = f"INSERT INTO {into} VALUES {values}"
        if len(statement) >= longest:
            message = (
                f"a row takes {len(statement):,} bytes in a statement, and the server's max_allowed_packet is "
                f"{longest:,}: raise that setting."
            )
            raise NotLossless(message)
        session.execute(statement)


def _together(rows: Iterable[str], most_bytes: int) -> Iterator[str]:
    gathered: list[str] = []
    size = 0
    for row in rows:
        if gathered and size + len(row) > most_bytes:
            yield ", ".join(gathered)
            gathered, size = [], 0
        gathered.append(row)
        size += len(row) + 2
    if gathered:
        yield ", ".join(gathered)
