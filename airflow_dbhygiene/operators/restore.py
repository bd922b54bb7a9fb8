"""The restore task."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.operators.step import HygieneOperator, given, is_asked, task_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_dbhygiene.steps.site import Site


class RestoreOperator(HygieneOperator):
    """Put rows of a run back. Returns how many came back, and how many were left alone since their key exists again.

    :param conn_id: Airflow connection of the database (templated)
    :param run: the run's id, as its certificate and the ledger have it (templated)
    :param chunks: chunk numbers such as "3" or "2-5"; empty means all (templated)
    :param where: SQL condition over the table's columns that narrows the rows down; empty means all (templated)
    :param into: schema.table to put the rows into; empty means where they came from (templated)
    :param dry_run: count what would come back, and change nothing (templated)
    """

    template_fields: Sequence[str] = ("conn_id", "run", "chunks", "where", "into", "is_dry_run")
    template_fields_renderers = {"where": "sql"}  # noqa: RUF012 - Airflow's own form

    def __init__(  # noqa: PLR0913 - what to put back, all named
        self,
        *,
        conn_id: str,
        run: str,
        chunks: str = "",
        where: str = "",
        into: str = "",
        dry_run: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.run = run
        self.chunks = chunks
        self.where = where
        self.into = into
        self.is_dry_run = dry_run

    def connection_id(self) -> str:
        """Name the Airflow connection of the database."""
        return self.conn_id

    def run_step(self, site: Site, context: Context) -> dict[str, Any]:
        """Call the step. A retry is the same restore, and goes on where it stopped."""
        from airflow_dbhygiene.steps.restore import Wish, restore  # noqa: PLC0415

        wish = Wish(
            run_id=self.run,
            restore_id=task_name(context),
            chunks=parse_chunks(self.chunks),
            where=given(self.where),
            into=given(self.into),
            dry_run=is_asked(self.is_dry_run, "dry_run"),
        )
        return asdict(restore(site, wish))


def parse_chunks(text: str | None) -> tuple[int, ...] | None:
    """Read "3" or "2-5"; nothing means all.

    :raises PolicyInvalid: when it is neither
    """
    wanted = given(text)
    if wanted is None:
        return None
    first, _, last = wanted.replace(" ", "").partition("-")
    if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
        raise PolicyInvalid(f"chunks {text!r} is neither a number nor a range: write '3' or '2-5'.")
    return tuple(range(int(first), int(last or first) + 1))
