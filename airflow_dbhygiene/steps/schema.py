"""Whether a run's table still is the one that was planned."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import NotFound, SchemaChanged, StatementFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.steps.site import Site


def check_schema(site: Site, session: Any, run: Run) -> None:
    """Refuse to go on when anything about the table's schema has changed since the plan.

    :raises SchemaChanged: naming the table
    :raises NotFound: when there is no such table any more
    """
    if site.database.fingerprint(session, run.selection.table) != run.fingerprint:
        message = (
            f"table {run.selection.table} has changed since run {run.run_id} was planned (columns, types, triggers, "
            f"rules, policies or foreign keys): its archive might not be what is deleted. Start a new run."
        )
        raise SchemaChanged(message)


@contextmanager
def telling_changes(site: Site, run: Run) -> Iterator[None]:
    """Where the server rejects a statement because the table has changed, say that, and not what it rejects.

    :raises SchemaChanged: in place of the statement's own error
    """
    try:
        yield
    except (StatementFailed, NotFound):
        with site.database.session() as session:
            check_schema(site, session, run)
        raise
