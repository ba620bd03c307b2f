"""Which sequence ids of the context hold what: slots, kept beginnings, forks for choices.

    ids  0 ......... n_slots-1 | kept beginnings | forks (unified memory only)

Slots are handed out lowest first: without a unified memory llama.cpp computes neighbouring ids in one pass
and others one after the other. It knows tokens and ids, no requests.
"""

from __future__ import annotations

import heapq
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from workers.engine.prefix import MIN_SHARED, Match, PrefixShelf

Tokens = npt.NDArray[np.int32]

KEPT_UNIFIED: Final = 8
KEPT_SEPARATE: Final = 2


class Cells(Protocol):
    """The memory operations of a context."""

    def remove(self, sequence: int, start: int = 0, end: int = -1) -> bool:
        """Forget positions [start, end) of a sequence."""

    def copy(self, source: int, target: int, start: int = 0, end: int = -1) -> None:
        """Give positions [start, end) of one sequence to another one."""

    def clear(self) -> None:
        """Forget everything."""


class Memory:
    """Slots and shared beginnings of one context."""

    def __init__(
        self,
        cells: Cells,
        n_slots: int,
        *,
        kept: int,
        forks: int,
        unified: bool,
        min_shared: int = MIN_SHARED,
    ) -> None:
        self._cells = cells
        self._unified = unified
        self.min_shared = min_shared
        self._free_slots = list(range(n_slots))
        self._shelf = PrefixShelf(tuple(range(n_slots, n_slots + kept)), min_shared)
        self._keeps = kept > 0
        self.forks = tuple(range(n_slots + kept, n_slots + kept + forks))

    @property
    def free_slots(self) -> int:
        """Slots without a sequence."""
        return len(self._free_slots)

    def take_slot(self) -> int:
        """The lowest free slot, its memory empty. Raises IndexError when all are taken."""
        return heapq.heappop(self._free_slots)

    def release_slot(self, slot: int) -> None:
        """Forget a slot's sequence and let another one have it."""
        self._cells.remove(slot)
        heapq.heappush(self._free_slots, slot)

    def match(self, prompt: Tokens) -> Match | None:
        """The longest kept beginning of a prompt."""
        return self._shelf.match(prompt) if self._keeps else None

    def reuse(self, source: int, slot: int, length: int) -> None:
        """Give the first `length` positions of `source` to an empty slot."""
        if self._unified:
            self._cells.copy(source, slot, 0, length)
            return
        # separate memories are copied whole or not at all: copy, then cut
        self._cells.copy(source, slot)
        self._cells.remove(slot, length)

    def keep(self, slot: int, tokens: Tokens) -> None:
        """Keep a slot's beginning, whose positions are in memory, unless it is kept already."""
        if not self._keeps or not self._shelf.worth_keeping(len(tokens), self._shelf.match_exact(tokens)):
            return
        target = self._shelf.place(tokens)
        self._cells.remove(target)
        self.reuse(slot, target, len(tokens))

    def worth_keeping(self, length: int, matched: Match | None) -> bool:
        """Whether a beginning of `length` tokens, of which `matched` is kept, is worth a place."""
        return self._keeps and self._shelf.worth_keeping(length, matched)

    def fork(self, slot: int, index: int, length: int) -> int:
        """A second sequence that begins with a slot's first `length` positions; returns its id."""
        target = self.forks[index]
        self._cells.remove(target)
        self._cells.copy(slot, target, 0, length)
        return target

    def drop_forks(self, count: int) -> None:
        """Forget the first `count` forks."""
        for target in self.forks[:count]:
            self._cells.remove(target)

    def rewind(self, slot: int, length: int) -> None:
        """Forget a slot's positions from `length` on."""
        self._cells.remove(slot, length)

    def drop_kept(self) -> bool:
        """Give up all kept beginnings to make room; False when there was none."""
        dropped = self._shelf.clear()
        for sequence in dropped:
            self._cells.remove(sequence)
        return bool(dropped)

    def clear(self) -> None:
        """Forget everything in memory, after a failure that left it unknown. The slots stay taken."""
        self._cells.clear()
        self._shelf.clear()
