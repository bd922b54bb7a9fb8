"""The three tasks of a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.operators.step import ChunkOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dbhygiene.steps.site import Site


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

    :param chunk: a chunk's descriptor as ``PlanOperator`` returns it
    """

    def run_step(self, site: Site, context: Context) -> dict[str, Any]:  # noqa: ARG002 - an operator's signature
        """Call the step."""
        from airflow_dbhygiene.steps.purge import purge  # noqa: PLC0415

        chunk = purge(site, self.chunk["run"], self.chunk["chunk"])
        return {name: getattr(chunk, name) for name in ("purged", "drifted", "held", "vanished")}
