"""discard: remove objects of attempts that did not win their chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.ledger.objects import Objects

if TYPE_CHECKING:
    from airflow_dbhygiene.stores.protocol import Store


def discard_losers(session: Any, store: Store, run_id: str, attempt: str | None = None) -> None:
    """Remove what did not win, of all attempts or of the one with that nonce.

    The ledger rules an object out first, so that it cannot win any more, and forgets it when the store has: whoever is
    killed in between leaves nothing that the next report does not find.
    """
    objects = Objects(session)
    for chunk, nonce, part, name in objects.losing(run_id):
        if attempt in (None, nonce) and objects.rule_out(run_id, chunk, nonce, part):
            store.discard(name)
            objects.forget(run_id, chunk, nonce, part)
