"""Tells whether there is enough clutter to do something about."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_dbhygiene.connections import open_site
from airflow_dbhygiene.errors import DatabaseUnavailable, PolicyInvalid, Terminal, Transient
from airflow_dbhygiene.operators.moments import moments_of, origin_of
from airflow_dbhygiene.operators.step import shown
from airflow_dbhygiene.policy.moments import resolve_window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_dbhygiene.policy import Policy
    from airflow_dbhygiene.policy.moments import Window
    from airflow_dbhygiene.steps.measure import Clutter
    from airflow_dbhygiene.steps.site import Site

DEFAULT_LIMITS = {"stale_rows": 1}
_BACKFILL: Final = "backfill"


class ClutterSensor(BaseSensorOperator):
    """Measure clutter against limits; any limit that is reached is enough.

    Returns what it measured. Measures everywhere: ``stale_rows`` (counted no further than the limit),
    ``oldest_age_seconds``, ``table_bytes``, ``index_bytes``, ``disk_bytes`` (of all its files). On PostgreSQL
    ``dead_tuples``, ``dead_ratio`` (dead of all tuples, 0 to 1). On MySQL and MariaDB ``free_bytes``, ``free_ratio``
    (free within the table's files) and ``history_list_length`` (old row versions that the whole server keeps).

    :param policy: what is stale
    :param at_least: measure → the least value at which there is something to do; default is one stale row
    :param on_below: ``skip`` the tasks behind the sensor when there is too little, or ``wait`` until there is enough; a
        backfill never waits: what was too little in the past mostly stays so
    :param as_of: the moment that keep counts back from, in ISO 8601; default as in ``PlanOperator`` (templated)
    :param deferrable: wait in the triggerer and hold no worker slot; default True
    :param patience_seconds: how long the database may fail to answer while the sensor waits
    """

    template_fields: Sequence[str] = ("as_of", "at_least", "on_below", "policy_json", "policy_digest")
    template_fields_renderers = {"policy_json": "json", "at_least": "json"}  # noqa: RUF012 - Airflow's own form
    ui_color = "#dcebfa"

    def __init__(  # noqa: PLR0913 - a sensor's settings, all named
        self,
        *,
        policy: Policy,
        at_least: Mapping[str, float] | None = None,
        on_below: Literal["skip", "wait"] = "skip",
        as_of: str | None = None,
        deferrable: bool = True,
        patience_seconds: float = 1800,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_below not in ("skip", "wait"):
            raise PolicyInvalid(f"on_below is {on_below!r}: use 'skip' or 'wait'.")
        self.policy_json = shown(policy)
        self.policy_digest = policy.digest
        self.at_least = dict(DEFAULT_LIMITS if at_least is None else at_least)
        self.on_below = on_below
        self.as_of = as_of
        self.deferrable = deferrable
        self.patience_seconds = patience_seconds
        self._policy = policy
        self._site: Site | None = None

    def poke(self, context: Context) -> PokeReturnValue:
        """Measure once."""
        try:
            clutter = self._measure(context)
            enough = clutter.is_above or self._has_begun(context)
        except Terminal as error:
            raise AirflowFailException(str(error)) from error
        except Transient as error:
            if self.on_below == "skip":
                raise
            self.log.warning("cannot measure now, and try again: %s", error)
            return PokeReturnValue(is_done=False)
        self.log.info("clutter: %s", clutter.describe())
        if not enough and self.on_below == "skip":
            raise AirflowSkipException(f"too little clutter: {clutter.describe()}")
        return PokeReturnValue(is_done=enough, xcom_value=dict(clutter.measured))

    def execute(self, context: Context) -> Any:
        """Look once; then skip, poke on, or wait in the triggerer."""
        if context["dag_run"].run_type == _BACKFILL:
            self.on_below = "skip"
        if not self.deferrable or self.on_below == "skip":
            return super().execute(context)
        looked = self.poke(context)
        if looked.is_done:
            return looked.xcom_value
        return self._defer(context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        """Take what the trigger measured."""
        status = (event or {}).get("status")
        if event is not None and status == "reached":
            return event["measured"]
        message = (event or {}).get("message", "the trigger ended without a word")
        if status == "unavailable":
            raise DatabaseUnavailable(message)
        raise AirflowFailException(message)

    def on_kill(self) -> None:
        """Cancel the running query from a second connection."""
        if self._site is not None:
            self._site.database.cancel()

    def _window(self, context: Context) -> Window:
        return resolve_window(self._policy, moments_of(context, self.as_of))

    def _measure(self, context: Context) -> Clutter:
        from airflow_dbhygiene.steps.measure import measure  # noqa: PLC0415

        self._site = open_site(self._policy.conn_id, self.log.info)
        return measure(self._site, self._policy, self._window(context), self.at_least)

    def _has_begun(self, context: Context) -> bool:
        """Tell whether this DAG run was cleared after it had begun: then it must not be skipped, and never waits."""
        from airflow_dbhygiene.steps.plan import has_begun  # noqa: PLC0415

        dag_run = {name: value for name, value in origin_of(context, "").items() if name != "task"}
        begun = self._site is not None and has_begun(self._site, self._policy, dag_run)
        if begun:
            self.log.info("this run has begun already, and goes on.")
        return begun

    def _defer(self, context: Context) -> NoReturn:
        from airflow_dbhygiene.triggers.clutter import ClutterTrigger  # noqa: PLC0415

        window = self._window(context)
        if "stale_rows" in self.at_least and window.cutoff:
            self.log.info("waiting for rows older than %s: what grows old meanwhile is for the next run", window.cutoff)
        self.defer(
            timeout=timedelta(seconds=self.timeout),
            method_name="execute_complete",
            trigger=ClutterTrigger(
                policy_json=self._policy.json_text,
                as_of=window.as_of.isoformat(),
                since=window.since.isoformat() if window.since else None,
                cutoff=window.cutoff.isoformat() if window.cutoff else None,
                limits=self.at_least,
                poke_interval=self.poke_interval,
                patience_seconds=self.patience_seconds,
            ),
        )
