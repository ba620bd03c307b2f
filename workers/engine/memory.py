"""What the context's memory holds: slots, kept beginnings, forks for choices, and every cell accounted for.

    ids  0 ......... n_slots-1 | kept beginnings | forks

In a unified memory all ids share one pool of cells, and a beginning is shared without a copy. Separate
memories have cells of their own for each id and are copied whole; there a slot never runs out and `shortage`
is always 0. Slots are handed out lowest first: llama.cpp computes neighbouring ids of separate memories in
one pass and others one after the other. A free slot still holds what it computed, until somebody needs the
cells. It knows tokens and ids, no requests.
"""

from __future__ import annotations

import heapq
from typing import Final, Protocol

from workers.engine.images import whole_length
from workers.engine.prefix_tree import Match, Node, PrefixTree, Tokens, common_length
from workers.engine.shape import MIN_SHARED

WORTH_WAITING: Final = 32
"""Tokens below which one computes its beginning itself, beside the one who is at it."""
_CLEARLY: Final = 1.5


class Cells(Protocol):
    """The memory operations of a context."""

    def remove(self, sequence: int, start: int = 0, end: int = -1) -> bool:
        """Forget positions [start, end) of a sequence."""

    def copy(self, source: int, target: int, start: int = 0, end: int = -1) -> None:
        """Give positions [start, end) of one sequence to another one."""

    def clear(self) -> None:
        """Forget everything."""


