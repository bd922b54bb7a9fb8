"""plan: fix the cutoff, check the table and all that hangs on it, cut the stale rows into chunks, freeze it all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pendulum

from airflow_dbhygiene.databases.cold import Outlook
from airflow_dbhygiene.databases.protocol import Facts, Selection, Server, refuse_if_changed
from airflow_dbhygiene.errors import CutoffRefused, PlanRefused, PolicyInvalid, WrongServer
from airflow_dbhygiene.ledger import Chunk, Ledger, Run, migrate
from airflow_dbhygiene.ledger.moves import PLANNED
from airflow_dbhygiene.ledger.records import selection_to_json
from airflow_dbhygiene.pacing.reasons import unobservable
from airflow_dbhygiene.pacing.replicas import check_replicas
from airflow_dbhygiene.policy.moments import Window, origin_digest
from airflow_dbhygiene.policy.stale import Matching
from airflow_dbhygiene.steps.cut import Cut, chunks_of, cut_evenly
from airflow_dbhygiene.steps.going_on import run_that_goes_on
from airflow_dbhygiene.steps.mask import check_mask
from airflow_dbhygiene.steps.site import mebibytes

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Database
    from airflow_dbhygiene.policy import Policy
    from airflow_dbhygiene.steps.site import Site

_Answer = TypeVar("_Answer")
_SAMPLE_BATCH: Final = 20_000
_CAUTIOUS_SPEED: Final = 100_000.0
_UNFILLED: Final = re.compile(r"\{(name|table)\}")
_MOST_NAMED: Final = 3
_VERSION: Final = "?versionId="
_ROOTED: Final = re.compile(r"file://([^/@]*@)?/")
MOST_TRANSACTIONS: Final = 2**31
"""A row's version is 32 bits of a transaction number: it means one row version for this long."""


@dataclass(frozen=True)
class Plan:
    """All that a run will do: the dry run prints the very object that the run executes.

    :param stale_rows: rows that this run takes
    :param waiting_rows: an estimate of the stale rows beyond guard.max_rows, which wait for the next run
    :param preparations: statements that the store needs before the first row is archived
    :param holds: the holds whose rows are left, however stale
    """

    run: Run
    chunks: tuple[Chunk, ...]
    stale_rows: int
    waiting_rows: int
    facts: Facts
    preparations: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()

    @property
    def estimated_bytes(self) -> int:
        """Bytes that the rows take in the table, at its mean row."""
        return self.stale_rows * self.facts.table_bytes // max(self.facts.row_estimate or 1, 1)

    def describe(self) -> str:
        """Write the plan for a person."""
        run, selection = self.run, self.run.selection
        total, table_bytes = self.facts.row_estimate or 0, mebibytes(self.facts.table_bytes)
        lines = [
            f"run           {run.run_id}",
            f"policy        {run.policy.name} ({run.policy_digest[:12]})",
            f"table         {selection.table}, about {total:,} rows, {table_bytes}",
            f"cutoff        {run.cutoff or 'none: no age matters'}" + (f", since {run.since}" if run.since else ""),
            f"stale         {self.stale_rows:,} rows in {len(self.chunks)} chunks, {mebibytes(self.estimated_bytes)}",
            *([f"waiting       about {self.waiting_rows:,} more rows, for the next run"] if self.waiting_rows else []),
            *([f"held          what {self._named_holds()} protect, however old"] if self.holds else []),
            f"walk          {', '.join(selection.walk)}",
            f"archive       {run.policy.archive.address}",
            f"estimate      {self.estimated_seconds:,.0f} s of one worker's time, without Airflow's own",
            *(f"prepare       {statement.replace(chr(10), chr(10) + ' ' * 14)}" for statement in self.preparations),
            *(f"warning       {warning}" for warning in self.facts.warnings),
            "rows          " + selection.predicate.replace("\n", "\n              "),
        ]
        return "\n".join(lines)

    @property
    def estimated_seconds(self) -> float:
        """How long one worker takes, by the speed of the policy's runs so far, or by a cautious guess."""
        return self.stale_rows / float(self.run.plan["rows_per_second"])

    def _named_holds(self) -> str:
        named, others = ", ".join(map(repr, self.holds[:_MOST_NAMED])), len(self.holds) - _MOST_NAMED
        return f"the holds {named}" + (f" and {others} more" if others > 0 else "")


