"""Where does the next batch end? Found out on a connection of its own, while the batch before it is deleted.

Of rows that have no archive nobody knows where so many of them end: to look takes a third as long as to delete them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Bound, Selection, Span
    from airflow_dbhygiene.steps.site import Site

_FRESH_SECONDS: Final = 5.0
"""After a pause there may be more rows before the place that was found, and the server may have closed a connection."""


@dataclass(frozen=True)
class _Look:
    """A look that was begun: for the place behind the span's first rows."""

    span: Span
    rows: int
    found: Future[tuple[Bound | None, float]]


class Scout:
    """Looks ahead in the stale rows of one run.

    :param sessions: closes the connection that is in use
    """

    def __init__(self, site: Site, selection: Selection, thread: ThreadPoolExecutor, sessions: ExitStack) -> None:
        self._site = site
        self._selection = selection
        self._thread = thread
        self._sessions = sessions
        self._session: Any = None
        self._looked = -math.inf
        self._ahead: _Look | None = None

    def begin(self, span: Span, rows: int) -> None:
        """Begin to look for the place that so many of the span's stale rows lie before."""
        self._ahead = _Look(span, rows, self._thread.submit(self._hop, span, rows))

    def place(self, span: Span, rows: int) -> tuple[Bound | None, int]:
        """Give the place that so many rows, or fewer, lie before, and how many; None when there are no more."""
        if self._ahead is None or not _answers(self._ahead, span, rows):
            self.begin(span, rows)
        assert self._ahead is not None  # noqa: S101 - just begun
        return self._ahead.found.result()[0], self._ahead.rows

    def _hop(self, span: Span, rows: int) -> tuple[Bound | None, float]:
        session = self._fresh_session()
        with session.transaction(walking=True):
            place = self._site.database.hop(session, self._selection, span, rows)
        self._looked = time.monotonic()
        return place, self._looked

    def _fresh_session(self) -> Any:
        if time.monotonic() - self._looked > _FRESH_SECONDS:
            self._sessions.close()
            self._session = self._sessions.enter_context(self._site.database.session())
        return self._session


@contextmanager
def scouting(site: Site, selection: Selection) -> Iterator[Scout]:
    """Open a connection to look ahead with; the look that is under way ends with the context."""
    with ExitStack() as sessions, ThreadPoolExecutor(1, "dbhygiene-scout") as thread:
        yield Scout(site, selection, thread, sessions)


def _answers(look: _Look, span: Span, rows: int) -> bool:
    if look.span != span or look.rows > rows:
        return False
    return time.monotonic() - look.found.result()[1] < _FRESH_SECONDS
