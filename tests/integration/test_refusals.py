"""What makes a purge unsafe is refused by name, with the fix, and nothing is changed by looking."""

import hashlib
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_dbhygiene.errors import (
    CutoffRefused,
    HygieneError,
    LedgerIncompatible,
    NotFound,
    PlanRefused,
    PolicyInvalid,
    PrivilegeMissing,
    ReadOnlyServer,
    RowsReferenced,
    StatementFailed,
    WrongServer,
)
from airflow_dbhygiene.policy import Guard, Matching, OlderThan, Parquet, Policy
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.verify import verify
from tests.job import AS_OF, STALE_EVENTS, Job, window_of
from tests.servers.postgres import PostgresServer


def refuse(job: Job, *said: str, error: type[HygieneError] = PlanRefused, **changes: Any) -> str:
    """Plan and record as the task does; check the message, and that nothing has changed."""
    before = state(job)
    with pytest.raises(error) as refused:
        job.start(job.policy(**changes))
    for each in said:
        assert re.search(each, str(refused.value), re.DOTALL), str(refused.value)
    assert state(job) == before
    return str(refused.value)


def state(job: Job) -> tuple[Any, ...]:
    """Give what a plan must not change: rows, relations, schemas, objects in the store."""
    if job.role:
        job.role.connect().close()  # the administrator has made its schema by then
    kinds = "SELECT oid, relname FROM pg_class WHERE relkind = ANY('{r,p,v,f,S}') AND oid >= 16384 ORDER BY 1"
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg_%' ORDER BY 1"
    rows = job.one("SELECT md5(string_agg(e::text, '' ORDER BY id)) FROM events e") if _is_table(job) else None
    objects = sorted(path for path in job.folder.rglob("*") if path.is_file()) if job.folder.exists() else []
    return rows, job.execute(kinds), job.execute(schemas), objects


def _is_table(job: Job) -> bool:
    return bool(job.one("SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('events') AND attname = 'id'"))


# Keys


@pytest.mark.rights("all", "it sets the administrator's search_path")
def test_a_key_whose_operators_are_out_of_reach(job: Job) -> None:
    """Of citext in a schema that is not searched, PostgreSQL would compare as text, in another order than the index."""
    job.execute("CREATE SCHEMA far; CREATE EXTENSION citext SCHEMA far; ALTER TABLE events ALTER id TYPE far.citext")
    refuse(job, "key column id is far.citext, whose operators are not on this role's search_path.*add schema far")
    job.execute(f"ALTER DATABASE {job.one('SELECT current_database()')} SET search_path = public, far")
    assert job.run(job.policy())["rows_purged"] == STALE_EVENTS


def test_a_key_that_is_ordered_by_operators_of_another_name(job: Job) -> None:
    """An index orders hstore by #<#, and there is no < that a walk could follow."""
    job.execute("CREATE EXTENSION hstore; ALTER TABLE events ADD tags hstore NOT NULL DEFAULT ''")
    job.execute("ALTER TABLE events DROP CONSTRAINT events_pkey, ADD PRIMARY KEY (id, tags)")
    refuse(job, r"key column tags is hstore, which is ordered by #<#")


# Kinds of relations


def test_a_view_is_no_table(job: Job) -> None:
    """Its rows belong to others."""
    job.execute("CREATE VIEW seen AS TABLE events")
    refuse(job, "it is a view: only ordinary and partitioned tables can be purged", table="public.seen")


def test_a_materialized_view_is_no_table(job: Job) -> None:
    """Its rows would come back."""
    job.execute("CREATE MATERIALIZED VIEW seen AS TABLE events; ANALYZE seen")
    refuse(job, "it is a materialized view", table="public.seen")


def test_a_sequence_is_no_table(job: Job) -> None:
    """A slip in the name is told as such."""
    job.execute("CREATE SEQUENCE numbers")
    refuse(job, "it is a sequence", table="public.numbers")


FOREIGN = """
CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
"""


def test_a_foreign_table_is_refused(job: Job) -> None:
    """Its rows have no version here."""
    job.execute(FOREIGN + "CREATE FOREIGN TABLE away (id bigint, at timestamptz) SERVER files OPTIONS (filename 'x')")
    refuse(job, "it is a foreign table", table="public.away")


