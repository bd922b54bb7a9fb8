"""measure: how much clutter is there? At a cost that does not grow with the table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow_dbhygiene.errors import PlanRefused, PolicyInvalid
from airflow_dbhygiene.policy.stale import Matching
from airflow_dbhygiene.steps.plan import leads_to_stale, without_held

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_dbhygiene.databases.protocol import Shape
    from airflow_dbhygiene.policy import Expired, OlderThan, Policy
    from airflow_dbhygiene.policy.moments import Window
    from airflow_dbhygiene.steps.site import Site

OF_ROWS: Final = ("stale_rows", "oldest_age_seconds")
MEASURES: Final = (
    *OF_ROWS,
    *("dead_tuples", "dead_ratio"),  # PostgreSQL
    *("free_bytes", "free_ratio", "history_list_length"),  # MySQL, MariaDB
    *("table_bytes", "index_bytes", "disk_bytes"),
)
_MOST_SECONDS: Final = 30.0


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
        return ", ".join(
            f"{name} {'at least ' if name == 'stale_rows' and name in self.reached else ''}{self.measured[name]:,.6g} "
            f"(limit {limit:,.6g})"
            for name, limit in self.limits.items()
        )


def check_limits(limits: Mapping[str, float]) -> None:
    """Refuse limits on measures that do not exist, and limits that anything reaches.

    :raises PolicyInvalid: naming the limit and the known measures
    """
    if not limits:
        raise PolicyInvalid(f"at_least is empty: give a limit for one or more of {', '.join(MEASURES)}.")
    for name, limit in limits.items():
        if name not in MEASURES:
            raise PolicyInvalid(f"at_least.{name} is not a measure; known are {', '.join(MEASURES)}.")
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
            raise PolicyInvalid(f"at_least.{name} is {limit!r}: give a number above zero that can be reached.")


def _check_engine(site: Site, limits: Mapping[str, float]) -> None:
    """Refuse, before anything is measured, what this engine does not have: 0 would mean that all is well for ever."""
    known = [name for name in MEASURES if name in site.database.measures or name in OF_ROWS]
    for name in limits:
        if name not in known:
            raise PolicyInvalid(f"at_least.{name} is not measured on {site.database.engine}: take {', '.join(known)}.")


def measure(site: Site, policy: Policy, window: Window, limits: Mapping[str, float]) -> Clutter:
    """Measure what has a limit.

    :param limits: measure → the least value at which there is something to do
    :raises PolicyInvalid: naming a measure that does not exist, or not on this engine
    :raises PlanRefused: when no index bounds the cost of counting stale rows, or the server does not know a figure
    """
    check_limits(limits)
    _check_engine(site, limits)
    found: dict[str, float] = {}
    with site.database.session() as session:
        if {*OF_ROWS} & limits.keys():
            found |= _stale(site, session, policy, window, limits)
        if asked := site.database.measures & limits.keys():
            found |= site.database.measure(session, policy.table_name, asked)
    measured = {name: found[name] for name in limits}
    return Clutter(measured, dict(limits), tuple(name for name in limits if measured[name] >= limits[name]))


def _stale(site: Site, session: Any, policy: Policy, window: Window, limits: Mapping[str, float]) -> dict[str, float]:
    database = site.database
    table = database.shape(session, policy)
    bare = database.predicate(session, policy, table, window)
    if not policy.guard.allow_full_scan and not leads_to_stale(database, session, policy):
        _refuse_full_scan(site, policy, table)
    predicate = without_held(database, session, policy, bare)
    found: dict[str, float] = {}
    if "stale_rows" in limits:
        most = math.ceil(limits["stale_rows"])
        with session.transaction(walking=True, statement_seconds=_MOST_SECONDS):
            found["stale_rows"] = float(database.count_up_to(session, table.name, predicate, most))
    if "oldest_age_seconds" in limits:
        stale = _age(policy)
        with session.transaction(walking=True, statement_seconds=_MOST_SECONDS):
            found["oldest_age_seconds"] = database.oldest_age_seconds(session, table.name, stale, predicate) or 0.0
    return found


def _age(policy: Policy) -> OlderThan | Expired:
    if isinstance(policy.stale, Matching):
        message = f"at_least.oldest_age_seconds: policy {policy.name!r} has no age column (its stale is Matching)."
        raise PolicyInvalid(message)
    return policy.stale


def _refuse_full_scan(site: Site, policy: Policy, table: Shape) -> NoReturn:
    """A count that stops at its limit is cheap only where an index leads to the stale rows."""
    aged = not isinstance(policy.stale, Matching)
    columns = (_age(policy).column, *table.key) if aged else ("a column of the condition",)
    fault = (
        f"counting stale rows would read the whole table each time: {site.database.index_advice(table.name, columns)}, "
        f"measure disk_bytes instead, or set guard.allow_full_scan."
    )
    raise PlanRefused(str(table.name), (fault,))
