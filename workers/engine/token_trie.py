"""A vocabulary's pieces as a tree of characters, level by level in arrays.

One walk over it tells for every token at once where a text goes on, in numpy: tokens that begin alike are
walked together, and the walk is over where no beginning is left. It knows pieces, not grammars.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.engine.utf8 import split_text

Indices = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Level:
    """Nodes of one depth, `first` the number of the first: the parent of each, and its character (an index
    into the trie's `codes`).
    """

    first: int
    parents: Indices
    characters: Indices


class TokenTrie:
    """Node 0 is the root. `tokens[i]` ends at `nodes[i]`, and `parts[tails[i]]` are the first bytes of a
    character that it writes behind it. Tokens that begin inside a character are `inner`; those that write
    nothing and those that end the text are nowhere.
    """

    def __init__(self, pieces: list[bytes], end_tokens: frozenset[int]) -> None:
        self.n_vocab = len(pieces)
        self.end_tokens = np.array(sorted(end_tokens), np.int32)
        written = [token for token, piece in enumerate(pieces) if piece and token not in end_tokens]
        # UTF-8 sorts as its characters do, and a part of one stands where the texts that it ends stand
        self._order = sorted(written, key=pieces.__getitem__)
        self._pieces = [pieces[token] for token in self._order]
        self.longest = max(map(len, self._pieces), default=1)
        self.inner: list[int] = []
        texts: list[str] = []
        tokens: list[int] = []
        tails: list[int] = []
        numbers = {b"": 0}
        for piece, token in zip(self._pieces, self._order, strict=True):
            split = split_text(piece)
            if split is not None:
                text, part = split
                texts.append(text)
                tokens.append(token)
                tails.append(numbers.setdefault(part, len(numbers)))
            elif 0x80 <= piece[0] < 0xC0:
                self.inner.append(token)
        self.parts = list(numbers)
        self.tokens = np.array(tokens, np.int32)
        self.tails = np.array(tails, np.int32)
        self._grow(texts)

    def _grow(self, texts: list[str]) -> None:
        """The levels of sorted texts: neighbours that came the same way and go on alike share a node."""
        lengths = np.array([len(text) for text in texts], np.int64)
        offsets = np.cumsum(lengths) - lengths
        points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
        self.codes, characters = np.unique(points, return_inverse=True)
        self.nodes = np.zeros(len(texts), np.int32)
        self.levels: list[Level] = []
        self.n_nodes = 1
        for depth in range(int(lengths.max(initial=0))):
            longer = np.flatnonzero(lengths > depth)
            parents = self.nodes[longer]
            here = characters[offsets[longer] + depth].astype(np.int32)
            new = np.ones(len(longer), bool)
            new[1:] = (parents[1:] != parents[:-1]) | (here[1:] != here[:-1])
            self.levels.append(Level(self.n_nodes, parents[new], here[new]))
            self.nodes[longer] = self.n_nodes + np.cumsum(new) - 1
            self.n_nodes += int(new.sum())

    def longer_than(self, part: bytes) -> list[int]:
        """The tokens that begin with `part` and write more."""
        first = last = bisect_right(self._pieces, part)
        while last < len(self._pieces) and self._pieces[last].startswith(part):
            last += 1
        return self._order[first:last]
