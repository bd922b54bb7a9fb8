"""The whole job runs under a role that has the documented rights, and no other."""

import re

import psycopg
import pytest

from airflow_dbhygiene.errors import PlanRefused, PrivilegeMissing
from airflow_dbhygiene.ledger import migrate, migrations
from airflow_dbhygiene.policy import Pace
from airflow_dbhygiene.steps.measure import measure
from airflow_dbhygiene.steps.reclaim import reclaim
from airflow_dbhygiene.steps.restore import Wish, restore
from tests.integration.test_refusals import make_role
from tests.job import Job, window_of

GRANTS = {
    "USAGE": "GRANT USAGE ON SCHEMA shop TO {role}",
    "SELECT": "GRANT SELECT ON shop.events TO {role}",
    "DELETE": "GRANT DELETE ON shop.events TO {role}",
    "UPDATE": "GRANT UPDATE (id) ON shop.events TO {role}",
    "TEMPORARY": "GRANT TEMPORARY ON DATABASE {database} TO {role}",
}


def move(job: Job) -> None:
    """Put the table where no right comes by itself."""
    job.execute("CREATE SCHEMA shop; ALTER TABLE events SET SCHEMA shop; REVOKE ALL ON SCHEMA public FROM PUBLIC")


def test_the_documented_rights_are_enough(job: Job) -> None:
    """Plan, archive, full verification, fast and careful purge, report: by a role that owns its ledger alone."""
    move(job)
    role = make_role(job, *GRANTS.values(), ledger=True)
    policy = role.policy(table="shop.events", reclaim="none")
    tickets = role.start(policy)
    job.execute("INSERT INTO shop.events VALUES (20000, '2023-01-02 00:30+00', 'late')")
    certificate = role.finish(tickets)
    assert (certificate["state"], certificate["rows_purged"]) == ("done", 3_000 + 1)
    assert job.one("SELECT count(*) FROM shop.events WHERE at < '2023-05-06'") == 0


@pytest.mark.parametrize("missing", GRANTS)
def test_each_of_them_is_needed_and_named(job: Job, missing: str) -> None:
    """Without one the plan refuses, names it, and has changed nothing."""
    move(job)
    grants = [grant for name, grant in GRANTS.items() if name != missing]
    role = make_role(job, *grants, ledger=True)
    with pytest.raises(PlanRefused, match=f"GRANT [^;]*{missing}") as refused:
        role.start(role.policy(table="shop.events", reclaim="none"))
    assert len(refused.value.refusals) == 1
    assert job.one("SELECT count(*) FROM pg_class WHERE relnamespace = 'dbhygiene'::regnamespace") == 0


@pytest.mark.parametrize("missing", ["USAGE", "SELECT"])
def test_the_sensor_in_front_of_the_plan_names_them_too(job: Job, missing: str) -> None:
    """It is the first task that a newcomer sees fail."""
    move(job)
    role = make_role(job, *[grant for name, grant in GRANTS.items() if name != missing], ledger=True)
    policy = role.policy(table="shop.events", reclaim="none")
    with pytest.raises(PrivilegeMissing, match=rf"^shop\.events: role .* GRANT [^;]*{missing}"):
        measure(role.site, policy, window_of(policy), {"stale_rows": 1})


def test_a_restore_without_the_right_to_insert_names_it(job: Job) -> None:
    """Whoever only cleans needs no INSERT: it is missed at the worst of moments."""
    move(job)
    role = make_role(job, *GRANTS.values(), ledger=True)
    certificate = role.run(role.policy(table="shop.events", reclaim="none"))
    with pytest.raises(PrivilegeMissing, match=r"GRANT SELECT, INSERT ON shop\.events"):
        restore(role.site, Wish(certificate["run"], "one"))


@pytest.mark.parametrize("action", ["vacuum", "analyze"])
def test_a_reclaim_that_the_server_would_skip_is_refused(job: Job, action: str) -> None:
    """PostgreSQL only warns: the task would be green, and the table would grow. So the plan says it beforehand."""
    move(job)
    role = make_role(job, *GRANTS.values(), ledger=True)
    with pytest.raises(PlanRefused, match=f"may not {action} it, which only its owner may: set .* reclaim to 'none'"):
        role.start(role.policy(table="shop.events", reclaim=action))


