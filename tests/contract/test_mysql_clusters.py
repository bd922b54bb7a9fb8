"""Members of a Galera cluster and of group replication, real ones of one member each, are refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_dbhygiene.errors import PlanRefused
from airflow_dbhygiene.policy import Guard
from tests.mysql_job import EVENTS, MySqlJob
from tests.servers.mysql import MariaDbServer, MySqlServer
from tests.servers.mysql_programs import ServerUnavailable
from tests.servers.ports import LOOPBACK, free_ports

GALERA = Path("/usr/lib/galera/libgalera_smm.so")


def galera() -> MariaDbServer:
    """Start a cluster of one."""
    if not GALERA.exists():
        raise ServerUnavailable(f"{GALERA} is missing: Debian's package galera-4 brings it")
    group, state = free_ports(2)
    address = f"gmcast.listen_addr=tcp://{LOOPBACK}:{group};ist.recv_addr={LOOPBACK}:{state}"
    return MariaDbServer.start(
        settings={
            "wsrep-on": "ON",
            "wsrep-provider": str(GALERA),
            "wsrep-provider-options": address,
            "wsrep-cluster-address": "gcomm://",
            "wsrep-node-address": LOOPBACK,
            "innodb-autoinc-lock-mode": "2",
        }
    )


def group_replication() -> MySqlServer:
    """Start a group of one."""
    (port,) = free_ports(1)
    return MySqlServer.start(
        settings={
            "plugin-load-add": "group_replication.so",
            "gtid-mode": "ON",
            "enforce-gtid-consistency": "ON",
            "loose-group-replication-group-name": "3f1c5a34-5b0c-4c83-9d0e-6a8f1f1e7a11",
            "loose-group-replication-local-address": f"{LOOPBACK}:{port}",
            "loose-group-replication-bootstrap-group": "ON",
            "loose-group-replication-start-on-boot": "OFF",
            "report-host": LOOPBACK,
        }
    )


@pytest.fixture(scope="module", params=[galera, group_replication], ids=["galera", "group replication"])
def member(request: pytest.FixtureRequest) -> Iterator[MySqlServer]:
    """Give a server of each kind, which is up and takes writes."""
    try:
        server = request.param()
    except ServerUnavailable as error:
        pytest.skip(f"NOT TESTED: {error}")
    with server:
        if server.flavour == "mysql":
            server.execute("START GROUP_REPLICATION")
        yield server


def test_a_member_is_refused(member: MySqlServer, tmp_path: Path) -> None:
    """By the plan; and by OPTIMIZE, should the server have joined in between."""
    job = MySqlJob(folder=tmp_path, parameters=member.create_database("clustered"))
    for statement in EVENTS:
        job.execute(statement)
    because = "Galera cluster" if member.flavour == "mariadb" else "group replication"
    with pytest.raises(PlanRefused, match=f"the server is part of a?.*{because}"):
        job.plan(job.policy())
    guard = Guard(max_optimize_bytes=10**9)
    with job.database.session() as session, pytest.raises(PlanRefused, match=because):
        job.database.optimize(session, job.policy(reclaim="optimize", guard=guard))