@dataclass(frozen=True)
class Ticket:
    """What a mapped task receives: all else is in the ledger."""

    conn_id: str
    run: str
    chunk: int
    label: str

    def as_dict(self) -> dict[str, Any]:
        """Give plain values, as XCom wants them."""
        return asdict(self)


@dataclass(frozen=True)
class _Draft:
    """What a plan is made of, before its rows are counted."""

    site: Site
    session: Any
    policy: Policy
    facts: Facts
    selection: Selection


def make_plan(site: Site, policy: Policy, window: Window, origin: dict[str, str]) -> Plan:
    """Look at everything, change nothing.

    :param origin: who asks (DAG, DAG run, task): the same origin gives the same run id
    :raises PolicyInvalid: when the archive would lie where nobody means it to
    :raises PlanRefused: with every reason by name, when the table cannot be purged safely
    :raises CutoffRefused: when the cutoff is later than the database's own clock allows
    :raises StatementTimedOut: when the table changes meanwhile
    """
    _check_place(policy)
    database = site.database
    store = site.store_of(policy) if policy.archives else None
    with database.session() as session:
        server = database.server(session)
        _check_clock(site, session, policy, window)
        facts = database.inspect(session, policy)
        if refusals := (*facts.refusals, *unobservable(database, policy.pace)):
            raise PlanRefused(str(facts.name), refusals)
        check_replicas(policy.pace, site.open_database)
        tuple(database.busy(session, policy.table_name, policy.pace))  # refuses what the purge could not see
        check_mask(policy, facts)
        predicate = database.predicate(session, policy, facts, window)
        _refuse_unled(site, session, policy, facts)
        holds = _binding_holds(database, session, policy)
        unheld = without_held(database, session, policy, predicate)
        stale = _apart(session, database.count_up_to, facts.name, unheld, policy.guard.max_rows + 1)
        fraction = _fraction(policy, facts, stale)
        walk = _apart(session, database.choose_walk, policy, facts, predicate, fraction)
        selection = Selection(facts.name, facts.columns, facts.key, walk, predicate)
        draft = _Draft(site, session, policy, facts, selection)
        cut = _cut(replace(draft, selection=replace(draft.selection, predicate=unheld)), stale)
        refuse_if_changed(facts.name, facts.fingerprint, database.fingerprint(session, facts.name))
        speed = Ledger(session).rows_per_second(policy.name) if Ledger.exists(session) else None
    outlook = store.outlook(selection) if store else Outlook()
    if outlook.refusals:
        raise PlanRefused(str(facts.name), outlook.refusals)
    frozen = _frozen(draft, window, server) | {"stale_rows": cut.taken, "waiting_rows": cut.waiting}
    run = _run(draft, window, origin, frozen | {"rows_per_second": speed or _CAUTIOUS_SPEED})
    return Plan(run, tuple(chunks_of(run, cut)), cut.taken, cut.waiting, facts, outlook.statements, holds)


def record_plan(site: Site, plan: Plan) -> tuple[Ticket, ...]:
    """Freeze the plan in the ledger. A run that is recorded already stays as it is."""
    if plan.run.policy.archives:
        site.store_of(plan.run.policy).prepare(plan.run)
    with site.database.session() as session:
        migrate(site.database, session)
        with session.transaction(durable=True):
            Ledger(session).record_run(plan.run, plan.chunks)
        return _tickets(session, plan.run)


def planned_before(site: Site, policy: Policy, window: Window, origin: dict[str, str]) -> tuple[Ticket, ...] | None:
    """Give the tickets of a run that the same origin has planned already: a retry never plans anew.

    :raises WrongServer: when that run was planned on another server, whose row versions mean nothing here
    :raises IllegalMove: when it was given up
    """
    with site.database.session() as session:
        if not Ledger.exists(session):
            return None
        run = Ledger(session).run(run_id_of(policy, window, origin))
        if run is None:
            return None
        check_server(site, session, run)
        return _tickets(session, run_that_goes_on(site, session, run.run_id))


