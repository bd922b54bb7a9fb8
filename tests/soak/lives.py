"""What is known of a row: all that the application ever did to it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Life:
    """A row from its insertion to its end, under whatever key: its latest version, and whether the writer deleted it.

    :param missed: whether the writer has looked for it in vain
    """

    life: int
    id: int
    at: dt.datetime
    stamp: int
    note: str
    places: int
    amount: Decimal
    deleted: bool = False
    rekeyed: bool = False
    missed: bool = False

    @property
    def gone(self) -> bool:
        """Whether the writer takes it to be there no more."""
        return self.deleted or self.missed

    @property
    def row(self) -> tuple[object, ...]:
        """Give its values as the table has them."""
        return self.id, self.at, self.life, self.stamp, self.note, self.places, self.amount


Changes = dict[int, Life]
