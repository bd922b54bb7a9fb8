"""Tasks that place and release holds, and that pause and resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.operators.moments import parse_moment
from airflow_dbhygiene.operators.step import HygieneOperator, given, task_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_dbhygiene.steps.site import Site


class _OrderOperator(HygieneOperator):
    """Writes what a person wants into the ledger.

    :param conn_id: Airflow connection of the database (templated)
    :param by: who wants it; empty means whoever triggered the DAG run, or the DAG (templated)
    """

    def __init__(self, *, conn_id: str, by: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.by = by

    def connection_id(self) -> str:
        """Name the Airflow connection of the database."""
        return self.conn_id

    def who(self, context: Context) -> str:
        """Name whoever is behind this."""
        dag_run = context["dag_run"]
        return given(self.by) or given(dag_run.triggering_user_name) or f"DAG {dag_run.dag_id}"


class HoldOperator(_OrderOperator):
    """Place a legal hold: no purge deletes its rows, from its next batch on. Returns the hold and its rows so far.

    A retry places the same hold.

    :param conn_id: Airflow connection of the database (templated)
    :param table: schema.table (templated)
    :param reason: the case (templated)
    :param where: one boolean SQL expression over the table's columns (templated); or
    :param keys: values of the primary key, one a line; a JSON list a line for a key of several columns (templated)
    :param until: when the hold ends by itself, in ISO 8601; empty means when it is released (templated)
    :param hold_id: what to release it by; empty means that DAG run and task name it (templated)
    :param by: who wants it; empty means whoever triggered the DAG run (templated)
    """

    template_fields: Sequence[str] = ("conn_id", "table", "reason", "where", "keys", "until", "hold_id", "by")
    template_fields_renderers = {"where": "sql"}  # noqa: RUF012 - Airflow's own form

    def __init__(  # noqa: PLR0913 - a hold's own fields, all named
        self,
        *,
        table: str,
        reason: str,
        where: str = "",
        keys: str = "",
        until: str = "",
        hold_id: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.reason = reason
        self.where = where
        self.keys = keys
        self.until = until
        self.hold_id = hold_id

    def run_step(self, site: Site, context: Context) -> dict[str, Any]:
        """Call the step."""
        from airflow_dbhygiene.steps.hold import HoldWish, parse_keys, place_hold  # noqa: PLC0415

        placed = place_hold(
            site,
            HoldWish(
                self.table,
                self.reason,
                self.who(context),
                given(self.where),
                parse_keys((given(self.keys) or "").splitlines()),
                parse_moment(self.until, "until"),
                given(self.hold_id) or task_name(context),
            ),
        )
        rows = "unknown, it took too long to count" if placed.rows is None else f"{placed.rows:,}"
        self.log.info("hold %s protects rows of %s: %s now.", placed.hold.hold_id, placed.hold.table, rows)
        return {"hold_id": placed.hold.hold_id, "rows": placed.rows}


class ReleaseHoldOperator(_OrderOperator):
    """End a legal hold. Returns its id.

    :param conn_id: Airflow connection of the database (templated)
    :param hold_id: the hold's id (templated)
    :param by: who wants it; empty means whoever triggered the DAG run (templated)
    """

    template_fields: Sequence[str] = ("conn_id", "hold_id", "by")

    def __init__(self, *, hold_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hold_id = hold_id

    def run_step(self, site: Site, context: Context) -> str:
        """Call the step."""
        from airflow_dbhygiene.steps.hold import release_hold  # noqa: PLC0415

        return release_hold(site, self.hold_id, self.who(context)).hold_id


class PauseOperator(_OrderOperator):
    """Stop every purge of a policy, a table or all, within one batch. Returns the scope.

    :param conn_id: Airflow connection of the database (templated)
    :param scope: ``all``, ``table:<schema.table>`` or ``policy:<name>`` (templated)
    :param reason: what purges say while they wait (templated)
    :param by: who wants it; empty means whoever triggered the DAG run (templated)
    """

    template_fields: Sequence[str] = ("conn_id", "scope", "reason", "by")

    def __init__(self, *, scope: str, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scope = scope
        self.reason = reason

    def run_step(self, site: Site, context: Context) -> str:
        """Call the step."""
        from airflow_dbhygiene.steps.pause import pause  # noqa: PLC0415

        return pause(site, self.scope, self.reason, self.who(context)).scope


class ResumeOperator(_OrderOperator):
    """Let a policy, a table or all go on. Returns the scope.

    :param conn_id: Airflow connection of the database (templated)
    :param scope: as it was paused (templated)
    """

    template_fields: Sequence[str] = ("conn_id", "scope", "by")

    def __init__(self, *, scope: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scope = scope

    def run_step(self, site: Site, context: Context) -> str:  # noqa: ARG002 - an operator's signature
        """Call the step."""
        from airflow_dbhygiene.steps.pause import resume  # noqa: PLC0415

        return resume(site, self.scope)
