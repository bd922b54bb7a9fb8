"""Giving space back: VACUUM, for the table's own use."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from airflow_dbhygiene.databases.postgres.session import translated
from airflow_dbhygiene.errors import PolicyInvalid, PrivilegeMissing

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.postgres.session import PostgresSession
    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.names import TableName

NO_OPTIMIZE = (
    "reclaim 'optimize' is of MySQL and MariaDB. What PostgreSQL has, VACUUM FULL, locks readers out: set reclaim to "
    "'vacuum', and shrink a bloated table by pg_repack."
)


def vacuum(session: PostgresSession, table: TableName) -> None:
    """Give dead rows' space back to the table, without truncating it, and renew its statistics.

    :raises PrivilegeMissing: when the server only warned that it skipped the table
    """
    _maintain(session, table, "VACUUM (ANALYZE, TRUNCATE false) {}")


def analyze(session: PostgresSession, table: TableName) -> None:
    """Renew the table's statistics."""
    _maintain(session, table, "ANALYZE {}")


def optimize(session: PostgresSession, policy: Policy) -> str | None:  # noqa: ARG001 - the protocol's own
    """Refuse: here there is no such thing. The plan says so before anything happens.

    :raises PolicyInvalid: always
    """
    raise PolicyInvalid(NO_OPTIMIZE)


def _maintain(session: PostgresSession, table: TableName, statement: LiteralString) -> None:
    session.notices.clear()
    with translated():
        # A role may have been told to hear errors alone, and the server only warns that it did nothing.
        session.connection.execute("SET client_min_messages = 'warning'")
        session.connection.execute("SET vacuum_cost_delay = '2ms'")
        session.connection.execute("SET statement_timeout = 0")  # a role's own is meant for what it asks, not for this
        session.connection.execute(sql.SQL(statement).format(sql.Identifier(table.schema, table.table)))
    if session.notices:
        message = (
            f"the server skipped {table}: {session.notices[0]}. Run as the table's owner, grant MAINTAIN "
            f"(PostgreSQL 17), or set the policy's reclaim to 'none'."
        )
        raise PrivilegeMissing(message)