def test_a_reclaim_that_the_server_skips_is_an_error(job: Job) -> None:
    """Should the right be lost after the plan, the task fails in place of the server's mere warning."""
    move(job)
    role = make_role(job, GRANTS["USAGE"], GRANTS["TEMPORARY"], ledger=True)
    job.execute(f"ALTER TABLE shop.events OWNER TO {role.told[0]}")
    (ticket, *_) = role.start(role.policy(table="shop.events", reclaim="vacuum"))
    job.execute("ALTER TABLE shop.events OWNER TO postgres")
    with pytest.raises(PrivilegeMissing, match=r"the server skipped shop\.events.*table's owner.*reclaim to 'none'"):
        reclaim(role.site, ticket.run)


def test_the_owner_needs_no_grant_on_the_table(job: Job) -> None:
    """An owner may vacuum too."""
    move(job)
    role = make_role(job, GRANTS["USAGE"], GRANTS["TEMPORARY"], ledger=True)
    job.execute(f"ALTER TABLE shop.events OWNER TO {role.told[0]}")
    assert role.run(role.policy(table="shop.events", reclaim="vacuum"))["rows_purged"] == 3_000


def test_a_role_that_may_not_see_the_lag_is_told_so(job: Job) -> None:
    """A limit that cannot be read must not read as "no lag"; without a standby there is nothing to see."""
    move(job)
    role = make_role(job, *GRANTS.values(), ledger=True)
    policy = role.policy(table="shop.events", reclaim="none", pace=Pace(max_replica_lag_seconds=5))
    assert role.run(policy)["rows_purged"] == 3_000


def test_nothing_of_the_job_is_left_in_the_session(job: Job) -> None:
    """No connection, no lock, no temporary table remains."""
    move(job)
    role = make_role(job, *GRANTS.values(), ledger=True)
    role.run(role.policy(table="shop.events", reclaim="none"))
    with psycopg.connect(job.dsn) as onlooker:
        sessions = onlooker.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", (role.told[0],))
        assert sessions.fetchone() == (0,)


def bring_up_to_date(job: Job) -> None:
    """Migrate the ledger, as the first step of a newer version does."""
    site = job.site
    with site.database.session() as session:
        migrate(site.database, session)


@pytest.mark.parametrize("made", [0, migrations.VERSION - 1], ids=["its schema", "its tables"])
def test_what_an_administrator_adds_to_the_ledger_is_open_to_its_owner(
    job: Job, monkeypatch: pytest.MonkeyPatch, made: int
) -> None:
    """Whoever places a hold with another connection may be the first with a new version: runs go on."""
    move(job)
    role = make_role(job, *GRANTS.values(), ledger=True)
    if made:
        with monkeypatch.context() as older:
            older.setattr(migrations, "VERSION", made)
            bring_up_to_date(role)
    bring_up_to_date(Job(job.dsn, job.folder))
    owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'dbhygiene'::regnamespace"
    assert job.execute(owners) == [(role.told[0],)]
    assert role.run(role.policy(table="shop.events", reclaim="none"))["state"] == "done"


@pytest.mark.parametrize("superuser", [True, False])
def test_a_ledger_of_another_s_is_opened_by_the_statements_that_the_refusal_names(
    job: Job, monkeypatch: pytest.MonkeyPatch, *, superuser: bool
) -> None:
    """To have nothing but its schema would not do, nor tables of its own beside the other's."""
    move(job)
    role = make_role(job, *GRANTS.values())
    with monkeypatch.context() as older:
        older.setattr(migrations, "VERSION", migrations.VERSION - 1)
        bring_up_to_date(Job(job.dsn, job.folder))
    if not superuser:
        of_ledger = "relnamespace = 'dbhygiene'::regnamespace AND relkind = 'r'"
        tables = [
            f"TABLE dbhygiene.{name}" for (name,) in job.execute(f"SELECT relname FROM pg_class WHERE {of_ledger}")
        ]
        job.execute(f"CREATE ROLE {role.told[0]}_first")
        for relation in ("SCHEMA dbhygiene", *tables):
            job.execute(f"ALTER {relation} OWNER TO {role.told[0]}_first")
    with pytest.raises(PrivilegeMissing, match="An administrator runs once: ") as refused:
        role.start(role.policy(table="shop.events", reclaim="none"))
    for statement in re.findall(r"(?:ALTER|GRANT) [^;]*;", str(refused.value)):
        job.execute(statement)
    assert role.run(role.policy(table="shop.events", reclaim="none"))["state"] == "done"