def test_a_foreign_partition_is_refused(job: Job) -> None:
    """One leaf elsewhere is enough: there every version reads 0."""
    job.execute(
        FOREIGN + "CREATE TABLE parted (id bigint, at timestamptz) PARTITION BY RANGE (at);"
        "CREATE TABLE here PARTITION OF parted DEFAULT;"
        "CREATE FOREIGN TABLE away PARTITION OF parted FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')"
        " SERVER files OPTIONS (filename 'x'); ANALYZE here"
    )
    refuse(job, "one of its partitions, is not an ordinary heap table", table="public.parted")


def test_a_temporary_table_is_not_seen(job: Job) -> None:
    """It belongs to another session."""
    with psycopg.connect(job.dsn, autocommit=True) as other:
        other.execute("CREATE TEMPORARY TABLE passing (id bigint PRIMARY KEY, at timestamptz)")
        schema = other.execute("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()").fetchone()
        assert schema
        refuse(job, "it is a temporary table", table=f"{schema[0]}.passing")


def test_an_unlogged_table_is_purged_like_any_other(job: Job) -> None:
    """A crash empties it, and then its rows count as vanished: no reason to refuse."""
    job.execute("ALTER TABLE events SET UNLOGGED")
    assert job.run(job.policy())["rows_purged"] == 3_000


def test_inheritance_is_refused(job: Job) -> None:
    """A delete reaches the rows of children, whose keys may repeat the parent's."""
    job.execute("CREATE TABLE more () INHERITS (events)")
    refuse(job, "more inherits from (public.)?events.*purge the tables one by one")


# Keys


def test_no_key_is_refused(job: Job) -> None:
    """Even a unique index will not do: its columns may be NULL."""
    job.execute("ALTER TABLE events DROP CONSTRAINT events_pkey; CREATE UNIQUE INDEX ON events (id)")
    refuse(job, "no primary key.*add one")


def test_a_floating_key_is_refused(job: Job) -> None:
    """-0 and 0 are one key, NaN equals itself: no identity."""
    job.execute("ALTER TABLE events ALTER id TYPE double precision; ANALYZE events")
    refuse(job, "key column id is double precision: floating point is no identity")


def test_a_column_with_our_name_is_refused(job: Job) -> None:
    """The archive's own column would hide it."""
    job.execute("ALTER TABLE events ADD _dbhygiene_version int")
    refuse(job, "column _dbhygiene_version has the name.*rename it")


# What acts on a delete


def test_a_rule_is_refused(job: Job) -> None:
    """It rewrites the delete into something else."""
    job.execute("CREATE RULE keep AS ON DELETE TO events DO INSTEAD NOTHING")
    refuse(job, "rule keep on (public.)?events rewrites statements: drop it")


TRIGGER = "CREATE FUNCTION spread() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';"


@pytest.mark.parametrize("when", ["BEFORE DELETE", "AFTER DELETE", "AFTER INSERT OR DELETE"])
@pytest.mark.parametrize("each", ["ROW", "STATEMENT"])
def test_a_delete_trigger_is_refused(job: Job, when: str, each: str) -> None:
    """It may change what was never archived."""
    job.execute(f'{TRIGGER} CREATE TRIGGER "Spread" {when} ON events FOR EACH {each} EXECUTE FUNCTION spread()')
    refuse(job, "trigger Spread on (public.)?events fires on DELETE.*disable or drop it")


def test_other_triggers_do_not_matter(job: Job) -> None:
    """A purge inserts and updates nothing; a disabled trigger does not fire."""
    job.execute(
        TRIGGER + "CREATE TRIGGER a AFTER INSERT OR UPDATE ON events FOR EACH ROW EXECUTE FUNCTION spread();"
        "CREATE TRIGGER b AFTER DELETE ON events FOR EACH ROW EXECUTE FUNCTION spread();"
        "ALTER TABLE events DISABLE TRIGGER b"
    )
    assert job.run(job.policy())["rows_purged"] == 3_000


PARTED = """
CREATE TABLE parted (id bigint, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE part PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT id, at FROM events;
ANALYZE parted;
"""


