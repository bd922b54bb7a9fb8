"""What the demo shows while it works: one live line on a terminal, a plain line now and then anywhere else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.status import Status

PLAIN_SECONDS = 5.0
WIDTH = 92


class Terminal:
    """Says what happens now, and how long what is done has taken."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console = Console(highlight=False, width=WIDTH)
        self._status: Status | None = None
        self._told = 0.0

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """Show what is being done until the block ends."""
        if not self.console.is_terminal:
            self.console.print(f"… {doing}", markup=False)
            self._told = time.monotonic()
            yield
            return
        with self.console.status(doing) as self._status:
            yield
        self._status = None

    def now(self, doing: str) -> None:
        """Replace what the live line says; where there is none, print it every few seconds."""
        if self._status is not None:
            self._status.update(doing)
        elif time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            self.console.print(f"  {doing}", markup=False)

    def done(self, what: str, seconds: float) -> None:
        """Leave a line of what has been done."""
        self.console.print(f"[green]✓[/green] {what} [dim]({seconds:.1f} s)[/dim]")

    def say(self, text: str, *, style: str = "") -> None:
        """Print a line as it is, unbroken: an address must be copied whole."""
        self.console.print(text, style=style, markup=False, soft_wrap=True)