def has_begun(site: Site, policy: Policy, dag_run: dict[str, str]) -> bool:
    """Tell whether a scheduler's run has planned already: what it began must come to its end, however little is left.

    :param dag_run: its part of the origin: DAG and DAG run
    """
    with site.database.session() as session:
        return Ledger.exists(session) and Ledger(session).has_planned(policy.name, dag_run)


def check_server(site: Site, session: Any, run: Run) -> None:
    """Refuse to go on with a run of another server, or of a time before a failover.

    :raises WrongServer: since there the same version tokens may stand for other rows
    """
    server = site.database.server(session)
    if (server.system_identifier, server.timeline) != (run.server.system_identifier, run.server.timeline):
        message = (
            f"run {run.run_id} was planned on server {run.server.system_identifier} timeline {run.server.timeline}, "
            f"and this is {server.system_identifier} timeline {server.timeline} (a clone, or after a failover). Row "
            f"versions mean nothing across that border: leave the run, and start a new one, which archives anew."
        )
        raise WrongServer(message)
    if server.transaction - run.server.transaction > MOST_TRANSACTIONS:
        message = (
            f"run {run.run_id} was planned {server.transaction - run.server.transaction:,} transactions ago: row "
            f"versions may have come round again. Leave the run, and start a new one, which archives anew."
        )
        raise WrongServer(message)


def run_id_of(policy: Policy, window: Window, origin: dict[str, str]) -> str:
    """Name a run by its policy, its moment and its origin."""
    digest = origin_digest(policy.name, json.dumps(origin, sort_keys=True))
    return f"{policy.name}-{window.as_of.in_timezone('UTC'):%Y%m%dT%H%M%SZ}-{digest}"


def _check_place(policy: Policy) -> None:
    """Look at where the archive would lie. The policy's own fields do not: they must take what old runs were given."""
    place = policy.archive.address if policy.archives else ""
    if found := _UNFILLED.search(place):
        message = f"is filled in where policies are YAML: in Python write the name itself, not {place!r}."
        raise PolicyInvalid(f"archive of policy {policy.name!r}: {found[0]} {message}")
    if place.startswith("file://") and not _ROOTED.match(place):
        message = f"{place!r} is below the folder that a worker happens to run in: write 'file:///folder'."
        raise PolicyInvalid(f"archive of policy {policy.name!r}: {message}")
    if "://" in place and _VERSION in place:
        message = f"S3's client sees no name behind {_VERSION!r}: in {place!r} objects would overwrite one another."
        raise PolicyInvalid(f"archive of policy {policy.name!r}: {message} Leave it out.")


def _check_clock(site: Site, session: Any, policy: Policy, window: Window) -> None:
    now = pendulum.from_timestamp(site.database.clock(session))
    if window.as_of > now and not isinstance(policy.stale, Matching):
        message = (
            f"policy {policy.name!r}: the run counts from {window.as_of}, which is later than the database's own clock "
            f"({now}): rows younger than keep would go. Wait, or correct the clocks."
        )
        raise CutoffRefused(message)


def _fraction(policy: Policy, facts: Facts, stale: int) -> float:
    """Give the stale part of the table; none when rows must wait, since then those go first that come first by age."""
    return 0.0 if stale > policy.guard.max_rows else stale / max(facts.row_estimate or 0, 1)


def _apart(session: Any, question: Callable[..., _Answer], *values: Any) -> _Answer:
    """Ask in a transaction of its own: in between, whoever waits to change the table has his turn."""
    with session.transaction(walking=True):
        return question(session, *values)


def _cut(draft: _Draft, stale: int) -> Cut:
    """Cut the stale rows into chunks, after a look at what depends on their number."""
    database, session, guard = draft.site.database, draft.session, draft.policy.guard
    if not stale:
        return Cut((), guard.min_chunk_rows, 0, 0)
    expected = stale
    if stale > guard.max_rows:
        expected = max(stale, _apart(session, database.estimate, draft.selection))
    refusals = tuple(_refusals(draft, expected))
    if refusals:
        raise PlanRefused(str(draft.facts.name), refusals)
    return cut_evenly(partial(_apart, session, database.hop, draft.selection), guard, stale, expected)


