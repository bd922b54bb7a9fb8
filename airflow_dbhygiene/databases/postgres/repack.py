"""pg_repack, where it is installed: a copy of the table, others writing meanwhile, that gives free space to the disk.

Rows of the copy have another xmin: what other runs have archived by then would look changed, and stay.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final

from psycopg import pq, sql

from airflow_dbhygiene.errors import StatementTimedOut

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.policy.names import TableName

_PROGRAM: Final = "pg_repack"
_LOCK_SECONDS: Final = 60
"""For the copy's place, it locks the table, and tries so for a moment at a time; after so long it gives up."""

_OLD_SECONDS: Final = 60
_LOOK_SECONDS: Final = 0.5
_END_SECONDS: Final = 4.0
"""Airflow gives a task five to end."""

_INHERITED: Final = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH")

_FACTS: Final = """
SELECT (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pg_repack'), current_user,
       pg_catalog.pg_has_role(c.relowner, 'USAGE'), c.relkind = 'p',
       coalesce(
           (SELECT 'publication ' || pg_catalog.quote_ident(pubname) FROM pg_catalog.pg_publication_tables
            WHERE schemaname = n.nspname AND tablename = c.relname LIMIT 1),
           (SELECT 'logical replication slot ' || slot_name FROM pg_catalog.pg_replication_slots
            WHERE slot_type = 'logical' AND database = current_database() LIMIT 1)
       )
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %s::pg_catalog.regclass
"""
_OLD_TRANSACTION: Final = """
SELECT pid, coalesce(application_name, ''), extract(epoch FROM clock_timestamp() - xact_start)::integer
FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND pid <> pg_catalog.pg_backend_pid()
  AND xact_start < clock_timestamp() - %s * interval '1 second'
ORDER BY xact_start LIMIT 1
"""
_FILE: Final = "SELECT pg_catalog.pg_relation_filenode(%s::pg_catalog.regclass)"
_LEFTOVERS: Final = """
SELECT repack.repack_drop(tgrelid, 4) FROM pg_catalog.pg_trigger
WHERE tgrelid = %s::pg_catalog.regclass AND tgname = 'repack_trigger'
  AND pg_catalog.pg_try_advisory_xact_lock(16185446, (-2147483648 + tgrelid::bigint)::integer)
"""
"""A program that was killed leaves a trigger, which fills a log for ever. The lock is the one that a living one has."""


def refusals(session: PostgresSession, table: TableName) -> Iterator[str]:
    """Say what stands in the way of a copy, with the fix."""
    extension, role, owner, partitioned, follower = session.execute(_FACTS, (_quoted(session, table),))[0]
    if extension is None:
        yield (
            "reclaim 'optimize' is the work of pg_repack here, and this database does not have it: install it and "
            "CREATE EXTENSION pg_repack; or set reclaim to 'vacuum'. (VACUUM FULL would lock readers out.)"
        )
        return
    if not owner:
        yield f"role {role} may not copy it, which only its owner may: set reclaim to 'none', autovacuum does the rest."
    if partitioned:
        yield "reclaim 'optimize': pg_repack copies no partitioned table: set reclaim to 'vacuum'."
    if follower:
        yield f"reclaim 'optimize': pg_repack breaks logical decoding, which {follower} needs: set reclaim to 'vacuum'."
    if (program := _version()) != extension:
        here = f"is version {program} here" if program else "is not on this worker's PATH"
        yield f"reclaim 'optimize': the program pg_repack {here}: install the extension's version, {extension}, there."


def reason_against(session: PostgresSession) -> str | None:
    """Say why now is no good time, None when nothing is known against it.

    At its end a copy waits, however long, for every transaction of the database that was there when it began.
    """
    for pid, application, seconds in session.execute(_OLD_TRANSACTION, (_OLD_SECONDS,)):
        return f"session {pid} ({application}) has had a transaction open for {seconds:,} s: a copy would wait for it"
    return None


def copy(session: PostgresSession, table: TableName) -> None:
    """Copy the table into a new file, in place of the old one; nobody else's query is cancelled for it.

    :raises StatementTimedOut: when it could not: mostly because of a transaction that has the table open for long
    """
    name = (_quoted(session, table),)
    with session.transaction():
        session.execute(_LEFTOVERS, name)
    before = session.execute(_FILE, name)
    told = _run(session, table)
    # The program calls it a success when it has only warned that it gave up.
    if session.execute(_FILE, name) == before:
        raise StatementTimedOut(f"pg_repack did not copy {table}; a retry tries again. It said: {told}")


def _run(session: PostgresSession, table: TableName) -> str:
    """Run the program to its end; give what it said."""
    command = [
        *(_PROGRAM, f"--table={table}", "--no-order", "--no-kill-backend", f"--wait-timeout={_LOCK_SECONDS}"),
        *("--no-superuser-check", "--no-password", "--elevel=WARNING"),
    ]
    with tempfile.TemporaryFile() as said:
        with _running(command, _environment(session), said) as process:
            while process.poll() is None:
                session.execute("SELECT 1")  # fails once the task was told to stop
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
        said.seek(0)
        return " ".join(said.read().decode(errors="replace").split())


@contextmanager
def _running(command: list[str], environment: dict[str, str], said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program, and interrupt it if it still runs at the end: it then removes what it has made."""
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)


def _environment(session: PostgresSession) -> dict[str, str]:
    """Say by libpq's variables how this session is connected: everybody may read a command line."""
    info = session.connection.info
    known = {**info.get_parameters(), "password": info.password, "application_name": "airflow-dbhygiene"}
    variables = {each.keyword.decode(): each.envvar.decode() for each in pq.Conninfo.get_defaults() if each.envvar}
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {variables[name]: str(value) for name, value in known.items() if name in variables and value}


def _version() -> str | None:
    """Give the program's version; None where there is none."""
    if (program := shutil.which(_PROGRAM)) is None:
        return None
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return told.stdout.strip().removeprefix("pg_repack ")


def _quoted(session: PostgresSession, table: TableName) -> str:
    return session.render(sql.Identifier(table.schema, table.table))
