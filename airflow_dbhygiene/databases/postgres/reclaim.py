"""Giving space back: VACUUM, for the table's own use; pg_repack, for the disk's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql

from airflow_dbhygiene.databases.postgres import repack
from airflow_dbhygiene.databases.postgres.clutter import measure
from airflow_dbhygiene.databases.postgres.session import KNOWS_TRANSACTION_TIMEOUT, translated
from airflow_dbhygiene.errors import PlanRefused, PrivilegeMissing

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.names import TableName


_SKIPPING: Final = ("vacuum_is_relation_owner", "vacuum_is_permitted_for_relation")
"""The server's functions, until version 15 and since, that warn of a table which the role may not maintain.

Its words depend on the version and on the language of the server.
"""


def vacuum(session: PostgresSession, table: TableName) -> tuple[str, ...]:
    """Give dead rows' space back to the table, without truncating it, and renew its statistics.

    :returns: what the server remarked
    :raises PrivilegeMissing: when the server only warned that it skipped the table
    """
    return _maintain(session, table, "VACUUM (ANALYZE, TRUNCATE false) {}")


def analyze(session: PostgresSession, table: TableName) -> tuple[str, ...]:
    """Renew the table's statistics."""
    return _maintain(session, table, "ANALYZE {}")


def optimize(session: PostgresSession, policy: Policy) -> str | None:
    """Copy the table, others writing meanwhile, so that free space goes back to the disk; vacuum the copy.

    A copy begins without the map of pages that all can see, which index-only scans need.

    :returns: why that would hurt and was left out; the table is vacuumed all the same
    :raises PlanRefused: when pg_repack is not there any more
    :raises StatementTimedOut: when it gave up
    """
    table, most = policy.table_name, policy.guard.max_optimize_bytes or 0
    if faults := tuple(repack.refusals(session, table)):
        raise PlanRefused(str(table), faults)
    needed = int(measure(session, table, ("disk_bytes",))["disk_bytes"])
    reason = repack.reason_against(session)
    if needed > most:
        reason = f"the copy may take {needed:,} bytes, more than guard.max_optimize_bytes {most:,}"
    if not reason:
        repack.copy(session, table)
    vacuum(session, table)
    return reason


def _maintain(session: PostgresSession, table: TableName, statement: LiteralString) -> tuple[str, ...]:
    session.notices.clear()
    with translated():
        # A role may have been told to hear errors alone, and the server only warns that it did nothing.
        session.connection.execute("SET client_min_messages = 'warning'")
        session.connection.execute("SET vacuum_cost_delay = '2ms'")
        # A role's own limits are meant for what it asks, not for this.
        session.connection.execute("SET statement_timeout = 0")
        if session.version >= KNOWS_TRANSACTION_TIMEOUT:
            session.connection.execute("SET transaction_timeout = 0")
        session.connection.execute(sql.SQL(statement).format(sql.Identifier(table.schema, table.table)))
    if skipped := [words for function, words in session.notices if function in _SKIPPING]:
        message = (
            f"the server skipped {table}: {skipped[0]}. Run as the table's owner, grant MAINTAIN "
            f"(PostgreSQL 17), or set the policy's reclaim to 'none'."
        )
        raise PrivilegeMissing(message)
    return tuple(dict.fromkeys(words for _, words in session.notices))
