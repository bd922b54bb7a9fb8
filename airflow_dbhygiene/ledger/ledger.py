"""The audit trail, in the database that is cleaned: what was planned, archived, deleted, and by which batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_dbhygiene.databases.protocol import Database, Server, Span
from airflow_dbhygiene.errors import IllegalMove, LedgerIncompatible, NotFound, PolicyInvalid
from airflow_dbhygiene.ledger.migrations import version_of
from airflow_dbhygiene.ledger.moves import MOVES
from airflow_dbhygiene.ledger.records import (
    Chunk,
    Run,
    RunRow,
    bound_from_json,
    bound_to_json,
    policy_from_record,
    selection_from_json,
)
from airflow_dbhygiene.policy.model import Policy
from airflow_dbhygiene.policy.names import parse_table_name

RESTORE = "restore"
"""Who places the holds over restored rows."""

_CHUNK = """
SELECT run_id, chunk, state, label, lower_bound, upper_bound, planned_rows, nonce, archived_rows,
       purged_through, purged, drifted, held, vanished, locked, purge_seconds,
       changed_at, CURRENT_TIMESTAMP(6)
FROM dbhygiene.chunk
"""


class Ledger:
    """Reads and writes the ledger in the transaction of the session that it is given."""

    def __init__(self, session: Any) -> None:
        self.session = session

    # runs

    def record_run(self, run: Run, chunks: Sequence[Chunk]) -> bool:
        """Freeze a plan. A second worker with the same plan loses quietly: False."""
        inserted: bool = self.session.insert_new(
            "dbhygiene.run",
            {
                "run_id": run.run_id, "policy": run.policy.name, "table_name": str(run.selection.table),
                "state": "planned", "since": run.since, "cutoff": run.cutoff, "policy_digest": run.policy_digest,
                "plan": json.dumps(run.plan, ensure_ascii=False), "origin": json.dumps(run.origin, ensure_ascii=False),
            },
        )  # fmt: skip
        if inserted:
            for chunk in chunks:
                self._record_chunk(chunk)
        return inserted

    def run(self, run_id: str) -> Run | None:
        """Read a run back, None when there is none."""
        rows = self.session.execute(
            "SELECT run_id, state, plan, origin FROM dbhygiene.run WHERE run_id = %s", (run_id,)
        )
        return _run(*rows[0]) if rows else None

    def latest_runs(self, policy: str | None, most: int) -> tuple[RunRow, ...]:
        """Read runs in one line each, the newest first."""
        rows = self.session.execute(_RUNS, {"policy": policy, "most": most})
        return tuple(RunRow(*row) for row in rows)

    def run_ids(self, policy: str | None) -> tuple[str, ...]:
        """Name a policy's runs, the oldest first."""
        rows = self.session.execute(
            "SELECT run_id FROM dbhygiene.run WHERE policy = %s ORDER BY planned_at, run_id", (policy,)
        )
        return tuple(row[0] for row in rows)

    def deleting_beside(self, run: Run) -> tuple[str, ...]:
        """Name other runs of the same table that have archived what they have not purged yet."""
        rows = self.session.execute(
            "SELECT DISTINCT run_id FROM dbhygiene.run r JOIN dbhygiene.chunk c USING (run_id)"
            " WHERE r.state = 'planned' AND table_name = %s AND run_id <> %s"
            " AND c.state IN ('archived', 'verified', 'purging') ORDER BY run_id",
            (str(run.selection.table), run.run_id),
        )
        return tuple(row[0] for row in rows)

    def policies(self) -> tuple[str, ...]:
        """Name the policies that have runs."""
        return tuple(row[0] for row in self.session.execute("SELECT DISTINCT policy FROM dbhygiene.run ORDER BY 1"))

    def has_planned(self, policy: str, dag_run: Mapping[str, str]) -> bool:
        """Tell whether a scheduler's run (its part of the origin) has planned a run of the policy."""
        rows = self.session.execute("SELECT origin FROM dbhygiene.run WHERE policy = %s", (policy,))
        return any(dag_run.items() <= json.loads(origin).items() for (origin,) in rows)

    def existing_run(self, run_id: str) -> Run:
        """Read a run back.

        :raises NotFound: when this database's ledger holds no such run
        """
        run = self.run(run_id)
        if run is None:
            message = f"run {run_id} is not in this database's ledger: was it planned on another connection?"
            raise NotFound(message)
        return run

    def report_run(self, run_id: str, state: str, report: str, sha256: str) -> None:
        """Close a run with its certificate."""
        self.session.execute(
            "UPDATE dbhygiene.run SET state = %s, report = %s, certificate_sha256 = %s,"
            " reported_at = CURRENT_TIMESTAMP(6) WHERE run_id = %s",
            (state, report, sha256, run_id),
        )

    def record_reclaim(self, run_id: str, done: Mapping[str, Any]) -> None:
        """Keep what the reclaim step did, and what it gave back; the latest try counts."""
        text = json.dumps(done, ensure_ascii=False)
        if not self.session.insert_new("dbhygiene.reclaim", {"run_id": run_id, "done": text}):
            self.session.execute(
                "UPDATE dbhygiene.reclaim SET done = %s, done_at = CURRENT_TIMESTAMP(6) WHERE run_id = %s",
                (text, run_id),
            )

    def reclaimed(self, run_id: str) -> dict[str, Any] | None:
        """Give what the reclaim step did; None when it did not run."""
        rows = self.session.execute("SELECT done FROM dbhygiene.reclaim WHERE run_id = %s", (run_id,))
        return json.loads(rows[0][0]) if rows else None

    def report_text(self, run_id: str) -> str | None:
        """Give the text of the run's latest certificate, None before its first."""
        rows = self.session.execute("SELECT report FROM dbhygiene.run WHERE run_id = %s", (run_id,))
        return rows[0][0] if rows else None

    # chunks

    def chunks(self, run_id: str, *, lock: bool = False) -> tuple[Chunk, ...]:
        """Read all chunks of a run, in their order; with ``lock``, keep others out until the transaction ends."""
        suffix = " WHERE run_id = %s ORDER BY chunk" + (" FOR UPDATE" if lock else "")
        rows = self.session.execute(_CHUNK + suffix, (run_id,))
        return tuple(_chunk(*row) for row in rows)

    def chunk(self, run_id: str, chunk: int, *, lock: bool = False) -> Chunk:
        """Read one chunk; with ``lock``, keep twins out of it until the transaction ends."""
        suffix = " WHERE run_id = %s AND chunk = %s" + (" FOR UPDATE" if lock else "")
        rows = self.session.execute(_CHUNK + suffix, (run_id, chunk))
        if not rows:
            raise NotFound(f"chunk {chunk} of run {run_id} is not in this database's ledger.")
        return _chunk(*rows[0])

    def move(self, chunk: Chunk, state: str, **fields: object) -> bool:
        """Change a chunk's state if it and its archive still are what the caller saw: of two workers one wins.

        :raises IllegalMove: when no chunk may ever move so
        """
        if state not in MOVES[chunk.state]:
            raise IllegalMove(f"chunk {chunk.chunk} of run {chunk.run_id} is {chunk.state}: it cannot become {state}.")
        sets = "".join(f", {name} = %({name})s" for name in fields)
        statement = (
            "UPDATE dbhygiene.chunk SET state = %(to)s, changed_at = CURRENT_TIMESTAMP(6)"
            f"{sets}"
            " WHERE run_id = %(run_id)s AND chunk = %(chunk)s AND state = %(from)s AND coalesce(nonce, '') = %(seen)s"
        )
        seen = {"from": chunk.state, "seen": chunk.nonce or "", "run_id": chunk.run_id, "chunk": chunk.chunk}
        return bool(self.session.change(statement, {"to": state, **seen, **fields}))

    # holds and pauses

    def held_condition(self, database: Database, policy: Policy) -> str | None:
        """Give one SQL condition for all rows that a hold protects from a policy, None without a hold.

        :raises PolicyInvalid: see :meth:`binding_holds`
        """
        held = self.binding_holds(database, policy).values()
        return " OR ".join(f"((\n{predicate}\n) IS NOT FALSE)" for predicate in held) or None

    def binding_holds(self, database: Database, policy: Policy) -> dict[str, str]:
        """Give the conditions of the holds that protect rows from a policy, by the holds' ids.

        A hold on a table binds its partitions, too.

        :raises PolicyInvalid: when a hold names its table in a form that cannot be read, or names a partition of this
            one: it might mean rows of it
        """
        rows = self.session.execute(
            "SELECT hold_id, table_name, predicate FROM dbhygiene.hold WHERE released_at IS NULL"
            " AND (until_at IS NULL OR until_at > CURRENT_TIMESTAMP(6)) AND (%s = 'keep' OR placed_by <> %s)"
            " ORDER BY hold_id",
            (policy.restored, RESTORE),
        )
        holds = [(hold_id, parse_table_name(table), predicate) for hold_id, table, predicate in rows]
        named = database.relatives(self.session, policy.table_name, {table for _, table, _ in holds})
        for hold_id, table, _ in holds:
            if table in named.parts:
                message = (
                    f"hold {hold_id!r} names {table}, a partition of {policy.table}, whose other rows it does not tell "
                    f"apart: place it on {policy.table}, and release {hold_id!r} then."
                )
                raise PolicyInvalid(message)
        return {hold_id: predicate for hold_id, table, predicate in holds if table in named.whole}

    def pause_reason(self, database: Database, run: Run) -> str | None:
        """Tell why the run must pause, None when it need not. Its table pauses with any parent or partition of it.

        :raises PolicyInvalid: when a pause names a table in a form that cannot be read: it might mean this one
        """
        pauses = self.session.execute("SELECT scope, reason, placed_by FROM dbhygiene.pause ORDER BY scope")
        tables = {scope: parse_table_name(scope[6:]) for scope, *_ in pauses if scope.startswith("table:")}
        named = database.relatives(self.session, run.selection.table, set(tables.values()))
        scopes = {"all", f"policy:{run.policy.name}"}
        scopes |= {scope for scope, table in tables.items() if table in named.whole | named.parts}
        told = (f"paused ({scope}) by {by}: {reason}" for scope, reason, by in pauses if scope in scopes)
        return next(told, None)

    # figures

    def figures(self, run_id: str) -> dict[str, Any]:
        """Add up a run's chunks and objects."""
        names = (
            "chunks rows_planned rows_archived rows_verified rows_purged rows_drifted rows_held rows_vanished "
            "rows_locked rows_left archive_seconds verify_seconds purge_seconds objects bytes batches careful_batches"
        ).split()
        rows = self.session.execute(_FIGURES, {"run_id": run_id})
        figures = dict(zip(names, rows[0], strict=True))
        return {name: float(value) if name.endswith("_seconds") else int(value) for name, value in figures.items()}

    def rows_per_second(self, policy: str) -> float | None:
        """Give the speed of the policy's runs so far, all steps taken together; None before the first."""
        rows = self.session.execute(
            "SELECT sum(c.purged) / nullif(sum(c.archive_seconds + c.verify_seconds + c.purge_seconds), 0)"
            " FROM dbhygiene.chunk c JOIN dbhygiene.run r USING (run_id) WHERE r.policy = %s AND c.state = 'purged'"
            " AND c.purged > 0",
            (policy,),
        )
        return float(rows[0][0]) if rows[0][0] else None

    @staticmethod
    def exists(session: Any) -> bool:
        """Tell whether the database has a ledger.

        :raises LedgerIncompatible: when it has one that this version cannot read
        """
        return version_of(session) > 0

    def _record_chunk(self, chunk: Chunk) -> None:
        self.session.execute(
            "INSERT INTO dbhygiene.chunk (run_id, chunk, state, label, lower_bound, upper_bound, planned_rows)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                chunk.run_id, chunk.chunk, chunk.state, chunk.label, bound_to_json(chunk.span.lower),
                bound_to_json(chunk.span.upper), chunk.planned_rows,
            ),
        )  # fmt: skip


