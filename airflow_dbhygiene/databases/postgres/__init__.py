"""PostgreSQL, versions 14 to 18. One room per question: condition, walk, rows, purge, clutter, load, reclaim."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

from airflow_dbhygiene.databases.postgres import (
    catalog,
    clutter,
    condition,
    keys,
    load,
    pairs,
    purge,
    reclaim,
    restore,
    rows,
    stale,
    walk,
)
from airflow_dbhygiene.databases.postgres.cold import PostgresColdTables
from airflow_dbhygiene.databases.postgres.session import Connections, PostgresSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg
    import pyarrow as pa

    from airflow_dbhygiene.databases.protocol import Bound, Selection, Span
    from airflow_dbhygiene.policy.names import TableName

__all__ = ["PostgresDatabase", "PostgresSession"]


class PostgresDatabase:
    """Answers the Database protocol.

    :param connect: opens a psycopg connection; called for every session
    """

    engine = "postgresql"
    server = staticmethod(catalog.server)
    inspect = staticmethod(catalog.inspect)
    shape = staticmethod(catalog.shape)
    fingerprint = staticmethod(catalog.fingerprint)
    ddl = staticmethod(catalog.ddl)
    predicate = staticmethod(condition.predicate)
    check_condition = staticmethod(condition.checked)
    key_columns = staticmethod(keys.key_columns)
    relatives = staticmethod(keys.relatives)
    keys_condition = staticmethod(keys.keys_condition)
    try_condition = staticmethod(keys.try_condition)
    choose_walk = staticmethod(walk.choose_walk)
    hop = staticmethod(walk.hop)
    count_up_to = staticmethod(walk.count_up_to)
    estimate = staticmethod(walk.estimate)
    leads_to = staticmethod(walk.leads_to)
    full_scans = staticmethod(walk.full_scans)
    referenced = staticmethod(condition.referenced)
    arrow_schema = staticmethod(rows.arrow_schema)
    place_of = staticmethod(rows.place_of)
    differing = staticmethod(rows.differing)
    count_fulfilling = staticmethod(rows.count_fulfilling)
    encode_keys = staticmethod(pairs.encode_keys)
    delete = staticmethod(purge.delete)
    delete_carefully = staticmethod(purge.delete_carefully)
    delete_stale = staticmethod(stale.delete_stale)
    restore_rows = staticmethod(restore.restore_rows)
    measures = clutter.MEASURES
    measure = staticmethod(clutter.measure)
    oldest_age_seconds = staticmethod(clutter.oldest_age_seconds)
    busy = staticmethod(load.busy)
    waiters = staticmethod(load.waiters)
    replica_lags = staticmethod(load.replica_lags)
    limits = load.LIMITS
    clock = staticmethod(load.clock)
    vacuum = staticmethod(reclaim.vacuum)
    analyze = staticmethod(reclaim.analyze)
    optimize = staticmethod(reclaim.optimize)

    def __init__(self, connect: Callable[[], psycopg.Connection[tuple[object, ...]]]) -> None:
        self._connections = Connections(connect)
        self.session = self._connections.session
        self.cold_tables = PostgresColdTables(self._connections)
        self.cancel = self._connections.cancel

    @contextmanager
    def read(
        self, selection: Selection, span: Span, after: Bound | None, most: int, held: str | None
    ) -> Iterator[Iterator[pa.RecordBatch]]:
        """Stream rows of the span with their versions, in the order of the walk, from one snapshot."""
        with rows.read(self._connections, selection, span, after, most, held) as batches:
            yield batches

    def as_archived(self, selection: Selection, keys: Sequence[Sequence[str]]) -> list[Bound]:
        """Let the server read keys as people write them; give each as `place_of` gives an archived row's."""
        return rows.as_archived(self._connections, selection, keys)

    @staticmethod
    def share_gate(session: PostgresSession) -> None:
        """Hold off, until this transaction ends, anyone who places a legal hold."""
        session.execute("SELECT pg_catalog.pg_advisory_xact_lock_shared(%s)", (GATE,))

    @staticmethod
    def close_gate(session: PostgresSession) -> None:
        """Wait for all batches under way, and hold off new ones until this transaction ends."""
        session.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", (GATE,))

    @staticmethod
    @contextmanager
    def changing_ledger(session: PostgresSession) -> Iterator[None]:
        """Change the ledger's schema in one transaction, and keep others from doing so."""
        with session.transaction(lock_seconds=10):
            session.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", (_CHANGING,))
            # Tables that an administrator made as himself would be closed to those who work with all others.
            session.execute(_AS_ITS_OWNER)
            yield

    @staticmethod
    def ledger_grant(session: PostgresSession) -> str:
        """Give the statements by which an administrator lets us make the ledger's schema, or gives us his own."""
        user = PostgresDatabase.quoted(session.connection.info.user)
        tables = session.execute(_LEDGER)
        if not tables:
            return f"CREATE SCHEMA IF NOT EXISTS dbhygiene AUTHORIZATION {user};"
        if owners := {PostgresDatabase.quoted(owner) for _, owner, is_superuser in tables if not is_superuser}:
            return f"GRANT {', '.join(sorted(owners))} TO {user};"
        relations = ("SCHEMA dbhygiene", *(f"TABLE dbhygiene.{name}" for name, *_ in tables))
        return " ".join(f"ALTER {relation} OWNER TO {user};" for relation in relations)

    @staticmethod
    def index_advice(table: TableName, columns: Sequence[str]) -> str:
        """Give the statement that makes an index without keeping others out."""
        return f"CREATE INDEX CONCURRENTLY ON {table} ({', '.join(columns)})"

    @staticmethod
    def give_way(session: PostgresSession, seconds: float) -> None:
        """Wait for others' locks no longer than this, until the transaction ends.

        It is never more than half of deadlock_timeout, so that the server never has to choose a victim.
        """
        session.execute(
            "SELECT pg_catalog.set_config('lock_timeout', greatest(1, least(%s, extract(epoch FROM"
            " current_setting('deadlock_timeout')::interval) * 500))::int || 'ms', true)",
            (int(seconds * 1000),),
        )

    @staticmethod
    def quoted(name: str) -> str:
        """Quote an identifier."""
        return sql.Identifier(name).as_string()


_AS_ITS_OWNER = """
SELECT pg_catalog.set_config('role', pg_catalog.pg_get_userbyid(coalesce(
           c.relowner, CASE WHEN pg_catalog.pg_has_role(n.nspowner, 'MEMBER') THEN n.nspowner END)), true)
FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'migration'
WHERE n.nspname = 'dbhygiene'
"""
_LEDGER = """
SELECT c.relname, r.rolname, r.rolsuper
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
WHERE n.nspname = 'dbhygiene' AND c.relkind = 'r' ORDER BY c.relname
"""
_CHANGING = 0x6462_6879_6C65_6467
GATE = 0x6462_6879_6769_656E
"""The advisory lock between batches and the placing of holds: "dbhygien" in ASCII."""