def test_a_trigger_on_one_partition_is_refused(job: Job) -> None:
    """It fires as well, and is no trigger of the table's own."""
    job.execute(PARTED + TRIGGER + "CREATE TRIGGER deep AFTER DELETE ON part FOR EACH ROW EXECUTE FUNCTION spread()")
    refuse(job, "trigger deep on (public.)?part fires on DELETE", table="public.parted")


def test_row_security_is_refused(job: Job) -> None:
    """A role that is shown some rows only would purge by half, and call it done."""
    role = make_role(job, "GRANT SELECT, DELETE, UPDATE ON events TO {role}")
    job.execute("ALTER TABLE events ENABLE ROW LEVEL SECURITY; CREATE POLICY even ON events USING (id % 2 = 0)")
    refuse(role, "row security would hide rows from this role: use a role with BYPASSRLS, or the owner")


@pytest.mark.rights("all", "only who bypasses row security sees that it hides nothing")
def test_row_security_that_hides_nothing_does_not_matter(job: Job) -> None:
    """The owner sees all rows."""
    job.execute("ALTER TABLE events ENABLE ROW LEVEL SECURITY; CREATE POLICY even ON events USING (id % 2 = 0)")
    assert job.run(job.policy())["rows_purged"] == 3_000


# Foreign keys


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_a_foreign_key_that_acts_is_refused(job: Job, action: str) -> None:
    """It would change or delete rows that nobody archived."""
    job.execute(
        "CREATE TABLE child (id int PRIMARY KEY, event bigint,"
        f" CONSTRAINT belongs FOREIGN KEY (event) REFERENCES events ON DELETE {action}); CREATE INDEX ON child (event)"
    )
    refuse(job, rf"foreign key belongs of (public.)?child \(event\) is ON DELETE {action}.*Make it NO ACTION")
    refuse(job, f"ON DELETE {action}", children="skip")


@pytest.mark.parametrize(
    "index",
    [
        "",
        "CREATE INDEX ON child (id, event)",
        "CREATE INDEX ON child (event) WHERE id > 0",
        "CREATE INDEX ON child USING brin (event)",
    ],
    ids=["none", "not leading", "partial", "brin"],
)
def test_an_unindexed_foreign_key_is_refused(job: Job, index: str) -> None:
    """Each deleted row would scan the other table: two thousand take a minute."""
    job.execute(f"CREATE TABLE child (id int PRIMARY KEY, event bigint REFERENCES events); {index}")
    fix = r"CREATE INDEX CONCURRENTLY ON (public.)?child \(event\)"
    refuse(job, f"foreign key child_event_fkey of (public.)?child has no index.*{fix}")


def test_a_foreign_key_to_one_partition_is_seen(job: Job) -> None:
    """It points at a leaf, not at the table, and deletes its children all the same."""
    job.execute(
        PARTED + "ALTER TABLE part ADD UNIQUE (id); CREATE TABLE child (id int PRIMARY KEY, event bigint,"
        " CONSTRAINT deep FOREIGN KEY (event) REFERENCES part (id) ON DELETE CASCADE); CREATE INDEX ON child (event)"
    )
    refuse(job, "foreign key deep of (public.)?child .* is ON DELETE CASCADE", table="public.parted")


CHILD = "CREATE TABLE child (id int PRIMARY KEY, event bigint REFERENCES events); CREATE INDEX ON child (event);"


def test_children_are_refused_or_their_parents_skipped(job: Job) -> None:
    """A row that another one points at never goes: the plan says so, or leaves it out when told to."""
    job.execute(CHILD + "INSERT INTO child VALUES (1, 17), (2, 9000)")
    refuse(
        job,
        "rows of (public.)?child point at stale rows through foreign key child_event_fkey: "
        "purge those first, or set children to 'skip'",
    )
    certificate = job.run(job.policy(children="skip"))
    assert (certificate["rows_purged"], job.one("SELECT min(id) FROM events")) == (2_999, 17)


