"""An automaton over characters, walked by the tokens of one vocabulary.

A token may hold several characters and parts of some, so a position is a state and the first bytes of a
character. What a token does at a position is found out once; so is the mask of all tokens. Text stays valid
UTF-8: a part of a character is allowed where some character that begins so is. It knows no sequence.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.engine.alphabet import NONE
from workers.engine.automaton import Automaton, State
from workers.engine.errors import GRAMMAR_INVALID, EngineError
from workers.engine.token_trie import TokenTrie
from workers.engine.utf8 import completions, split_text

Mask = npt.NDArray[np.bool_]

_DEAD: Final = -1
_MOST_CELLS: Final = 1 << 24
_MASK_BYTES: Final = 2 * 1024 * 1024


class Position:
    """A state of the grammar, and the first bytes of a character behind it, empty for none."""

    __slots__ = ("part", "state", "tokens")

    def __init__(self, state: State, part: bytes) -> None:
        self.state = state
        self.part = part
        self.tokens: dict[int, Position | None] = {}


class TokenWalk:
    """One grammar over one vocabulary. All sequences of the grammar share it."""

    def __init__(self, automaton: Automaton, trie: TokenTrie, pieces: list[bytes]) -> None:
        self.automaton = automaton
        self.trie = trie
        self.pieces = pieces
        self._end_tokens = frozenset(trie.end_tokens.tolist())
        # column 0 is that of the characters no set holds
        self._columns = automaton.alphabet.classes_of(trie.codes) - NONE
        self._starting: dict[bytes, frozenset[int]] = {}
        self._masks: OrderedDict[Position, npt.NDArray[np.uint8]] = OrderedDict()
        self._most_masks = max(4, _MASK_BYTES // (trie.n_vocab // 8 + 1))

    @property
    def start(self) -> Position:
        """Where every text begins."""
        return self.position(self.automaton.start, b"")

    def position(self, state: State, part: bytes) -> Position:
        """The one position of a state and part of a character."""
        found: Position | None = state.parts.get(part)
        if found is None:
            found = state.parts[part] = Position(state, part)
            self.automaton.weight += 4
        return found

    def step(self, position: Position, token: int) -> Position | None:
        """Where a token leads, None where it is not allowed. An end token leads nowhere else."""
        try:
            return position.tokens[token]
        except KeyError:
            found = self._find(position, token)
            position.tokens[token] = found
            self.automaton.weight += 1
            return found

    def mask(self, position: Position) -> Mask:
        """Which tokens of the vocabulary [n_vocab] are allowed."""
        packed = self._masks.get(position)
        if packed is not None:
            self._masks.move_to_end(position)
            return np.unpackbits(packed, count=self.trie.n_vocab).view(bool)
        mask = self._fill(position)
        self._masks[position] = np.packbits(mask)
        if len(self._masks) > self._most_masks:
            self._masks.popitem(last=False)
        return mask

    def may_end(self, position: Position) -> bool:
        """Whether the text may be over here."""
        return position.state.may_end and not position.part

    def complete(self, position: Position) -> bool:
        """Whether the text may be over here and nothing can follow."""
        return self.may_end(position) and not self.automaton.classes(position.state)

    def _find(self, position: Position, token: int) -> Position | None:
        if token in self._end_tokens:
            return position if self.may_end(position) else None
        piece = self.pieces[token]
        split = split_text(position.part + piece)
        if split is None or not piece:
            return None
        text, part = split
        automaton = self.automaton
        state = position.state
        for character in text:
            following = automaton.step(state, automaton.alphabet.class_of(ord(character)))
            if following is None:
                return None
            state = following
        if part and not self._goes_on(state, part):
            return None
        return self.position(state, part)

    def _goes_on(self, state: State, part: bytes) -> bool:
        """Whether some character that begins with `part` may come next."""
        starting = self._starting.get(part)
        if starting is None:
            between = self.automaton.alphabet.between
            starting = frozenset().union(*(between(low, high) for low, high in completions(part)))
            self._starting[part] = starting
        return not starting.isdisjoint(self.automaton.classes(state))

    def _fill(self, position: Position) -> Mask:
        mask = np.zeros(self.trie.n_vocab, bool)
        if position.part:
            mask[[token for token in self.trie.inner if self._find(position, token) is not None]] = True
            return mask
        trie = self.trie
        at_node, met = self._walk(position.state)
        at_token = at_node[trie.nodes]
        alive = at_token != _DEAD
        mask[trie.tokens[alive]] = True
        # the parts of characters behind a token: few pairs of state and part, however many tokens
        open_ended = np.flatnonzero(alive & (trie.tails > 0))
        n_parts = len(trie.parts)
        pairs, inverse = np.unique(
            at_token[open_ended] * np.int64(n_parts) + trie.tails[open_ended], return_inverse=True
        )
        passing = [
            self._goes_on(met[row], trie.parts[tail])
            for row, tail in (divmod(pair, n_parts) for pair in pairs.tolist())
        ]
        mask[trie.tokens[open_ended]] = np.array(passing, bool)[inverse]
        mask[trie.end_tokens] = position.state.may_end
        return mask

    def _walk(self, start: State) -> tuple[npt.NDArray[np.int32], list[State]]:
        """The state at each node of the trie, as an index into the states met."""
        trie, width = self.trie, self.automaton.alphabet.n_classes + 1
        at_node = np.full(trie.n_nodes, _DEAD, np.int32)
        at_node[0] = 0
        met = [start]
        # the states of the level above are met[base:]
        base = 0
        for level in trie.levels:
            above = at_node[level.parents]
            alive = np.flatnonzero(above != _DEAD)
            if not len(alive):
                break
            codes = (above[alive] - base) * width + self._columns[level.characters[alive]]
            size = (len(met) - base) * width
            if size > _MOST_CELLS:
                raise _too_wide()
            present = np.zeros(size, bool)
            present[codes] = True
            leads_to = np.full(size, _DEAD, np.int32)
            index: dict[State, int] = {}
            for code in np.flatnonzero(present).tolist():
                row, column = divmod(code, width)
                state = self.automaton.step(met[base + row], column - 1)
                if state is not None:
                    leads_to[code] = index.setdefault(state, len(met) + len(index))
            base = len(met)
            met.extend(index)
            at_node[level.first + alive] = leads_to[codes]
        return at_node, met


def _too_wide() -> EngineError:
    return EngineError(
        GRAMMAR_INVALID,
        "the grammar or schema is too ambiguous: the next token can lead to too many places",
        field="output",
        remedy="let fewer alternatives begin at the same place",
    )
