"""Where one text stands in its grammar, and the grammars of one model that are kept for the next job.

It knows tokens, not how one is drawn.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from workers.engine.automaton import Automaton
from workers.engine.forced import forced_tokens
from workers.engine.grammar import check_grammar
from workers.engine.token_trie import TokenTrie
from workers.engine.token_walk import Position, TokenWalk

Tokens = npt.NDArray[np.int32]

_MOST_GRAMMARS: Final = 64
_MOST_WEIGHT: Final = 1 << 20
"""What all grammars together remember, about 100 bytes each."""


class Words(Protocol):
    """What a grammar needs of the vocabulary."""

    pieces: list[bytes]
    end_tokens: frozenset[int]

    def tokenise(self, text: str) -> Tokens:
        """The tokens of a text."""


class Constraint:
    """One text under a grammar. `allows`, `mask` and `forced` only look, `accept` moves on.

    Each may raise EngineError (grammar_invalid) where the text can be read in too many ways.
    """

    def __init__(self, walk: TokenWalk, words: Words) -> None:
        self._walk = walk
        self._words = words
        self._position: Position = walk.start

    def allows(self, token: int) -> bool:
        """Whether `token` may come next; an end token where the text may be over."""
        return self._walk.step(self._position, token) is not None

    def mask(self) -> npt.NDArray[np.bool_]:
        """Which tokens of the vocabulary [n_vocab] may come next."""
        return self._walk.mask(self._position)

    def accept(self, token: int) -> None:
        """Move on by one token. Raises ValueError for one that is not allowed."""
        position = self._walk.step(self._position, token)
        if position is None:
            raise ValueError(f"the grammar does not allow the token {token}")
        self._position = position

    @property
    def may_end(self) -> bool:
        """Whether the text may be over."""
        return self._walk.may_end(self._position)

    @property
    def complete(self) -> bool:
        """Whether the text is over: nothing else may follow."""
        return self._walk.complete(self._position)

    def forced(self) -> tuple[int, ...]:
        """The tokens that must come next, none where the text is free."""
        return forced_tokens(self._walk, self._position, self._words.tokenise)


class Grammars:
    """The grammars of one model, least recently used ones dropped first."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._trie = TokenTrie(words.pieces, words.end_tokens)
        self._walks: OrderedDict[str, TokenWalk] = OrderedDict()

    def compile(self, grammar: str) -> TokenWalk:
        """A GBNF grammar, compiled or remembered. Raises EngineError (grammar_invalid)."""
        walk = self._walks.get(grammar)
        if walk is None:
            walk = TokenWalk(Automaton(check_grammar(grammar)), self._trie, self._words.pieces)
            self._walks[grammar] = walk
        self._walks.move_to_end(grammar)
        weight = sum(map(_weight, self._walks.values()))
        while len(self._walks) > 1 and (weight > _MOST_WEIGHT or len(self._walks) > _MOST_GRAMMARS):
            weight -= _weight(self._walks.popitem(last=False)[1])
        return walk

    def begin(self, grammar: str) -> Constraint:
        """A new text under a grammar."""
        return Constraint(self.compile(grammar), self._words)


def _weight(walk: TokenWalk) -> int:
    return walk.automaton.size + walk.automaton.weight
