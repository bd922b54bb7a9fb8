"""pause: stop every purge of a policy, a table or all, within one batch; and let them go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import NotFound, PolicyInvalid
from airflow_dbhygiene.ledger import Ledger, migrate
from airflow_dbhygiene.ledger.holds import Pause, Pauses
from airflow_dbhygiene.policy.names import parse_table_name

if TYPE_CHECKING:
    from airflow_dbhygiene.steps.site import Site

ALL = "all"


def pause(site: Site, scope: str, reason: str, placed_by: str) -> Pause:
    """Stop purging. A scope that is paused already stays as it is: the earlier pause is returned.

    :param scope: ``all``, ``table:<schema.table>`` or ``policy:<name>``
    :raises PolicyInvalid: when the scope is none of these
    :raises NotFound: when there is no such table, or no run of such a policy
    """
    with site.database.session() as session:
        migrate(site.database, session)
        spelled = _known(site, session, scope)
        with session.transaction(durable=True):
            Pauses(session).place(spelled, reason, placed_by)
        return next(each for each in Pauses(session).listed() if each.scope == spelled)


def resume(site: Site, scope: str) -> str:
    """Let a scope go on; waiting tasks look again within three minutes. Gives the scope as the ledger spelled it.

    :raises NotFound: when it is not paused; the message names what is
    """
    with site.database.session() as session:
        spelled = _spelled(scope)
        paused = [each.scope for each in Pauses(session).listed()] if Ledger.exists(session) else []
        if spelled not in paused:
            raise NotFound(f"{spelled!r} is not paused: {', '.join(paused) or 'nothing'} is.")
        Pauses(session).remove(spelled)
        return spelled


def list_pauses(site: Site) -> tuple[Pause, ...]:
    """Give the pauses that stand."""
    with site.database.session() as session:
        return Pauses(session).listed() if Ledger.exists(session) else ()


def _known(site: Site, session: Any, scope: str) -> str:
    """Refuse a scope that nothing will ever look at: whoever mistypes it would trust in it."""
    spelled = _spelled(scope)
    kind, _, name = spelled.partition(":")
    if kind == "table":
        site.database.key_columns(session, parse_table_name(name))
    if kind == "policy" and name not in (known := Ledger(session).policies()):
        seen = ", ".join(known) or "none yet"
        raise NotFound(f"policy {name!r} has no run in this database's ledger (it knows: {seen}). Pause its table.")
    return spelled


def _spelled(scope: str) -> str:
    kind, _, name = scope.strip().partition(":")
    if kind == "table":
        return f"table:{parse_table_name(name)}"
    if scope.strip() == ALL or (kind == "policy" and name):
        return scope.strip()
    raise PolicyInvalid(f"scope {scope!r} is none of 'all', 'table:<schema.table>' and 'policy:<name>'.")