def test_children_whose_keys_have_another_collation(job: Job) -> None:
    """The server compares them by the collation of the key that they point at."""
    job.execute('ALTER TABLE events ALTER id TYPE text COLLATE "C"; ANALYZE events')
    job.execute(CHILD.replace("bigint", 'text COLLATE "POSIX"') + "INSERT INTO child VALUES (1, '17'), (2, '9000')")
    refuse(job, "rows of (public.)?child point at stale rows")
    assert job.run(job.policy(children="skip"))["rows_purged"] == 2_999


def test_children_of_young_rows_do_not_matter(job: Job) -> None:
    """Only rows that point at stale ones stand in the way."""
    job.execute(CHILD + "INSERT INTO child VALUES (2, 9000)")
    assert job.run(job.policy())["rows_purged"] == 3_000


def test_a_child_that_comes_later_stops_the_purge(job: Job) -> None:
    """The foreign key holds: the batch is rolled back, and the error names it."""
    job.execute(CHILD)
    ticket, *_ = job.start(job.policy())
    archive(job.site, ticket.run, ticket.chunk)
    verify(job.site, ticket.run, ticket.chunk)
    job.execute("INSERT INTO child VALUES (1, 17)")
    with pytest.raises(RowsReferenced, match="child_event_fkey"):
        purge(job.site, ticket.run, ticket.chunk)
    assert job.one("SELECT count(*) FROM events") == 10_000


def test_a_table_that_points_at_itself(job: Job) -> None:
    """Its stale parents of young rows are found like any other's."""
    job.execute(
        "ALTER TABLE events ADD parent bigint REFERENCES events; CREATE INDEX ON events (parent);"
        "UPDATE events SET parent = 5 WHERE id = 9000; ANALYZE events"
    )
    refuse(job, "rows of (public.)?events point at stale rows through foreign key events_parent_fkey")
    assert job.run(job.policy(children="skip"))["rows_purged"] == 2_999


# Guards


def test_an_unknown_number_of_rows_is_refused(job: Job) -> None:
    """A share of the unknown cannot be checked."""
    job.execute("CREATE TABLE fresh (LIKE events INCLUDING ALL); INSERT INTO fresh TABLE events")
    refuse(job, "its number of rows is unknown.*run ANALYZE on it once", table="public.fresh")


def test_more_than_the_allowed_share_is_refused(job: Job) -> None:
    """A slip in keep would empty the table."""
    refuse(
        job,
        "3,000 of about 10,000 rows are stale, more than guard.max_fraction 0.25.*keep",
        guard=Guard(max_fraction=0.25),
    )
    assert len(job.plan(job.policy(guard=Guard(max_fraction=0.3))).chunks) == 1


def test_the_share_counts_rows_beyond_the_cut(job: Job) -> None:
    """max_rows cuts a run short, but does not make a wrong keep right."""
    refuse(job, "rows are stale, more than guard.max_fraction", guard=Guard(max_fraction=0.1, max_rows=500))


def test_an_estimate_that_is_behind_stops_no_run_that_may_take_all(job: Job) -> None:
    """There are as many rows as are stale, at least; a smaller share is refused as ever."""
    job.execute("CREATE TABLE few (LIKE events INCLUDING ALL)")
    oldest = "INSERT INTO few SELECT * FROM events ORDER BY at, id LIMIT {} OFFSET {}"
    job.execute(oldest.format(3, 0))
    job.execute("ANALYZE few")
    job.execute(oldest.format(2, 3))
    refuse(job, "5 of about 5 rows are stale", table="public.few", guard=Guard(max_fraction=0.9))
    assert len(job.plan(job.policy(table="public.few", guard=Guard(max_fraction=1))).chunks) == 1


def test_a_cutoff_in_the_future_is_refused(job: Job) -> None:
    """The database's own clock counts."""
    before = state(job)
    policy = job.policy()
    with pytest.raises(CutoffRefused, match="later than the database's own clock"):
        job.start(policy, window_of(policy, AS_OF.add(years=400)))
    assert state(job) == before


# Columns and predicates


def test_unknown_columns_are_refused(job: Job) -> None:
    """Those of the age and those of as_text."""
    refuse(
        job,
        "'Created' is not a column of public.events; its columns are id, at, note",
        error=NotFound,
        stale=OlderThan("Created", keep="1 day"),
    )
    refuse(job, "as_text names 'nota'", error=NotFound, archive=Parquet("file:///cold", as_text=("note", "nota")))


