"""From an Airflow connection id to a database or a store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from airflow_dbhygiene.errors import NotFound, PolicyInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Connection

    from airflow_dbhygiene.databases.protocol import Database
    from airflow_dbhygiene.policy import ColdTable, Parquet
    from airflow_dbhygiene.steps.site import Site
    from airflow_dbhygiene.stores.protocol import Store


def open_site(conn_id: str, tell: Callable[[str], None], connection: Connection | None = None) -> Site:
    """Put together what a step works with.

    :param conn_id: Airflow connection of the database to clean
    :param tell: takes one line of progress
    :param connection: the connection itself, where the caller has fetched it already
    """
    from airflow_dbhygiene.steps.site import Site  # noqa: PLC0415 - nothing of a step loads where DAGs are parsed

    database = open_database(conn_id, connection)

    def opened(archive: Parquet | ColdTable) -> Store:
        return open_store(archive) if archive.kind == "parquet" else _cold_table(archive, conn_id, database)

    return Site(database, opened, tell, _secret, open_database)


def open_database(conn_id: str, connection: Connection | None = None) -> Database:
    """Choose the engine by the connection's type.

    :raises NotFound: when there is no such connection
    :raises PolicyInvalid: when its type is no database that can be cleaned
    """
    found = connection or _connection(conn_id)
    if found.conn_type == "mysql":
        return _mysql(conn_id, found)
    if found.conn_type not in ("postgres", "postgresql"):
        message = f"connection {conn_id!r} has type {found.conn_type!r}: use one of type 'postgres' or 'mysql'."
        raise PolicyInvalid(message)
    from airflow.providers.postgres.hooks.postgres import PostgresHook  # noqa: PLC0415

    from airflow_dbhygiene.databases.postgres import PostgresDatabase  # noqa: PLC0415

    hook = PostgresHook(postgres_conn_id=conn_id, connection=found)
    # psycopg 3's connections: the package depends on it
    return PostgresDatabase(_one_at_a_time(cast("Any", hook.get_conn)))


def _mysql(conn_id: str, connection: Connection) -> Database:
    """Take the hook's own parameters, its driver included: mysqlclient, or mysql-connector-python where chosen."""
    try:
        from airflow.providers.mysql.hooks.mysql import MySqlHook  # noqa: PLC0415
    except ImportError as error:
        message = f"connection {conn_id!r} is of type 'mysql': install airflow-dbhygiene[mysql]."
        raise PolicyInvalid(message) from error
    from airflow_dbhygiene.databases.mysql import MySqlDatabase  # noqa: PLC0415

    return MySqlDatabase(_one_at_a_time(MySqlHook(mysql_conn_id=conn_id, connection=connection).get_conn))


def _one_at_a_time(connect: Callable[[], Any]) -> Callable[[], Any]:
    """Keep threads apart: a hook keeps what it opens, and gives what it keeps. A signal may find this very thread."""
    lock = threading.RLock()

    def connect_alone() -> Any:
        with lock:
            return connect()

    return connect_alone


def open_store(archive: Parquet) -> Store:
    """Open the store that a policy names, through Airflow's object storage.

    :raises NotFound: when its connection does not exist
    :raises PolicyInvalid: when nothing serves its scheme
    """
    from airflow.sdk import ObjectStoragePath  # noqa: PLC0415

    from airflow_dbhygiene.stores.parquet import ParquetStore  # noqa: PLC0415
    from airflow_dbhygiene.stores.s3 import S3Protection  # noqa: PLC0415

    try:
        path = ObjectStoragePath(archive.url)
    except ValueError as error:
        raise PolicyInvalid(f"archive.url {archive.url!r}: {error}. Write 's3://…' or 'file:///…'.") from error
    if path.conn_id:
        _connection(path.conn_id)  # else the amazon provider would quietly use the machine's own credentials
    try:
        filesystem = path.fs
    except (ImportError, ValueError) as error:
        scheme = archive.url.partition("://")[0]
        message = f"archive.url {archive.url!r}: {error}. For s3:// install airflow-dbhygiene[s3]."
        raise PolicyInvalid(message if scheme == "s3" else f"archive.url {archive.url!r}: {error}") from error
    except Exception as error:
        _raise_if_unknown(error, archive.url)
        raise
    protected = archive.object_lock or archive.encryption
    return ParquetStore(
        filesystem,
        path.path,
        url=archive.url,
        compression_level=archive.compression_level,
        protection=S3Protection(filesystem, path.path, archive.object_lock, archive.encryption) if protected else None,
    )


def open_archive(address: str, conn_id: str | None = None) -> Store:
    """Open an archive by its address alone: a URL, or connection@schema.table of a cold table.

    :param conn_id: the connection of a cold table whose address names none
    :raises PolicyInvalid: when nobody says where a cold table is
    """
    from airflow_dbhygiene.policy import ColdTable, Parquet  # noqa: PLC0415

    if "://" in address:
        return open_store(Parquet(address))
    cold = ColdTable(address)
    if (where := cold.conn_id or conn_id) is None:
        raise PolicyInvalid(f"cold table {address!r}: name its connection: connection@{cold.table_name}.")
    return _cold_table(cold, where, open_database(where))


def _secret(conn_id: str) -> bytes:
    """Give the password of a connection that holds nothing else.

    :raises NotFound: when there is no such connection
    :raises PolicyInvalid: when it has no password
    """
    password = _connection(conn_id).password
    if not password:
        raise PolicyInvalid(f"connection {conn_id!r} has no password, which is to be the key of the hashes.")
    return str(password).encode()


def _cold_table(archive: ColdTable, home_id: str, home: Database) -> Store:
    """Open a cold table, in the same database or on another connection.

    :raises NotFound: when its connection does not exist
    :raises PolicyInvalid: when its engine is another
    """
    from airflow_dbhygiene.stores.cold_table import ColdTableStore  # noqa: PLC0415

    there = home if archive.conn_id in (None, home_id) else open_database(archive.conn_id)
    if there.engine != home.engine:
        message = (
            f"archive.table {archive.table!r} is on {there.engine}, and the table that is cleaned on {home.engine}: "
            f"values would not come back equal. Archive to Parquet, or name a connection of the same engine."
        )
        raise PolicyInvalid(message)
    return ColdTableStore(home, there, archive.table_name, url=archive.address, object_rows=archive.object_rows)


def _connection(conn_id: str) -> Connection:
    from airflow.sdk import BaseHook  # noqa: PLC0415

    try:
        return BaseHook.get_connection(conn_id)
    except Exception as error:
        _raise_if_unknown(error, conn_id)
        raise


def _raise_if_unknown(error: Exception, name: Any) -> None:
    """Turn Airflow's way of saying that a connection does not exist into ours."""
    from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError, ErrorType  # noqa: PLC0415

    unknown = isinstance(error, AirflowNotFoundException) or (
        isinstance(error, AirflowRuntimeError) and error.error.error == ErrorType.CONNECTION_NOT_FOUND
    )
    if unknown:
        message = f"{name!r}: Airflow knows no such connection. Create it, or correct the policy's conn_id or URL."
        raise NotFound(message) from error
