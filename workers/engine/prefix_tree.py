"""Which beginnings of prompts are in memory, and which were only seen: a radix tree over tokens.

    root ─ "You inspect boards …" (id 16) ─┬─ "Report: U12 …"        seen once, no cells
                                           └─ "Example 1 … Report:"  (id 17)

A node is a run of tokens. *Kept* nodes are in memory: the last kept node of each branch has a sequence id,
under which all tokens from the root to its end are held; the kept nodes above it are covered by the ids
below. Seen nodes hold tokens only, so that the second prompt which begins alike makes a beginning worth
keeping and a unique one never costs a cell. Pure: it decides, the memory operations are `Memory`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.engine.images import whole_length
from workers.engine.shape import MIN_SHARED

Tokens = npt.NDArray[np.int32]

HALF_LIFE: Final = 8.0
"""Prompts after which one that came counts half: yesterday's task makes room for today's."""
MAX_SEEN: Final = 1 << 16
"""Tokens of seen runs that are remembered; the least recently used leaves are forgotten beyond."""


def common_length(a: Tokens, b: Tokens) -> int:
    """How many leading tokens two runs share."""
    size = min(len(a), len(b))
    different = a[:size] != b[:size]
    at = int(different.argmax()) if size else 0
    return at if size and different[at] else size


@dataclass(eq=False, slots=True)
class Node:
    """A run of tokens that ends at depth `end`. `pins` counts the running sequences that use its cells."""

    tokens: Tokens
    end: int
    parent: Node | None
    children: dict[int, Node] = field(default_factory=dict)
    kept: bool = False
    sequence: int = -1
    """The id that holds everything down to here; -1 where a node below has it, or nothing is kept."""
    pins: int = 0
    heat: float = 0.0
    """How many prompts began with everything down to here, older ones counted less, when it was `used` last.
    """
    used: int = 0
    """Number of the last of those prompts."""

    def heat_at(self, now: int) -> float:
        """Its heat when prompt number `now` comes."""
        return self.heat * float(0.5 ** ((now - self.used) / HALF_LIFE))

    @property
    def start(self) -> int:
        """Depth at which the run begins."""
        return self.end - len(self.tokens)

    def kept_children(self) -> Iterator[Node]:
        """The kept nodes right below."""
        return (child for child in self.children.values() if child.kept)


@dataclass(frozen=True, slots=True)
class Match:
    """`length` leading tokens of a prompt are in memory under `sequence`; `node` is the last one used."""

    sequence: int
    length: int
    node: Node


@dataclass(frozen=True, slots=True)
class Growth:
    """How to keep a beginning: `sequence` must hold positions [0, end). Of them [0, known) are held by
    `source` already (-1 for none), the rest by the sequence that computed them.
    """

    sequence: int
    source: int
    known: int
    end: int
    node: Node


@dataclass(frozen=True, slots=True)
class Eviction:
    """`sequence` gives up its positions from `start` on; its id is free again where `start` is 0. `cells` of
    them nobody else holds.
    """

    sequence: int
    start: int
    cells: int


class PrefixTree:
    """The beginnings that may be held under `sequences`, at most `budget` cells of them together."""

    def __init__(self, sequences: tuple[int, ...], budget: int, min_shared: int = MIN_SHARED) -> None:
        self._free = list(reversed(sequences))
        self._budget = budget
        self._min_shared = min_shared
        self._root = Node(np.empty(0, np.int32), 0, None, kept=True)
        self._tips: dict[int, Node] = {}
        """The last kept node of each branch, by its id."""
        self._seen = 0
        self._prompts = 0
        self.pinned_cells = 0
        """Cells of kept nodes that running sequences use."""
        self.cells = 0
        """Cells of all kept nodes."""

    # ---- looking -------------------------------------------------------------------------------------------

    def match(self, prompt: Tokens) -> Match | None:
        """The longest beginning of `prompt` in memory that splits no image; its last token never counts: its
        logits are needed.
        """
        node, length = self._walk(prompt[:-1], kept_only=True)
        length = whole_length(prompt, length)
        if length < self._min_shared:
            return None
        return Match(self._holder(node).sequence, length, node)

    def see(self, prompt: Tokens) -> int:
        """Note that a prompt came; returns how many of its leading tokens an earlier one had."""
        node, length = self._walk(prompt, kept_only=False)
        if length < len(prompt):
            node = self._branch(self._split(node, length), prompt[length:])
        self._prompts += 1
        at: Node | None = node
        while at is not None:
            at.heat, at.used = at.heat_at(self._prompts) + 1.0, self._prompts
            at = at.parent
        self._forget()
        return length

    def _walk(self, tokens: Tokens, *, kept_only: bool) -> tuple[Node, int]:
        """The node in which `tokens` leave the tree (or end), and how many of them it has."""
        node, length = self._root, 0
        while length < len(tokens):
            child = node.children.get(int(tokens[length]))
            if child is None or (kept_only and not child.kept):
                break
            shared = common_length(child.tokens, tokens[length:])
            node, length = child, length + shared
            if shared < len(child.tokens):
                break
        return node, length

    @staticmethod
    def _holder(node: Node) -> Node:
        """The node at or below a kept one whose id holds it."""
        while node.sequence < 0:
            node = next(node.kept_children())
        return node

    def match_length(self, tokens: Tokens) -> int:
        """How many leading `tokens` are in memory, all of which may count."""
        return self._walk(tokens, kept_only=True)[1]

    def worth(self, tokens: Tokens) -> float:
        """What keeping all of `tokens` would spare: heat times the cells that are not in memory yet."""
        node, length = self._walk(tokens, kept_only=False)
        return (
            node.heat_at(self._prompts) * (length - self.match_length(tokens))
            if length == len(tokens)
            else 0.0
        )

    # ---- growing -------------------------------------------------------------------------------------------

    def fits(self, tokens: Tokens) -> bool:
        """Whether `tokens` may be kept as things stand: there are cells, and an id where they are a new
        branch.
        """
        node, known = self._walk(tokens, kept_only=True)
        continues = node.sequence >= 0 and known == node.end
        return self.cells + len(tokens) - known <= self._budget and (continues or bool(self._free))

    def could_fit(self, cells: int) -> bool:
        """Whether so many more cells could be kept if everything that nobody uses were given up."""
        return self.pinned_cells + cells <= self._budget and (
            bool(self._free) or any(not tip.pins for tip in self._tips.values())
        )

    def worth_keeping(self, length: int, known: int) -> bool:
        """Whether a beginning of `length` tokens, `known` of them in memory already, earns its cells."""
        return length - known >= self._min_shared and length <= self._budget

    def grow(self, tokens: Tokens) -> Growth | None:
        """Mark `tokens` as kept, all of which some sequence has computed. None where nothing is to be done,
        or no id and no room is left; evict first.
        """
        node, known = self._walk(tokens, kept_only=True)
        end = len(tokens)
        if not self.worth_keeping(end, known) or self.cells + end - known > self._budget:
            return None
        source = self._holder(node).sequence if known else -1
        # a branch that is only continued takes its id along; a new branch needs one of its own
        continues = node.sequence >= 0 and known == node.end
        if not continues and not self._free:
            return None
        sequence = node.sequence if continues else self._free.pop()
        if continues:
            node.sequence = -1
        tip = self._mark(tokens)
        tip.sequence = sequence
        self._tips[sequence] = tip
        self.cells += end - known
        return Growth(sequence, source, known, end, tip)

    def _mark(self, tokens: Tokens) -> Node:
        """Make the path of `tokens` exist and be kept; returns its last node."""
        node, length = self._walk(tokens, kept_only=False)
        node = self._split(node, length)
        if length < len(tokens):
            node = self._branch(node, tokens[length:])
        at: Node | None = node
        while at is not None and not at.kept:
            at.kept = True
            self._seen -= len(at.tokens)
            at = at.parent
        return node

    def _branch(self, parent: Node, tokens: Tokens) -> Node:
        child = Node(tokens.copy(), parent.end + len(tokens), parent)
        parent.children[int(tokens[0])] = child
        self._seen += len(tokens)
        return child

    def _split(self, node: Node, depth: int) -> Node:
        """The node that ends at `depth` within `node`: itself, or a new one above its rest."""
        if depth == node.end:
            return node
        cut = depth - node.start
        parent = node.parent
        if parent is None:
            raise ValueError("the root cannot be split")
        upper = Node(node.tokens[:cut], depth, parent, kept=node.kept, pins=node.pins, used=node.used)
        upper.heat = node.heat
        parent.children[int(upper.tokens[0])] = upper
        upper.children[int(node.tokens[cut])] = node
        node.tokens, node.parent = node.tokens[cut:], upper
        return upper

    # ---- using ---------------------------------------------------------------------------------------------

    def use(self, match: Match) -> Node:
        """A running sequence uses what it matched: that is not evicted until `unpin` of the returned node."""
        node = match.node
        # the match may end above it, to split no image, or because the run was split meanwhile
        while node.parent is not None and node.start >= match.length:
            node = node.parent
        node = self._split(node, match.length)
        self.pin(node)
        return node

    def pin(self, node: Node) -> None:
        """A running sequence uses this node's cells and those above it: they are not evicted."""
        at: Node | None = node
        while at is not None:
            at.pins += 1
            self.pinned_cells += len(at.tokens) if at.pins == 1 else 0
            at = at.parent

    def unpin(self, node: Node) -> None:
        """The sequence is gone."""
        at: Node | None = node
        while at is not None:
            at.pins -= 1
            self.pinned_cells -= len(at.tokens) if at.pins == 0 else 0
            at = at.parent

    # ---- shrinking -----------------------------------------------------------------------------------------

    def evict(self, worth_less_than: float | None = None) -> Eviction | None:
        """Give up the run that spares least and that nobody uses; None when there is none, or none that
        spares less than that.
        """
        tips = [node for node in self._tips.values() if not node.pins]
        tip = min(tips, key=self._spares, default=None)
        if tip is None or (worth_less_than is not None and self._spares(tip) >= worth_less_than):
            return None
        sequence, tip.sequence, tip.kept = tip.sequence, -1, False
        del self._tips[sequence]
        self.cells -= len(tip.tokens)
        self._seen += len(tip.tokens)
        above, start = tip.parent, tip.start
        if above is None or above is self._root or any(above.kept_children()):
            self._free.append(sequence)
            start = 0
        else:
            above.sequence = sequence
            self._tips[sequence] = above
        return Eviction(sequence, start, len(tip.tokens))

    def _spares(self, node: Node) -> float:
        return node.heat_at(self._prompts) * len(node.tokens)

    def clear(self) -> None:
        """Nothing is in memory any more; the ids are free, what was seen stays seen. No sequence uses any of
        it.
        """
        self._free.extend(self._tips)
        self._tips.clear()
        for node in self._nodes():
            if node.kept:
                self._seen += len(node.tokens)
            node.kept, node.sequence, node.pins = False, -1, 0
        self._root.pins = 0
        self.cells = self.pinned_cells = 0

    @property
    def kept_branches(self) -> int:
        """How many ids are in use."""
        return len(self._tips)

    def _forget(self) -> None:
        """Drop seen leaves, least recently used first, until what is remembered is bounded."""
        if self._seen <= MAX_SEEN:
            return
        leaves = [node for node in self._nodes() if not node.children and not node.kept]
        for leaf in sorted(leaves, key=lambda node: node.used)[: max(1, len(leaves) // 2)]:
            if leaf.parent is not None:
                del leaf.parent.children[int(leaf.tokens[0])]
                self._seen -= len(leaf.tokens)

    def _nodes(self) -> Iterator[Node]:
        stack = list(self._root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())