PREDICATES = [
    ("note = 'x'; DROP TABLE events", PolicyInvalid, "semicolon"),
    ("note = 'x') OR (true", PolicyInvalid, "exactly one boolean SQL expression"),
    ("id IN (SELECT 1)", PolicyInvalid, "a subquery"),
    ("at < now()", PolicyInvalid, "now depends on when it is asked"),
    ("random() < 0.5", PolicyInvalid, "function random is volatile"),
    ("nextval('s') > 0", PolicyInvalid, "function nextval is volatile"),
    ("pg_sleep(9) IS NULL", PolicyInvalid, "function pg_sleep is volatile"),
    ('"Mixed Case"(id)', PolicyInvalid, "function Mixed Case is volatile"),
    ("pg_catalog.set_config('a.b', 'c', false) = ''", PolicyInvalid, "function set_config is volatile"),
    ("note", StatementFailed, "argument of AND must be type boolean"),
    ("id", StatementFailed, "argument of AND must be type boolean"),
    ("note = 5", StatementFailed, "operator does not exist"),
    ("nota = 'x'", NotFound, 'column "nota" does not exist'),
    ("missing(id)", StatementFailed, "function missing"),
    ("sum(id) > 5", StatementFailed, "aggregate"),
    ("generate_series(1, 2) = 1", StatementFailed, "set-returning"),
]


@pytest.mark.parametrize(("where", "error", "said"), PREDICATES, ids=[each[0][:25] for each in PREDICATES])
def test_a_bad_predicate_is_refused(job: Job, where: str, error: type[HygieneError], said: str) -> None:
    """By the parser, by a look at its functions, or by the server, and the policy is named each time."""
    job.execute("CREATE FUNCTION \"Mixed Case\"(bigint) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT true'")
    refuse(job, said, "policy 'events'", error=error, stale=OlderThan("at", keep="300 days", where=where))
    refuse(job, "policy 'events'", error=error, stale=Matching(where))


# Privileges


def make_role(job: Job, *grants: str, ledger: bool = False) -> Job:
    """Make a role that may log in, named after the database since it outlives it, and a job that works as it."""
    role = f"role_{hashlib.sha256(job.dsn.encode()).hexdigest()[:12]}"
    name = psycopg.conninfo.conninfo_to_dict(job.dsn)["dbname"]
    job.execute(f"DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    job.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {role}")
    if ledger:
        job.execute(f"CREATE SCHEMA dbhygiene AUTHORIZATION {role}")
    for grant in grants:
        job.execute(grant.format(role=role, database=name))
    dsn = psycopg.conninfo.make_conninfo(job.dsn, user=role, password="secret")  # noqa: S106 - this test's own
    made = Job(job.dsn, job.folder, connect=lambda: psycopg.connect(dsn))
    made.told.append(role)
    return made


def test_a_role_that_only_reads_is_told_what_it_lacks(job: Job) -> None:
    """The refusal is the statements that an administrator runs; with them it goes away."""
    role = make_role(job, "GRANT SELECT ON events TO {role}")
    name = role.told[0]
    said = (f"role {name} lacks rights on it: GRANT SELECT, DELETE, UPDATE", "GRANT TEMPORARY ON DATABASE")
    message = refuse(role, *said, reclaim="none")
    for grant in re.findall(r"GRANT [^;]*;", message):
        job.execute(grant)
    assert role.plan(role.policy(reclaim="none")).stale_rows == 3_000


def test_a_role_that_may_not_enter_the_schema_is_told_so(job: Job) -> None:
    """Not that the table does not exist."""
    job.execute(
        "CREATE SCHEMA inner_room; ALTER TABLE events SET SCHEMA inner_room;"
        "CREATE VIEW events AS TABLE inner_room.events"
    )
    role = make_role(job)
    message = refuse(role, 'GRANT USAGE ON SCHEMA "inner_room" TO', table="inner_room.events", reclaim="none")
    for grant in re.findall(r"GRANT [^;]*;", message):
        job.execute(grant)
    assert role.plan(role.policy(table="inner_room.events", reclaim="none")).stale_rows == 3_000


