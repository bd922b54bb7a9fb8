"""How busy is it? The load of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.errors import PolicyInvalid

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.mysql.session import MySqlSession

NO_LAG: Final = (
    "pace.max_replica_lag_seconds: a primary of MySQL or MariaDB cannot tell how far behind its replicas are. Leave "
    "the limit out, and hold the pace down by rest_fraction or hours."
)


def replica_lag_seconds(session: MySqlSession) -> tuple[str, float] | None:  # noqa: ARG001 - the protocol's own
    """Refuse: here nobody knows. The plan says so before anything happens.

    :raises PolicyInvalid: always
    """
    raise PolicyInvalid(NO_LAG)


def clock(session: MySqlSession) -> float:
    """Give the database's own clock, in seconds since 1970."""
    return float(session.execute("SELECT CAST(unix_timestamp(now(6)) AS CHAR)")[0][0])