_FIGURES = """
SELECT count(*), coalesce(sum(planned_rows), 0), coalesce(sum(archived_rows), 0),
       coalesce(sum(CASE WHEN state IN ('verified', 'purging', 'purged') THEN archived_rows END), 0),
       coalesce(sum(purged), 0), coalesce(sum(drifted), 0), coalesce(sum(held), 0),
       coalesce(sum(vanished), 0), coalesce(sum(locked), 0),
       coalesce(sum(archived_rows - purged - drifted - held - vanished), 0),
       coalesce(sum(archive_seconds), 0), coalesce(sum(verify_seconds), 0), coalesce(sum(purge_seconds), 0),
       (SELECT count(*) FROM dbhygiene.object o JOIN dbhygiene.chunk w USING (run_id, chunk)
        WHERE o.run_id = %(run_id)s AND o.nonce = w.nonce),
       (SELECT coalesce(sum(o.bytes), 0) FROM dbhygiene.object o JOIN dbhygiene.chunk w USING (run_id, chunk)
        WHERE o.run_id = %(run_id)s AND o.nonce = w.nonce),
       (SELECT count(*) FROM dbhygiene.batch WHERE run_id = %(run_id)s),
       (SELECT count(*) FROM dbhygiene.batch WHERE run_id = %(run_id)s AND careful)
FROM dbhygiene.chunk WHERE run_id = %(run_id)s
"""
_RUNS = """
SELECT run_id, policy, table_name, r.state, cutoff, planned_at, count(chunk),
       count(CASE WHEN c.state = 'purged' THEN 1 END), coalesce(sum(archived_rows), 0), coalesce(sum(purged), 0),
       coalesce(sum(drifted), 0), coalesce(sum(held), 0), coalesce(sum(vanished), 0)
FROM dbhygiene.run r LEFT JOIN dbhygiene.chunk c USING (run_id)
WHERE policy = coalesce(%(policy)s, policy)
GROUP BY run_id, policy, table_name, r.state, cutoff, planned_at
ORDER BY planned_at DESC, run_id LIMIT %(most)s
"""


def _run(run_id: str, state: str, plan_text: str, origin: str) -> Run:
    plan = json.loads(plan_text)
    try:
        policy, unknown = policy_from_record(plan["policy_json"])
        return Run(
            run_id=run_id,
            policy=policy,
            selection=selection_from_json(plan["selection"]),
            server=Server(**plan["server"]),
            fingerprint=plan["fingerprint"],
            ddl=plan["ddl"],
            since=plan["since"],
            cutoff=plan["cutoff"],
            state=state,
            origin=json.loads(origin),
            plan=plan,
            unknown_fields=unknown,
        )
    except (KeyError, TypeError, PolicyInvalid) as error:
        message = (
            f"run {run_id} was planned by another version of airflow-dbhygiene: finish it there, or plan anew. This "
            f"one cannot read it: {error}"
        )
        raise LedgerIncompatible(message) from error


def _chunk(*row: Any) -> Chunk:
    run_id, chunk, state, label, lower, upper, *figures, changed_at, now = row
    figures.append(max((now - changed_at).total_seconds(), 0.0))
    return Chunk(run_id, chunk, state, label, Span(bound_from_json(lower), bound_from_json(upper)), *figures)
