"""MySQL from 8.0 and MariaDB from 10.6. One room per question: condition, walk, rows, purge, clutter, load, reclaim."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.databases.mysql import (
    catalog,
    clutter,
    condition,
    keys,
    load,
    named,
    privileges,
    purge,
    reclaim,
    restore,
    rows,
    stale,
    walk,
)
from airflow_dbhygiene.databases.mysql.cold import MySqlColdTables
from airflow_dbhygiene.databases.mysql.session import Connections, MySqlSession
from airflow_dbhygiene.databases.mysql.writing import listed, quoted, spelled
from airflow_dbhygiene.errors import StatementTimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from airflow_dbhygiene.databases.protocol import Bound, Selection, Span
    from airflow_dbhygiene.policy.names import TableName

_CHANGING = "dbhygiene.migration"
_CHANGING_SECONDS = 10

__all__ = ["MySqlDatabase", "MySqlSession"]


class MySqlDatabase:
    """Answers the Database protocol.

    :param connect: opens a connection of mysqlclient or mysql-connector-python; called for every session
    """

    engine = "mysql"
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
    encode_keys = staticmethod(rows.encode_keys)
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
    quoted = staticmethod(quoted)

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connections = Connections(connect)
        self.session = self._connections.session
        self.cold_tables = MySqlColdTables(self._connections)
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
        with self.session() as session:
            return named.as_archived(session, selection, keys)

    @staticmethod
    def share_gate(session: MySqlSession) -> None:
        """Hold off, until this transaction ends, anyone who places a legal hold."""
        session.execute("SELECT gate FROM dbhygiene.gate WHERE gate = 1 LOCK IN SHARE MODE")

    @staticmethod
    def close_gate(session: MySqlSession) -> None:
        """Wait for all batches under way, and hold off new ones until this transaction ends."""
        session.execute("SELECT gate FROM dbhygiene.gate WHERE gate = 1 FOR UPDATE")

    @staticmethod
    @contextmanager
    def changing_ledger(session: MySqlSession) -> Iterator[None]:
        """Keep others from changing the ledger's schema; each statement commits by itself.

        :raises StatementTimedOut: when another worker takes too long to change it
        """
        if session.execute("SELECT get_lock(%s, %s)", (_CHANGING, _CHANGING_SECONDS))[0][0] != 1:
            raise StatementTimedOut("another worker is still changing the ledger's tables (database dbhygiene).")
        try:
            yield
        finally:
            session.execute("DO release_lock(%s)", (_CHANGING,))

    @staticmethod
    def ledger_grant(session: MySqlSession) -> str:
        """Give the statements by which an administrator makes the ledger's database for us."""
        return f"CREATE DATABASE IF NOT EXISTS dbhygiene; GRANT ALL ON dbhygiene.* TO {privileges.user(session)};"

    @staticmethod
    def index_advice(table: TableName, columns: Sequence[str]) -> str:
        """Give the statement that makes an index without keeping others out."""
        return f"ALTER TABLE {spelled(table)} ADD INDEX ({listed(columns)}), ALGORITHM=INPLACE, LOCK=NONE"

    @staticmethod
    def give_way(session: MySqlSession, seconds: float) -> None:
        """Wait for others' locks no longer than this, until the transaction ends; MySQL: a second at least.

        Rows are locked without any wait. Left are foreign keys' checks, and locks on single index entries.
        """
        session.wait_for_locks(seconds)
