"""Divides the code points into classes that one grammar cannot tell apart.

A grammar mentions a few dozen sets of characters; whatever they treat alike needs one transition, not one a
character. It knows sets of code points, not rules.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.engine.gbnf import LARGEST, Ranges, grammar_error

NONE: Final = -1
"""The class of characters that no set of the grammar holds, of NUL, which no text should, and of surrogates,
which are no characters."""
_MOST_MEMBERS: Final = 500_000
_SURROGATES: Final = (0xD800, 0xDFFF)


class Alphabet:
    """The classes of some sets of characters, numbered from 0. `members[i]` are the classes in set `i`, and
    `holders[n]` the sets that hold class `n`.

    Raises EngineError (grammar_invalid) for sets that overlap so much that their classes fill the memory.
    """

    def __init__(self, sets: Sequence[Ranges]) -> None:
        edges: dict[int, list[tuple[int, bool]]] = {0: [], 1: [], _SURROGATES[0]: [], _SURROGATES[1] + 1: []}
        for at, ranges in enumerate(sets):
            for low, high in ranges:
                edges.setdefault(low, []).append((at, True))
                edges.setdefault(high + 1, []).append((at, False))
        edges.setdefault(LARGEST + 1, [])
        self._starts = sorted(edges)
        self._classes: list[int] = []
        self._sizes: list[int] = []
        self._lowest: list[int] = []
        numbers: dict[frozenset[int], int] = {}
        inside: set[int] = set()
        compared = 0
        for start, end in zip(self._starts, [*self._starts[1:], LARGEST + 1], strict=True):
            # a set's neighbouring ranges end and begin at the same edge, so ends come first
            for at, begins in sorted(edges[start], key=lambda edge: edge[1]):
                (inside.add if begins else inside.discard)(at)
            if not inside or start in (0, _SURROGATES[0]):
                self._classes.append(NONE)
                continue
            compared += len(inside)
            if compared > _MOST_MEMBERS:
                raise grammar_error(
                    "its character classes overlap too much", remedy="write fewer classes, or classes apart"
                )
            number = numbers.setdefault(frozenset(inside), len(numbers))
            if number == len(self._sizes):
                self._sizes.append(0)
                self._lowest.append(start)
            self._sizes[number] += end - start
            self._classes.append(number)
        self.n_classes = len(numbers)
        self.holders = list(numbers)
        held: list[set[int]] = [set() for _ in sets]
        for number, kept in enumerate(self.holders):
            for at in kept:
                held[at].add(number)
        self.members = [frozenset(one) for one in held]
        self._ascii = [self._search(code) for code in range(128)]
        self._array = np.array(self._classes, np.int32)

    def class_of(self, code: int) -> int:
        """The class of a code point, NONE for one in no set."""
        return self._ascii[code] if code < 128 else self._search(code)

    def classes_of(self, codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
        """`class_of` for many code points."""
        return np.asarray(self._array[np.searchsorted(self._starts, codes, side="right") - 1])

    def between(self, low: int, high: int) -> set[int]:
        """The classes that hold a code point from `low` to `high`, both included."""
        first = bisect_right(self._starts, low) - 1
        last = bisect_right(self._starts, high)
        return set(self._classes[first:last]) - {NONE}

    def only_character(self, number: int) -> str | None:
        """The character of a class that has one only."""
        return chr(self._lowest[number]) if self._sizes[number] == 1 else None

    def _search(self, code: int) -> int:
        return self._classes[bisect_right(self._starts, code) - 1]
