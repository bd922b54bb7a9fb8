"""The three tasks of a chunk."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

from airflow_dbhygiene.errors import Paused
from airflow_dbhygiene.operators.step import ChunkOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dbhygiene.steps.site import Site


_WAKE_SECONDS: Final = (60.0, 180.0)


class ArchiveOperator(ChunkOperator):
    """Stream one chunk's rows to the store. Returns how many rows the archive holds.

    :param chunk: a chunk's descriptor as ``PlanOperator`` returns it
    """

    def run_step(self, site: Site, context: Context) -> int:  # noqa: ARG002 - an operator's signature
        """Call the step."""
        from airflow_dbhygiene.steps.archive import archive  # noqa: PLC0415

        return archive(site, self.chunk["run"], self.chunk["chunk"])


class VerifyOperator(ChunkOperator):
    """Read back what the store holds. Returns how many rows were compared with the server's own.

    :param chunk: a chunk's descriptor as ``PlanOperator`` returns it
    """

    def run_step(self, site: Site, context: Context) -> int:  # noqa: ARG002 - an operator's signature
        """Call the step."""
        from airflow_dbhygiene.steps.verify import verify  # noqa: PLC0415

        return verify(site, self.chunk["run"], self.chunk["chunk"])


class PurgeOperator(ChunkOperator):
    """Delete one chunk's archived rows in paced batches. Returns what became of them.

    A pause that outlasts the policy's ``pace.max_pause_seconds`` defers the task: it holds no worker meanwhile.

    :param chunk: a chunk's descriptor as ``PlanOperator`` returns it
    """

    _began: float | None = None

    def run_step(self, site: Site, context: Context) -> dict[str, Any]:  # noqa: ARG002 - an operator's signature
        """Call the step."""
        from airflow_dbhygiene.steps.purge import purge  # noqa: PLC0415

        began = self._began or time.time()
        try:
            chunk = purge(site, self.chunk["run"], self.chunk["chunk"], began)
        except Paused as pause:
            self.log.info("%s Deferred: the worker is free, and the task looks again soon.", pause)
            delay = timedelta(seconds=random.uniform(*_WAKE_SECONDS))  # noqa: S311 - so that a thousand do not wake at once
            self.defer(trigger=TimeDeltaTrigger(delay), method_name="resume", kwargs={"began": began})
        return {name: getattr(chunk, name) for name in ("purged", "drifted", "held", "vanished")}

    def resume(self, context: Context, event: Any = None, began: float | None = None) -> Any:  # noqa: ARG002 - the time
        """Go on from the ledger, after a pause.

        :param began: when the task began, before all its pauses; a task that is tried again or cleared begins anew
        """
        self._began = began
        return self.execute(context)
