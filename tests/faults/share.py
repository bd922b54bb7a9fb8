"""How many of all points a run of the tests takes: a share by default, all of them in `make faults`."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Hashable, Iterable
from typing import Final, TypeVar

T = TypeVar("T", bound=Hashable)

SHARE: Final = float(os.environ.get("FAULTS_SHARE", "0.15"))
"""The part of the points that is taken; 1 takes all, and nothing is left to chance."""

PART, PARTS = map(int, os.environ.get("FAULTS_PART", "1/1").split("/"))
"""Of all points, ``2/5`` takes the second fifth: what takes hours can be done in parts."""

SEED: Final = os.environ.setdefault("FAULTS_SEED", secrets.token_hex(4))
"""Chooses them: the same seed chooses the same. The workers of a run of the tests inherit it."""

NOTE: Final = (
    f"{'all' if SHARE >= 1 and PARTS == 1 else 'a share of the'} points:"
    f" FAULTS_SHARE={SHARE:g} FAULTS_SEED={SEED} FAULTS_PART={PART}/{PARTS}"
)

tried: Final[dict[str, tuple[int, int]]] = {}
"""How many points were taken, of how many, by what they disturb."""


def chosen(points: Iterable[T], what: str, part: float = 1) -> list[T]:
    """Give the points, or the share of them that was asked for.

    :param what: they disturb
    :param part: of that share, where there are many points of a kind already
    """
    unique = list(dict.fromkeys(points))[PART - 1 :: PARTS]
    wanted = len(unique) if SHARE >= 1 else min(max(round(len(unique) * SHARE * part), 1), len(unique))
    tried[what] = wanted, len(unique)
    if SHARE >= 1:
        return unique
    return random.Random(f"{SEED}/{what}").sample(unique, wanted)  # noqa: S311 - a choice that can be repeated