def test_a_role_that_may_not_make_the_ledger_is_told_who_may(job: Job) -> None:
    """It prints the one statement for an administrator, and that statement is enough."""
    grants = (
        "GRANT SELECT, DELETE, UPDATE (id) ON events TO {role}",
        "GRANT TEMPORARY ON DATABASE {database} TO {role}",
    )
    role = make_role(job, *grants)
    with pytest.raises(PrivilegeMissing) as refused:
        role.start(role.policy(reclaim="none"))
    assert job.one("SELECT to_regnamespace('dbhygiene') IS NULL")
    statements = re.findall(r"CREATE SCHEMA [^;]*;", str(refused.value))
    assert len(statements) == 1
    job.execute(statements[0])
    assert role.run(role.policy(reclaim="none"))["rows_purged"] == 3_000


# Servers and databases


def test_publications_are_warned_of(job: Job) -> None:
    """Subscribers will delete the rows too; FOR ALL TABLES would also want the ledger's."""
    job.execute("CREATE PUBLICATION one FOR TABLE events; CREATE PUBLICATION everything FOR ALL TABLES")
    job.execute("CREATE PUBLICATION inserts FOR TABLE events WITH (publish = 'insert')")
    warnings = "\n".join(job.plan(job.policy()).facts.warnings)
    assert "publication one sends the deletes to its subscribers" in warnings
    assert "publication everything is FOR ALL TABLES: its subscribers need the tables of schema dbhygiene" in warnings
    assert "publication one is FOR ALL" not in warnings
    assert "inserts" not in warnings
    assert "warning       publication one" in job.plan(job.policy()).describe()


def test_a_published_table_without_replica_identity_is_refused(job: Job) -> None:
    """The server would refuse each DELETE; a partition counts too, and inserts alone do no harm."""
    job.execute("ALTER TABLE events REPLICA IDENTITY NOTHING; CREATE PUBLICATION shop FOR TABLE events")
    with pytest.raises(PlanRefused, match=r"publication shop .* ALTER TABLE public\.events REPLICA IDENTITY DEFAULT;"):
        job.plan(job.policy())
    job.execute("ALTER PUBLICATION shop SET (publish = 'insert')")
    assert job.run(job.policy())["rows_purged"] == STALE_EVENTS
    job.execute(
        "CREATE TABLE parted (id int PRIMARY KEY, at timestamptz) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF parted DEFAULT; ANALYZE parted; ALTER TABLE low REPLICA IDENTITY NOTHING;"
        "CREATE PUBLICATION parts FOR TABLE parted WITH (publish_via_partition_root)"
    )
    with pytest.raises(PlanRefused, match=r"low has no replica identity, and publication parts"):
        job.plan(job.policy(table="public.parted", stale=Matching("id < 5")))


