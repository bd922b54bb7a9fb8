"""measure: how much clutter is there? At a cost that does not grow with the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_dbhygiene.databases.protocol import Selection
from airflow_dbhygiene.errors import PlanRefused, PolicyInvalid
from airflow_dbhygiene.policy.model import Matching
from airflow_dbhygiene.steps.plan import WALKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_dbhygiene.policy import Policy
    from airflow_dbhygiene.policy.moments import Window
    from airflow_dbhygiene.steps.site import Site

MEASURES: Final = (
    "stale_rows",
    "oldest_age_seconds",
    "dead_tuples",
    "dead_ratio",
    "table_bytes",
    "index_bytes",
)
_TIMEOUT: Final = "30s"


@dataclass(frozen=True)
class Clutter:
    """What was measured, beside the limits; ``reached`` names the limits that it reaches.

    Stale rows are counted only as far as their limit: the figure is "at least" when it equals the limit.
    """

    measured: Mapping[str, float]
    limits: Mapping[str, float]
    reached: tuple[str, ...]

    @property
    def is_above(self) -> bool:
        """True when any limit is reached."""
        return bool(self.reached)

    def describe(self) -> str:
        """Write it in one line."""
        return ", ".join(f"{name} {self.measured[name]:,.6g} of {limit:,.6g}" for name, limit in self.limits.items())


def check_limits(limits: Mapping[str, float]) -> None:
    """Refuse limits on measures that do not exist, and limits that anything reaches.

    :raises PolicyInvalid: naming the limit and the known measures
    """
    if not limits:
        raise PolicyInvalid(f"at_least is empty: give a limit for one or more of {', '.join(MEASURES)}.")
    for name, limit in limits.items():
        if name not in MEASURES:
            raise PolicyInvalid(f"at_least.{name} is not a measure; known are {', '.join(MEASURES)}.")
        if isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0:
            raise PolicyInvalid(f"at_least.{name} is {limit!r}: give a number above zero.")


def measure(site: Site, policy: Policy, window: Window, limits: Mapping[str, float]) -> Clutter:
    """Measure what has a limit.

    :param limits: measure → the least value at which there is something to do
    :raises PlanRefused: when no index bounds the cost of counting stale rows
    """
    check_limits(limits)
    found: dict[str, float] = {}
    with site.database.session() as session:
        facts = site.database.inspect(session, policy)
        if {"stale_rows", "oldest_age_seconds"} & limits.keys():
            found |= _stale(site, session, policy, facts, window, limits)
        sizes = site.database.table_sizes(session, policy.table_name)
    tuples = sizes["live_tuples"] + sizes["dead_tuples"]
    found |= {"dead_ratio": sizes["dead_tuples"] / tuples if tuples else 0.0}
    found |= {name: float(sizes[name]) for name in ("dead_tuples", "table_bytes", "index_bytes")}
    measured = {name: found[name] for name in limits}
    return Clutter(measured, dict(limits), tuple(name for name in limits if measured[name] >= limits[name]))


def _stale(
    site: Site, session: object, policy: Policy, facts: object, window: Window, limits: Mapping[str, float]
) -> dict[str, float]:
    database = site.database
    predicate = database.predicate(session, policy, facts, window.since, window.cutoff)
    walk = database.choose_walk(session, policy, facts)
    selection = Selection(facts.name, facts.columns, facts.key, walk, predicate)
    found: dict[str, float] = {}
    with session.transaction(**WALKING, statement_timeout=_TIMEOUT):
        _refuse_full_scan(site, session, policy, selection)
        if "stale_rows" in limits:
            most = int(limits["stale_rows"])
            found["stale_rows"] = float(database.count_up_to(session, selection.table, predicate, most))
        if "oldest_age_seconds" in limits:
            found["oldest_age_seconds"] = _oldest(site, session, policy, predicate)
    return found


def _oldest(site: Site, session: object, policy: Policy, predicate: str) -> float:
    if isinstance(policy.stale, Matching):
        message = f"at_least.oldest_age_seconds: policy {policy.name!r} has no age column (its stale is Matching)."
        raise PolicyInvalid(message)
    age = site.database.oldest_age_seconds(session, policy.table_name, policy.stale.column, predicate)
    return age or 0.0


def _refuse_full_scan(site: Site, session: object, policy: Policy, selection: Selection) -> None:
    aged = not isinstance(policy.stale, Matching)
    if policy.guard.allow_full_scan or (aged and selection.walk[0] == policy.stale.column):
        return
    columns = f"{policy.stale.column}, {', '.join(selection.key)}" if aged else "a column of the condition"
    fault = (
        f"counting stale rows would read the whole table each time: CREATE INDEX CONCURRENTLY ON {selection.table} "
        f"({columns}), measure dead_tuples or table_bytes instead, or set guard.allow_full_scan."
    )
    raise PlanRefused(str(selection.table), (fault,))
