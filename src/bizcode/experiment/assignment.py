"""Which variant a user is given: a pure function of the experiment's name, its weights and the user's id."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

import mmh3

__all__ = ["Assignment"]

_RANGE = 2**32


class Assignment:
    """The split of one experiment: murmur3 (32 bits, seed 0) of "name:user", as a share of 2**32, against
    the cumulated weights. The same in every process and in every language.

    Args:
        name: the experiment's name.
        variants: names of the variants, the control first.
        weights: their shares; the last one ends at 1, whatever was lost to rounding.

    >>> Assignment("pricing", ["control", "value"], [0.5, 0.5]).variant("u1")
    'control'
    """

    __slots__ = ("_bounds", "_prefix", "_variants")

    def __init__(self, name: str, variants: Sequence[str], weights: Sequence[float]) -> None:
        self._prefix = f"{name}:"
        self._variants = tuple(variants)
        # Scaled by a power of two, so that comparing with the hash is comparing the shares exactly.
        self._bounds = [share * _RANGE for share in accumulate(weights)][:-1]

    def variant(self, user: str) -> str:
        """The user's variant."""
        return self._variants[bisect_right(self._bounds, mmh3.hash(self._prefix + user, 0, False))]

    def variants(self, users: Iterable[str]) -> list[str]:
        """The variants of many users, in their order."""
        names, bounds, prefix, find, hash = (
            self._variants,
            self._bounds,
            self._prefix,
            bisect_right,
            mmh3.hash,
        )
        return [names[find(bounds, hash(prefix + user, 0, False))] for user in users]