class Memory:
    """Slots and beginnings of one context of `n_cells` cells, `kept_cells` of which may hold beginnings."""

    def __init__(
        self,
        cells: Cells,
        n_slots: int,
        *,
        n_cells: int,
        kept: int,
        kept_cells: int,
        forks: int,
        unified: bool,
        min_shared: int = MIN_SHARED,
    ) -> None:
        self._cells = cells
        self._unified = unified
        self._n_cells = n_cells
        self._most_left = kept_cells
        self._free_slots = list(range(n_slots))
        self._own = [0] * n_slots
        self._shared = [0] * n_slots
        self._pinned: dict[int, Node] = {}
        self._leaves = kept > 0
        self._left: dict[int, Tokens] = {}
        """What free slots still hold."""
        self._min_shared = min_shared
        self._tree = PrefixTree(tuple(range(n_slots, n_slots + kept)), kept_cells, min_shared)
        self._free_forks = list(range(n_slots + kept, n_slots + kept + forks))
        self._forked: list[int] = []

    # ---- slots ---------------------------------------------------------------------------------------------

    @property
    def free_slots(self) -> int:
        """Slots without a sequence."""
        return len(self._free_slots)

    def take_slot(self, tokens: Tokens) -> tuple[int, int]:
        """A free slot for a sequence of these tokens, and how many of them it still holds, never the last.
        Raises IndexError when all are taken.
        """
        slot = self._next_slot(tokens)
        self._free_slots.remove(slot)
        heapq.heapify(self._free_slots)
        length = self._left_over(slot, tokens)
        if self._left.pop(slot, None) is not None:
            self._cells.remove(slot, length)
        self._own[slot] = length
        return slot, length

    def _next_slot(self, tokens: Tokens) -> int:
        """The lowest free slot; of a unified memory the one that holds the longest beginning of these tokens,
        else one that holds nothing.
        """
        if not self._unified or not self._left:
            return self._free_slots[0]
        return min(
            self._free_slots, key=lambda slot: (-self._left_over(slot, tokens), slot in self._left, slot)
        )

    def _left_over(self, slot: int, tokens: Tokens) -> int:
        """How many leading tokens a free slot still holds, never the last, nor a part of an image."""
        left = self._left.get(slot)
        if left is None:
            return 0
        length = whole_length(tokens, min(common_length(left, tokens), len(tokens) - 1))
        return length if length >= self._min_shared else 0

    def release_slot(self, slot: int, tokens: Tokens) -> None:
        """Let another one have a slot, in which these tokens are computed. They stay there for the next one,
        which may begin alike: separate memories lose nothing by that, and a unified one gets the cells back
        as soon as it needs them. What is shared with a kept beginning is kept already.
        """
        stays = self._leaves and (not self._unified or self._may_stay(slot, tokens))
        self._unpin(slot)
        if stays:
            self._left[slot] = tokens
        else:
            self._cells.remove(slot)
        self._own[slot] = len(tokens) if stays and self._unified else 0
        if self._own[slot]:
            self._cells.remove(slot, len(tokens))
        heapq.heappush(self._free_slots, slot)

    def _may_stay(self, slot: int, tokens: Tokens) -> bool:
        fits = self._min_shared <= len(tokens) <= self._most_left - self._left_cells
        return fits and not self._shared[slot]

    def empty(self, slot: int) -> None:
        """Forget what a taken slot still holds."""
        self._cells.remove(slot)
        self._own[slot] = 0

    def computed(self, slot: int, rows: int) -> None:
        """`rows` more tokens of a slot are in memory."""
        self._own[slot] += rows

    # ---- cells ---------------------------------------------------------------------------------------------

    @property
    def cells_used(self) -> int:
        """Cells that hold something, of a unified memory."""
        return sum(self._own) + self._tree.cells

    @property
    def kept_cells(self) -> int:
        """Cells of kept beginnings, and of a unified memory those that free slots still hold."""
        return self._tree.cells + self._left_cells

    @property
    def _left_cells(self) -> int:
        return sum(len(tokens) for tokens in self._left.values()) if self._unified else 0

    @property
    def kept_branches(self) -> int:
        """Sequence ids in use for kept beginnings."""
        return self._tree.kept_branches

    def shortage(self, rows: int) -> int:
        """How many cells are missing for so many rows."""
        return max(0, self.cells_used + rows - self._n_cells) if self._unified else 0

    def room(self) -> int:
        """Cells that are free, or would be if every beginning that nobody uses were given up."""
        if not self._unified:
            return self._n_cells
        return self._n_cells - sum(self._own) + self._left_cells - self._tree.pinned_cells

    def make_room(self, rows: int) -> bool:
        """Give up beginnings that nobody uses until `rows` fit; False where they do not."""
        while self.shortage(rows):
            if not self._give_up():
                return False
        return True

    def drop_kept(self) -> bool:
        """Give up every beginning that nobody uses; False when there was none."""
        dropped = False
        while self._give_up():
            dropped = True
        return dropped

    def _give_up(self) -> bool:
        """Give up what a free slot of a unified memory still holds, else a beginning that nobody uses."""
        if self._unified and self._left:
            slot, _ = self._left.popitem()
            self.empty(slot)
            return True
        return self._evict()

    def _evict(self, worth_less_than: float | None = None) -> bool:
        eviction = self._tree.evict(worth_less_than)
        if eviction is not None:
            self._cells.remove(eviction.sequence, eviction.start)
        return eviction is not None

    # ---- shared beginnings ---------------------------------------------------------------------------------

    def match(self, prompt: Tokens) -> Match | None:
        """The longest beginning of a prompt in memory."""
        return self._tree.match(prompt)

    def see(self, prompt: Tokens) -> int:
        """Note that a prompt came; how many of its leading tokens an earlier one had."""
        return self._tree.see(prompt)

    def worth_keeping(self, length: int, known: int) -> bool:
        """Whether a beginning of `length` tokens, `known` of them in memory, is worth keeping."""
        return self._tree.worth_keeping(length, known)

    def worth_waiting_for(self, length: int, known: int) -> bool:
        """Whether a beginning that another one computes is worth waiting for, and could be kept then."""
        return length - known >= WORTH_WAITING and self._tree.could_fit(length - known)

    def spared(self, tokens: Tokens) -> int:
        """How many leading tokens of a prompt would not be computed if it got a slot now."""
        match = self._tree.match(tokens)
        left = self._left_over(self._next_slot(tokens), tokens) if self._free_slots else 0
        return max(left, 0 if match is None else match.length)

    def owned(self, slot: int) -> int:
        """Cells that a slot gives back when its sequence leaves it and is not kept."""
        return self._own[slot]

    def reuse(self, match: Match, slot: int) -> None:
        """Give a beginning in memory to an empty slot."""
        self._copy(match.sequence, slot, match.length)
        self._pinned[slot] = self._tree.use(match)
        self._shared[slot] = match.length

    def keep(self, slot: int, tokens: Tokens, *, needed: bool = False) -> bool:
        """Keep a slot's first tokens, which are in memory. From now on the slot shares them with the tree.

        Where there is no room for them, those that spare clearly less go; where they are `needed`, any.
        """
        known = self._tree.match_length(tokens)
        if not self._tree.worth_keeping(len(tokens), known):
            return False
        # with room to spare between the two, so that beginnings alike do not push each other out in turns
        worth = None if needed else self._tree.worth(tokens) / _CLEARLY
        while not self._tree.fits(tokens):
            if not self._evict(worth):
                return False
        growth = self._tree.grow(tokens)
        if growth is None:
            return False
        if self._unified:
            if growth.source >= 0 and growth.source != growth.sequence:
                self._cells.copy(growth.source, growth.sequence, 0, growth.known)
            self._cells.copy(slot, growth.sequence, growth.known, growth.end)
            # what another one had computed already is held once: the slot drops its own copy of it
            if growth.known > self._shared[slot]:
                self._cells.remove(slot, self._shared[slot], growth.known)
                self._cells.copy(growth.sequence, slot, self._shared[slot], growth.known)
        else:
            self._cells.remove(growth.sequence)
            self._copy(slot, growth.sequence, growth.end)
        before = self._shared[slot]
        self._unpin(slot)
        self._tree.pin(growth.node)
        self._pinned[slot] = growth.node
        self._shared[slot] = growth.end
        self._own[slot] -= growth.end - before
        return True

    def _unpin(self, slot: int) -> None:
        node = self._pinned.pop(slot, None)
        if node is not None:
            self._tree.unpin(node)
        self._shared[slot] = 0

    def _copy(self, source: int, target: int, length: int) -> None:
        if self._unified:
            self._cells.copy(source, target, 0, length)
            return
        # separate memories are copied whole or not at all: copy, then cut
        self._cells.copy(source, target)
        self._cells.remove(target, length)

    # ---- choices -------------------------------------------------------------------------------------------

    @property
    def free_forks(self) -> int:
        """How many forks can be made."""
        return len(self._free_forks)

    def fork(self, slot: int, length: int) -> int:
        """A second sequence that begins with a slot's first `length` positions; returns its id. It lasts
        until `drop_forks`. Raises IndexError where no fork is free.
        """
        target = heapq.heappop(self._free_forks)
        self._forked.append(target)
        self._copy(slot, target, length)
        return target

    def drop_forks(self) -> None:
        """Forget every fork."""
        for target in self._forked:
            self._cells.remove(target)
            heapq.heappush(self._free_forks, target)
        self._forked.clear()

    def rewind(self, slot: int, length: int) -> None:
        """Forget a slot's positions from `length` on. What is left is counted, `computed` or not."""
        self._cells.remove(slot, length)
        self._own[slot] = length - self._shared[slot]

    def clear(self) -> None:
        """Nothing is in memory any more: the context is a new one. No slot is taken."""
        self._cells.clear()
        self._tree.clear()
        self._pinned.clear()
        self._left.clear()
        self._own = [0] * len(self._own)
        self._shared = [0] * len(self._shared)