def test_a_database_without_encoding_is_refused(postgres: PostgresServer, tmp_path: Path) -> None:
    """Its text may be no text, and Parquet's strings are."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        job = Job(postgres.dsn("bytes"), tmp_path)
        job.execute("CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz, note text); ANALYZE events")
        with pytest.raises(PlanRefused, match="encoding is SQL_ASCII"):
            job.start(job.policy())
    finally:
        postgres.drop_database("bytes")


@pytest.mark.parametrize("setting", ["session_replication_role = replica", "quote_all_identifiers = on"])
def test_a_setting_that_takes_the_servers_checks_away_is_refused(job: Job, setting: str) -> None:
    """As replica it would check no foreign key: rows would go that others point at. Each batch looks again."""
    job.execute(CHILD)
    database = job.one("SELECT current_database()")
    ticket, *_ = job.start(job.policy())
    archive(job.site, ticket.run, ticket.chunk)
    verify(job.site, ticket.run, ticket.chunk)
    job.execute("INSERT INTO child VALUES (1, 17)")
    job.execute(f"ALTER DATABASE {database} SET {setting}")
    name = setting.partition(" ")[0]
    with pytest.raises(StatementFailed, match=f"ALTER ROLE … RESET {name}"):
        purge(job.site, ticket.run, ticket.chunk)
    with pytest.raises(StatementFailed, match=f"ALTER ROLE … RESET {name}"):
        job.plan(job.policy(name="another"))
    assert job.one("SELECT count(*) FROM events") == 10_000


def test_too_many_columns_are_refused(job: Job) -> None:
    """The table in which the server compares rows has their version too."""
    job.execute("ALTER TABLE events " + ", ".join(f"ADD c{i} int" for i in range(1_597)))
    refuse(job, "more than 1,599 columns")


@pytest.mark.rights("all", "no role can be made on it")
def test_a_read_only_server_is_refused(job: Job) -> None:
    """A standby, or one that an administrator has closed."""
    job.execute(f"ALTER DATABASE {job.one('SELECT current_database()')} SET default_transaction_read_only = on")
    before = state(job)
    with pytest.raises(ReadOnlyServer, match="is read-only: point the Airflow connection at the primary"):
        job.start(job.policy())
    assert state(job) == before


def test_a_standby_is_refused(tmp_path: Path) -> None:
    """Connections that balance over replicas do happen."""
    with PostgresServer.start() as primary, primary.start_replica() as replica:
        job = Job(replica.dsn(), tmp_path)
        with pytest.raises(ReadOnlyServer, match="is a standby: point the Airflow connection at the primary"):
            job.start(job.policy())


def test_a_newer_ledger_is_refused(job: Job) -> None:
    """A worker that was not upgraded leaves a ledger alone that it may misread."""
    job.start(job.policy())
    job.execute("INSERT INTO dbhygiene.migration (version, oldest_reader) VALUES (99, 99)")
    with pytest.raises(LedgerIncompatible, match=r"has version 99.*upgrade airflow-dbhygiene"):
        job.start(job.policy(name="another"))
    job.execute("UPDATE dbhygiene.migration SET oldest_reader = 1 WHERE version = 99")
    assert job.start(job.policy(name="another"))


def test_a_clone_with_anothers_run_is_refused(job: Job) -> None:
    """A copy of the database carries the original's unfinished run, whose versions mean nothing here."""
    policy = job.policy()
    archived, verified, planned = job.start(policy)
    for ticket in (archived, verified):
        archive(job.site, ticket.run, ticket.chunk)
    verify(job.site, verified.run, verified.chunk)
    identifier = job.one("SELECT system_identifier::text FROM pg_control_system()")
    job.execute("UPDATE dbhygiene.run SET plan = replace(plan, %s, '4711')", (identifier,))
    for step, ticket in ((archive, planned), (verify, archived), (purge, verified)):
        with pytest.raises(WrongServer, match="planned on server 4711"):
            step(job.site, ticket.run, ticket.chunk)
    with pytest.raises(WrongServer, match="start a new one, which archives anew"):
        job.start(policy)
    assert job.one("SELECT count(*) FROM events") == 10_000


def test_a_store_that_cannot_be_written_stops_before_the_ledger(job: Job) -> None:
    """The probe comes before anything is made in the database."""
    job.folder.parent.mkdir(exist_ok=True)
    job.folder.write_text("a file where the folder should be")
    before = state(job)
    with pytest.raises(HygieneError, match="file:///cold"):
        job.start(job.policy())
    assert state(job) == before


def test_several_reasons_are_told_at_once(job: Job) -> None:
    """Nobody has to mend a table one refusal at a time."""
    job.execute(
        "ALTER TABLE events DROP CONSTRAINT events_pkey; CREATE RULE r AS ON DELETE TO events DO NOTHING;"
        "ALTER TABLE events ADD c regclass"
    )
    message = refuse(job, "no primary key", "rule r", "column c has type regclass")
    assert message.startswith("public.events cannot be purged safely, nothing was changed:")
    assert message.count("\n  - ") == 3


def test_a_policy_is_refused_before_the_database_is_asked() -> None:
    """A malformed policy costs no connection."""
    with pytest.raises(PolicyInvalid, match="keep"):
        Policy(
            name="p", conn_id="c", table="s.t", archive=Parquet("file:///a"),
            stale={"kind": "older_than", "column": "at", "keep": "0 days"},
        )  # fmt: skip
