"""Names of tables as people write them: ``public.flights`` or ``"my schema"."table; x"``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_dbhygiene.errors import PolicyInvalid

_PART = re.compile(r'"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^\s".;]+)')


@dataclass(frozen=True)
class TableName:
    """Schema and table, exactly as the server's catalogue spells them."""

    schema: str
    table: str

    def __str__(self) -> str:
        """Spell the name so that parsing it again gives the same parts."""
        return ".".join(_spell(part) for part in (self.schema, self.table))


_PLACE = re.compile(r'(?:(?P<conn_id>[^"@]+)@)?(?P<table>.*)', re.DOTALL)


def parse_place(text: str) -> tuple[str | None, TableName]:
    """Split ``history_pg@cold.flights`` into a connection id, None without one, and a table's name.

    :raises PolicyInvalid: when what follows the connection id is no schema.table
    """
    found = _PLACE.fullmatch(text)
    assert found is not None  # noqa: S101 - the pattern takes any text
    return found["conn_id"], parse_table_name(found["table"])


def parse_table_name(text: str) -> TableName:
    """Split at the dot; double quotes hold what a plain name cannot.

    Names are not folded: write them as the catalogue does.

    :raises PolicyInvalid: when there is no schema, or the quotes do not match
    """
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        parts.append(match["plain"] or match["quoted"].replace('""', '"'))
        position = match.end()
        if position == len(text) or text[position] != ".":
            break
        position += 1
    if position != len(text) or len(parts) != 2:  # noqa: PLR2004 - a schema and a table
        message = (
            f"table {text!r} is not schema.table. Name the schema too (public.flights), and put a part with spaces, "
            f'dots or quotes in double quotes ("my schema"."my table").'
        )
        raise PolicyInvalid(message)
    return TableName(*parts)


def _spell(part: str) -> str:
    return part if re.fullmatch(r"[^\s\".;]+", part) else '"' + part.replace('"', '""') + '"'
