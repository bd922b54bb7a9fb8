"""The ledger's schema, made and brought up to date by the plan step.

A migration only adds, so that workers of the previous version go on. One that must break them says so in
``OLDEST_READER``: the lowest version of the ledger that code may know and still use it.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import LedgerIncompatible, PrivilegeMissing

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Database

VERSION = 7
OLDEST_READER = 1

_EXISTS = "SELECT 1 FROM information_schema.tables WHERE table_schema = 'dbhygiene' AND table_name = 'migration'"
_SCHEMA = "SELECT 1 FROM information_schema.schemata WHERE schema_name = 'dbhygiene'"
_MIGRATION = """
CREATE TABLE IF NOT EXISTS dbhygiene.migration (
    version       integer PRIMARY KEY,
    oldest_reader integer NOT NULL,
    applied_at    {moment} NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
)
"""
_MOMENT = {"postgresql": "timestamptz", "mysql": "datetime(6)"}


def migrate(database: Database, session: Any) -> None:
    """Bring the ledger to this version; do nothing when it is there already.

    :raises LedgerIncompatible: when a newer version wrote it, and says that this one cannot read it
    :raises PrivilegeMissing: with the statement that an administrator must run
    """
    if version_of(session) >= VERSION:
        return
    try:
        with database.changing_ledger(session):
            _bring_up_to_date(database, session)
    except PrivilegeMissing as error:
        message = f"the ledger's schema cannot be made, or brought up to date: {error}. An administrator runs once: "
        raise PrivilegeMissing(message + database.ledger_grant(session)) from error


def _bring_up_to_date(database: Database, session: Any) -> None:
    # IF NOT EXISTS would ask for the right to create schemas even where an administrator has made this one.
    if not session.execute(_SCHEMA):
        session.execute("CREATE SCHEMA dbhygiene")
    session.execute(_MIGRATION.format(moment=_MOMENT[database.engine]))
    for version in range(version_of(session) + 1, VERSION + 1):
        for statement in _statements(database.engine, version):
            session.execute(statement)
        session.insert_new("dbhygiene.migration", {"version": version, "oldest_reader": OLDEST_READER})


def version_of(session: Any) -> int:
    """Give the ledger's version, 0 when there is none.

    :raises LedgerIncompatible: when a newer version wrote it, and says that this one cannot read it
    """
    if not session.execute(_EXISTS):
        return 0
    version, oldest = session.execute(
        "SELECT coalesce(max(version), 0), coalesce(max(oldest_reader), 0) FROM dbhygiene.migration"
    )[0]
    if oldest > VERSION:
        message = (
            f"the ledger (schema dbhygiene) has version {version}, and this package knows version {VERSION}: "
            f"upgrade airflow-dbhygiene on this worker."
        )
        raise LedgerIncompatible(message)
    return int(version)


def _statements(engine: str, version: int) -> list[str]:
    folder = resources.files("airflow_dbhygiene.ledger") / "sql" / engine
    script = next(path for path in folder.iterdir() if path.name.startswith(f"{version:04}_")).read_text()
    return [statement for statement in script.split(";\n") if statement.strip()]
