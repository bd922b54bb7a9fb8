"""How the schema of a table is changed, and changed back, on each engine; its key is ``id``, its age ``at``."""

from __future__ import annotations

from typing import Final

_EVERYWHERE: Final = {
    "add": ("ALTER TABLE {table} ADD COLUMN {column} varchar(20) DEFAULT 'late'",),
    "drop": ("ALTER TABLE {table} DROP COLUMN {column}",),
    "put back": ("ALTER TABLE {table} ADD COLUMN {column} {type}",),
    "rename": ("ALTER TABLE {table} RENAME COLUMN {column} TO {other}",),
    "no child": ("DROP TABLE IF EXISTS {child}",),
    "index": ("CREATE INDEX {name}_at_id ON {table} (at, id)",),
    "truncate": ("TRUNCATE TABLE {table}",),
    "key": ("ALTER TABLE {table} ADD CONSTRAINT {name}_key FOREIGN KEY ({column}) REFERENCES {other}",),
}
_POSTGRES: Final = {
    "analyze": ("ANALYZE {table}",),
    "child": ("CREATE TABLE {child} (parent bigint, FOREIGN KEY (parent) REFERENCES {table} ON DELETE CASCADE)",),
    "no key": ("ALTER TABLE {table} DROP CONSTRAINT {name}_key",),
    "no index": ("DROP INDEX IF EXISTS {name}_at_id",),
    "trigger": (
        (
            "CREATE OR REPLACE FUNCTION {name}_gone() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN {deed}; RETURN OLD; END $$"
        ),
        "CREATE TRIGGER {name}_gone BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {name}_gone()",
    ),
    "no trigger": ("DROP TRIGGER IF EXISTS {name}_gone ON {table}",),
    "hide": ("ALTER TABLE {table} RENAME TO {name}_aside",),
    "show": ("ALTER TABLE {table}_aside RENAME TO {name}",),
    "retype": ("ALTER TABLE {table} ALTER COLUMN {column} TYPE {type} USING {column}::{type}",),
}
_MYSQL: Final = {
    "analyze": ("ANALYZE TABLE {table}",),
    "child": (
        (
            "CREATE TABLE {child} (parent bigint, KEY (parent),"
            " FOREIGN KEY (parent) REFERENCES {table} (id) ON DELETE CASCADE)"
        ),
    ),
    "no key": ("ALTER TABLE {table} DROP FOREIGN KEY {name}_key, DROP INDEX {name}_key",),
    "no index": ("DROP INDEX {name}_at_id ON {table}",),
    "trigger": ("CREATE TRIGGER {name}_gone BEFORE DELETE ON {table} FOR EACH ROW {deed}",),
    "no trigger": ("DROP TRIGGER IF EXISTS {name}_gone",),
    "hide": ("RENAME TABLE {table} TO {table}_aside",),
    "show": ("RENAME TABLE {table}_aside TO {table}",),
    "retype": ("ALTER TABLE {table} MODIFY COLUMN {column} {type}",),
}
_ALREADY: Final = frozenset((
    "42701", "42703", "42710", "42704", "42P01", "42P07",
    1050, 1054, 1060, 1061, 1091, 1146, 1359, 1826,
))  # fmt: skip
"""What a server answers when a change is there, or is gone, already."""


def spelled(engine: str, change: str, table: str, **words: str) -> list[str]:
    """Spell a change of a table.

    :param table: its full name
    :param words: what else its statements name; ``deed`` is what a trigger does, nothing of note without
    """
    postgres, name = engine == "postgresql", table.rpartition(".")[2]
    statements = (_POSTGRES if postgres else _MYSQL).get(change) or _EVERYWHERE[change]
    words = {"name": name, "child": f"{name}_child", "deed": "NULL" if postgres else "SET @noted = OLD.id", **words}
    return [statement.format(table=table, **words) for statement in statements]


def is_already_so(code: object) -> bool:
    """Tell by a server's SQLSTATE or number whether a change failed because it was made before."""
    return code in _ALREADY
