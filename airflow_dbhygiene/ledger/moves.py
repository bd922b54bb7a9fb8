"""Every legal change of a chunk's state. There is no other table of them."""

from __future__ import annotations

from typing import Final

PLANNED: Final = "planned"
ARCHIVED: Final = "archived"
VERIFIED: Final = "verified"
PURGING: Final = "purging"
PURGED: Final = "purged"
DAMAGED: Final = "damaged"

MOVES: Final[dict[str, frozenset[str]]] = {
    PLANNED: frozenset({ARCHIVED}),
    ARCHIVED: frozenset({VERIFIED, DAMAGED, PLANNED}),  # planned again, without an archive, where its run is given up
    DAMAGED: frozenset({ARCHIVED, PLANNED}),  # archived anew, under a new nonce
    VERIFIED: frozenset({PURGING, PURGED, DAMAGED, PLANNED}),
    PURGING: frozenset({PURGING, PURGED}),  # never back: the archive holds the only copy of purged rows
    PURGED: frozenset(),
}
