"""Giving space back: InnoDB reuses deleted rows' space by itself; only a copy of the table gives it to the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.databases.mysql import catalog
from airflow_dbhygiene.databases.mysql.clutter import measure
from airflow_dbhygiene.databases.mysql.session import SETTINGS, error_of
from airflow_dbhygiene.databases.mysql.writing import spelled
from airflow_dbhygiene.errors import PlanRefused, StatementTimedOut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.policy import Policy
    from airflow_dbhygiene.policy.names import TableName

_WAIT_SECONDS: Final = 1
"""For the metadata lock at a rebuild's two ends: all who come meanwhile queue up behind us."""

_HARMLESS: Final = {
    "old_alter_table": frozenset({"OFF", "DEFAULT", "NOCOPY", "INPLACE", "INSTANT"}),
    "alter_algorithm": frozenset({"DEFAULT", "NOCOPY", "INPLACE", "INSTANT"}),
    "innodb_optimize_fulltext_only": frozenset({"OFF"}),
    "innodb_defragment": frozenset({"OFF"}),
}
"""The settings under which OPTIMIZE is a rebuild that lets others write; a server knows some of them."""

_OFFLINE: Final = """
SELECT index_name, index_type FROM information_schema.statistics
WHERE table_schema = %s AND table_name = %s AND index_type IN ('FULLTEXT', 'SPATIAL') ORDER BY 1 LIMIT 1
"""

# Measured: MariaDB locks writers out while it rebuilds a table with such an index, MySQL does not.
_VIRTUAL: Final = """
SELECT s.index_name FROM information_schema.statistics s JOIN information_schema.columns c
    ON c.table_schema = s.table_schema AND c.table_name = s.table_name AND c.column_name = s.column_name
WHERE s.table_schema = %s AND s.table_name = %s AND c.extra LIKE '%%VIRTUAL%%' ORDER BY 1 LIMIT 1
"""


def vacuum(session: MySqlSession, table: TableName) -> tuple[str, ...]:
    """Renew the table's statistics: InnoDB reuses the space of deleted rows by itself."""
    return analyze(session, table)


def analyze(session: MySqlSession, table: TableName) -> tuple[str, ...]:
    """Renew the table's statistics, on this server alone; of MariaDB's two kinds the one that reads a few pages.

    :raises HygieneError: when the server only told that it did not
    """
    sampled = "SET STATEMENT use_stat_tables = 'never' FOR " * session.flavour.mariadb
    _maintain(session, f"{sampled}ANALYZE NO_WRITE_TO_BINLOG TABLE {spelled(table)}")
    return ()


def optimize(session: MySqlSession, policy: Policy) -> str | None:
    """Copy the table, others writing meanwhile, so that free space goes back to the disk; on this server alone.

    :returns: why that would hurt and was left out; the statistics are renewed all the same
    :raises PlanRefused: in a cluster
    :raises HygieneError: when the server only told that it did not
    """
    table = policy.table_name
    if faults := tuple(catalog.cluster_refusals(session)):
        raise PlanRefused(str(table), faults)
    if reason := next(_reasons(session, policy), None):
        analyze(session, table)
        return reason
    session.execute(f"SET SESSION lock_wait_timeout = {_WAIT_SECONDS}")
    try:
        _maintain(session, f"OPTIMIZE NO_WRITE_TO_BINLOG TABLE {spelled(table)}")
    finally:
        session.execute(f"SET SESSION lock_wait_timeout = {SETTINGS['lock_wait_timeout']}")
    return None


def _reasons(session: MySqlSession, policy: Policy) -> Iterator[str]:
    table, most = policy.table_name, policy.guard.max_optimize_bytes or 0
    for name, value in session.execute("SHOW SESSION VARIABLES"):
        if str(name) in _HARMLESS and str(value).upper() not in _HARMLESS[str(name)]:
            yield f"with the server's setting {name}={value} OPTIMIZE is no online rebuild"
    for index, kind in session.execute(_OFFLINE, (table.schema, table.table)):
        yield f"index {index} is {kind}: while the table is rebuilt nobody could write to it"
    for (index,) in session.execute(_VIRTUAL, (table.schema, table.table)) if session.flavour.mariadb else ():
        yield f"index {index} is on a virtual column: while the table is rebuilt nobody could write to it"
    try:
        sizes = measure(session, table, ("disk_bytes", "free_bytes"))
    except PlanRefused as unknown:
        yield unknown.refusals[0]
    else:
        needed = sizes["disk_bytes"] - sizes["free_bytes"]
        if needed > most:
            yield f"the copy may take {int(needed):,} bytes, more than guard.max_optimize_bytes {most:,}"


def _maintain(session: MySqlSession, statement: str) -> None:
    """Run a statement that reports its failure as rows of a result, and never takes a warning for success."""
    told = [(str(kind).lower(), str(text)) for _, _, kind, text in session.execute(statement)]
    faults = [text for kind, text in told if kind in ("error", "warning")]
    if not faults and told and told[-1] == ("status", "OK"):
        return
    message = f"the server did not do it: {statement}: {'; '.join(faults) or told}"
    for _, number, _ in session.execute("SHOW WARNINGS"):
        raise error_of(int(number), message)
    # MySQL tells no number. Mostly it is the wait for the table's metadata lock, and a retry helps.
    raise StatementTimedOut(message + ". Mostly another transaction had the table open for too long.")
