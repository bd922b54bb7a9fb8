"""Worker processes: one for each try of a step, as Airflow has them, which may be killed at any instant."""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import tempfile
import threading
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_dbhygiene.errors import HygieneError, Terminal
from airflow_dbhygiene.policy import Policy
from airflow_dbhygiene.policy.moments import Moments, resolve_window
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.plan import make_plan, planned_before, record_plan
from airflow_dbhygiene.steps.purge import purge
from airflow_dbhygiene.steps.reclaim import reclaim
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.verify import verify

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext

    from tests.soak.shop import Shop

_MOST_SECONDS = 90.0


@dataclass(frozen=True)
class Order:
    """What a worker does: a step of a run, or of one of its chunks; of a plan, the policy and its moment."""

    step: str
    run: str = ""
    chunk: int = 0
    policy_json: str = field(default="", repr=False)
    as_of: Any = None
    origin: str = ""


@dataclass(frozen=True)
class Ending:
    """How it ended: its answer, or the name of its error; neither when it was killed."""

    answer: Any = None
    error: str | None = None
    terminal: bool = False
    ours: bool = True
    told: str = ""
    killed: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the step did its work."""
        return self.error is None and not self.killed


def forge() -> ForkServerContext:
    """Prepare a process without threads, which forks the workers and has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.soak.workers", "tests.soak.shop", "s3fs", "adbc_driver_postgresql.dbapi"])
    return context


def run(context: ForkServerContext, shop: Shop, order: Order, kill_after: float | None) -> Ending:
    """Let a worker do a step, or kill it after so many seconds."""
    receiving, sending = context.Pipe(duplex=False)
    whereabouts = Path(tempfile.gettempdir()) / f"dbhygiene-soak-{os.getpid()}-{threading.get_ident()}"
    worker = context.Process(target=_work, args=(shop, order, sending, str(whereabouts)), daemon=True)
    worker.start()
    sending.close()
    try:
        if receiving.poll(_MOST_SECONDS if kill_after is None else kill_after):
            return receiving.recv()  # type: ignore[no-any-return]
        told = f"{order} is not done, and hangs in\n{whereabouts.read_text()}" if kill_after is None else ""
        return Ending(killed=True, told=told)
    except EOFError:
        return Ending(error="NoAnswer", ours=False, told=f"the worker of {order} is gone without a word")
    finally:
        worker.kill()
        worker.join()
        worker.close()
        receiving.close()
        whereabouts.unlink(missing_ok=True)


def _work(shop: Shop, order: Order, sending: Connection, whereabouts: str) -> None:
    logging.disable()  # drivers tell of each connection that breaks
    with Path(whereabouts).open("w") as file:
        faulthandler.dump_traceback_later(_MOST_SECONDS - 5, file=file)
        sending.send(done_here(shop, order))
        faulthandler.cancel_dump_traceback_later()
    sending.close()


def done_here(shop: Shop, order: Order) -> Ending:
    """Do a step, and tell how it ended."""
    try:
        return Ending(answer=_answer(shop, order))
    except HygieneError as error:
        return Ending(error=type(error).__name__, terminal=isinstance(error, Terminal), told=str(error))
    except BaseException as error:  # noqa: BLE001 - it is told, and fails the soak
        return Ending(error=type(error).__name__, ours=False, told=traceback.format_exc())


def _answer(shop: Shop, order: Order) -> Any:
    site = shop.site()
    if order.step == "plan":
        policy = Policy.from_json(order.policy_json)
        window = resolve_window(policy, Moments(explicit=order.as_of))
        origin = {"dag": policy.name, "dag_run": order.origin}
        tickets = planned_before(site, policy, window, origin)
        if tickets is None:
            tickets = record_plan(site, make_plan(site, policy, window, origin))
        return [(ticket.run, ticket.chunk) for ticket in tickets]
    if order.step in ("reclaim", "report"):
        done = {"reclaim": reclaim, "report": report}[order.step](site, order.run)
        return done["state"] if isinstance(done, dict) else None
    chunk = {"archive": archive, "verify": verify, "purge": purge}[order.step](site, order.run, order.chunk)
    return chunk if isinstance(chunk, int) else chunk.purged
