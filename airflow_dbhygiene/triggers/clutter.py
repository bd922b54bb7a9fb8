"""Waits, without a worker, until clutter reaches a limit."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_dbhygiene.errors import HygieneError, Terminal
from airflow_dbhygiene.policy import Policy
from airflow_dbhygiene.policy.moments import Window

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class ClutterTrigger(BaseTrigger):
    """Measure again and again, in a thread of its own; a database that is down for a while is waited for.

    :param policy_json: the policy
    :param as_of: the moment that keep counts back from, ISO 8601
    :param since: where the stale rows begin, ISO 8601; None is the beginning
    :param cutoff: where they end, ISO 8601; None when no age matters
    :param limits: measure → the least value at which there is something to do
    :param poke_interval: seconds between two looks
    :param patience_seconds: how long the database may fail to answer before the sensor fails
    """

    def __init__(  # noqa: PLR0913 - a trigger is rebuilt from plain values
        self,
        *,
        policy_json: str,
        as_of: str,
        since: str | None,
        cutoff: str | None,
        limits: dict[str, float],
        poke_interval: float,
        patience_seconds: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.policy_json = policy_json
        self.as_of = as_of
        self.since = since
        self.cutoff = cutoff
        self.limits = limits
        self.poke_interval = poke_interval
        self.patience_seconds = patience_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what the triggerer rebuilds the trigger from."""
        names = ("policy_json", "as_of", "since", "cutoff", "limits", "poke_interval", "patience_seconds")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: what was measured, or why it cannot be."""
        answered = time.monotonic()
        while True:
            try:
                measured = await self._look()
                answered = time.monotonic()
                if measured is not None:
                    yield _event({"status": "reached", "measured": measured})
                    return
            except Terminal as error:
                yield _event({"status": "failed", "message": str(error)})
                return
            except HygieneError as error:
                self.log.warning("cannot measure now, and try again: %s", error)
                if time.monotonic() - answered > self.patience_seconds:
                    yield _event({"status": "unavailable", "message": str(error)})
                    return
            await asyncio.sleep(self.poke_interval)

    async def _look(self) -> dict[str, float] | None:
        """Measure once; give the figures when a limit is reached."""
        policy = Policy.from_record(self.policy_json)
        connection = await BaseHook.aget_connection(policy.conn_id)
        return await asyncio.to_thread(self._measure, policy, connection)

    def _measure(self, policy: Policy, connection: Any) -> dict[str, float] | None:
        from airflow_dbhygiene.connections import open_site  # noqa: PLC0415 - loads the driver, off the event loop
        from airflow_dbhygiene.steps.measure import measure  # noqa: PLC0415

        window = Window(
            since=_moment(self.since) if self.since else None,
            cutoff=_moment(self.cutoff) if self.cutoff else None,
            as_of=_moment(self.as_of),
        )
        clutter = measure(open_site(policy.conn_id, self.log.info, connection), policy, window, self.limits)
        self.log.info("clutter: %s", clutter.describe())
        return dict(clutter.measured) if clutter.is_above else None


def _event(payload: dict[str, Any]) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]


def _moment(text: str) -> pendulum.DateTime:
    return pendulum.instance(datetime.fromisoformat(text))
