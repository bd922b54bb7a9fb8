"""Threads that do the same again and again until they are told to stop."""

from __future__ import annotations

import threading


class Repeating(threading.Thread):
    """Takes turn after turn; what ends it before its time is kept for the end."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.error: BaseException | None = None
        self.ended = threading.Event()

    def stop(self) -> None:
        """Let it end with the turn under way."""
        self.ended.set()

    def run(self) -> None:
        """Take turns until told to stop."""
        number = 0
        try:
            while not self.ended.is_set():
                number += 1
                self.turn(number)
        except BaseException as error:  # noqa: BLE001 - it is told in the end
            self.error = error
        finally:
            self.leave()

    def turn(self, number: int) -> None:
        """Do it once more; ``number`` counts from 1."""
        raise NotImplementedError

    def leave(self) -> None:
        """Let go of what it holds."""
