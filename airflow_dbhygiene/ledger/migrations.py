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

VERSION = 1
OLDEST_READER = 1

_EXISTS = "SELECT pg_catalog.to_regclass('dbhygiene.migration') IS NOT NULL"
_SCHEMA_EXISTS = "SELECT pg_catalog.to_regnamespace('dbhygiene') IS NOT NULL"
_LOCK = "SELECT pg_catalog.pg_advisory_xact_lock(%s)"
_MIGRATION = """
CREATE TABLE IF NOT EXISTS dbhygiene.migration (
    version       integer PRIMARY KEY,
    oldest_reader integer NOT NULL,
    applied_at    timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
_MIGRATING = 0x6462_6879_6C65_6467


def migrate(database: Database, session: Any) -> None:
    """Bring the ledger to this version; do nothing when it is there already.

    :raises LedgerIncompatible: when a newer version wrote it, and says that this one cannot read it
    :raises PrivilegeMissing: with the statement that an administrator must run
    """
    if version_of(session) >= VERSION:
        return
    with session.transaction(lock_timeout="10s"):
        session.execute(_LOCK, (_MIGRATING,))
        try:
            # IF NOT EXISTS would ask for the right to create schemas even where an administrator has made this one.
            if not session.execute(_SCHEMA_EXISTS)[0][0]:
                session.execute("CREATE SCHEMA dbhygiene")
            session.execute(_MIGRATION)
        except PrivilegeMissing as error:
            raise PrivilegeMissing(_grants(session, error)) from error
        for version in range(version_of(session) + 1, VERSION + 1):
            session.execute(_script(database.engine, version))
            session.execute(
                "INSERT INTO dbhygiene.migration (version, oldest_reader) VALUES (%s, %s)", (version, OLDEST_READER)
            )


def version_of(session: Any) -> int:
    """Give the ledger's version, 0 when there is none.

    :raises LedgerIncompatible: when a newer version wrote it, and says that this one cannot read it
    """
    if not session.execute(_EXISTS)[0][0]:
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


def _grants(session: Any, error: PrivilegeMissing) -> str:
    return (
        f"the ledger's schema cannot be made: {error}. An administrator runs once, with the name of the role that the "
        f"Airflow connection uses: CREATE SCHEMA IF NOT EXISTS dbhygiene AUTHORIZATION "
        f"{session.connection.info.user};"
    )


def _script(engine: str, version: int) -> str:
    folder = resources.files("airflow_dbhygiene.ledger") / "sql" / engine
    return next(path for path in folder.iterdir() if path.name.startswith(f"{version:04}_")).read_text()