def without_held(database: Database, session: Any, policy: Policy, predicate: str) -> str:
    """Leave out what a hold protects now. It is for counting, and never frozen: a hold may be released."""
    held = Ledger(session).held_condition(database, policy) if Ledger.exists(session) else None
    return f"({predicate}) AND ({held}) IS NOT TRUE" if held else predicate


def _binding_holds(database: Database, session: Any, policy: Policy) -> tuple[str, ...]:
    return tuple(Ledger(session).binding_holds(database, policy)) if Ledger.exists(session) else ()


def _refusals(draft: _Draft, expected: int) -> Iterator[str]:
    policy, facts, selection = draft.policy, draft.facts, draft.selection
    total, guard = max(facts.row_estimate or 0, expected, 1), policy.guard  # the estimate may be behind
    if expected / total > guard.max_fraction:
        yield (
            f"{expected:,} of about {total:,} rows are stale, more than guard.max_fraction {guard.max_fraction:g}: "
            f"check the policy's keep, run ANALYZE if the table's estimate is old, or raise max_fraction."
        )
    if policy.window == "interval" and expected > guard.max_rows:
        yield (
            f"about {expected:,} rows of this interval are stale, more than guard.max_rows {guard.max_rows:,}, and no "
            f"run of another interval takes the rest: raise max_rows, or schedule shorter intervals."
        )
    full_scans = draft.site.database.full_scans
    if not guard.allow_full_scan and _apart(draft.session, full_scans, selection, _SAMPLE_BATCH):
        age = () if isinstance(policy.stale, Matching) else (policy.stale.column,)
        advice = draft.site.database.index_advice(facts.name, (*age, *selection.key))
        yield f"no index lets a run walk its rows in order: {advice}, or set guard.allow_full_scan."
    if policy.children == "refuse":
        for found in draft.site.database.referenced(draft.session, selection):
            yield f"{found}: purge those first, or set children to 'skip'."


def _refuse_unled(site: Site, session: Any, policy: Policy, facts: Facts) -> None:
    """Refuse to look for rows of an age all over the table, before the count begins with that."""
    if isinstance(policy.stale, Matching) or policy.guard.allow_full_scan:
        return
    if not leads_to_stale(site.database, session, policy):
        advice = site.database.index_advice(facts.name, (policy.stale.column, *facts.key))
        found = f"no index leads with {policy.stale.column}: to find its stale rows each step would read all others"
        raise PlanRefused(str(facts.name), (f"{found}. {advice}, or set guard.allow_full_scan.",))


def leads_to_stale(database: Database, session: Any, policy: Policy) -> bool:
    """Tell whether an index leads to the rows that are old enough."""
    if isinstance(policy.stale, Matching):
        return False
    return database.leads_to(session, policy.table_name, policy.stale.column)


def _run(draft: _Draft, window: Window, origin: dict[str, str], frozen: dict[str, Any]) -> Run:
    run_id = run_id_of(draft.policy, window, origin)
    return Run(
        run_id, draft.policy, draft.selection, Server(**frozen["server"]), frozen["fingerprint"], frozen["ddl"],
        frozen["since"], frozen["cutoff"], PLANNED, dict(origin), frozen,
    )  # fmt: skip


def _frozen(draft: _Draft, window: Window, server: Server) -> dict[str, Any]:
    """Give what the ledger keeps of the plan, as plain values."""
    since, cutoff = (moment.isoformat() if moment else None for moment in (window.since, window.cutoff))
    return {
        "policy_json": draft.policy.json_text,
        "selection": selection_to_json(draft.selection),
        "server": asdict(server),
        "fingerprint": draft.facts.fingerprint,
        "ddl": draft.facts.ddl,
        "since": since,
        "cutoff": cutoff,
        "as_of": window.as_of.isoformat(),
        "row_estimate": draft.facts.row_estimate,
        "table_bytes": draft.facts.table_bytes,
        "warnings": list(draft.facts.warnings),
    }


def _tickets(session: Any, run: Run) -> tuple[Ticket, ...]:
    chunks = Ledger(session).chunks(run.run_id)
    return tuple(Ticket(run.policy.conn_id, run.run_id, chunk.chunk, chunk.label) for chunk in chunks)
