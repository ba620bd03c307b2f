"""A score for each allowed label, from the model's logits instead of from generated text.

Every label is scored by the log-probabilities of its tokens after the same prompt. Where one label's tokens
begin another's, each label also pays for ending there, else the shorter one could never lose. Pure: it plans
rows and adds up numbers; the forward passes are the engine's, what becomes of scores is in distribution.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Path:
    """Rows to compute for one label: `tokens` follow the prompt's first `keep` + prompt tokens already
    computed.

    `nodes[i]` is the trie node reached by `tokens[i]`; its logits score the node's children.
    """

    keep: int
    tokens: tuple[int, ...]
    nodes: tuple[int, ...]

    def after(self, count: int) -> Path:
        """What is left of the path when its first `count` tokens are computed."""
        return Path(self.keep + count, self.tokens[count:], self.nodes[count:])

    def first(self, count: int) -> Path:
        """The path's first `count` tokens."""
        return Path(self.keep, self.tokens[:count], self.nodes[:count])

    def then(self, path: Path) -> Path:
        """A whole branch from the prompt's end: what `path` shares with this whole one, and its own rows."""
        return Path(0, self.tokens[: path.keep] + path.tokens, self.nodes[: path.keep] + path.nodes)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step computes of some branches: `own` in the slot itself, each of `others` in a fork of it."""

    own: Path
    others: tuple[Path, ...] = ()

    @property
    def n_rows(self) -> int:
        """All rows together."""
        return len(self.own.tokens) + sum(len(path.tokens) for path in self.others)


class Branches:
    """The branches of a tree that are still to compute, and what of them the slot holds behind the prompt.

    A piece is one branch, or the beginning of a long one, in the slot, and as many whole ones beside it as
    rows and forks allow. Behind it the slot goes back to what the next branch shares with its own.
    """

    def __init__(self, paths: list[Path]) -> None:
        """`paths` in depth-first order, as `LabelTrie.paths` finds them."""
        self._paths = paths
        self.reset()

    def reset(self) -> None:
        """The slot holds nothing of them any more: all are to be computed again."""
        self._at = 0
        self._held = Path(0, (), ())
        # the next branch, whose `keep` tokens are all that the slot holds
        self._next = self._paths[0] if self._paths else self._held

    def __bool__(self) -> bool:
        """Whether any are left."""
        return self._at < len(self._paths)

    @property
    def held(self) -> int:
        """How many tokens of labels the slot holds, for the next branch."""
        return self._next.keep

    def piece(self, rows: int, forks: int) -> Piece:
        """The next piece, of at most `rows` rows (at least 1) and `forks` forks. Some must be left."""
        own = self._next.first(rows)
        if len(own.tokens) < len(self._next.tokens):
            return Piece(own)
        rows -= len(own.tokens)
        line, shared = self._held.then(own), own.keep
        others: list[Path] = []
        for path in self._paths[self._at + 1 : self._at + 1 + forks]:
            shared = min(shared, path.keep)
            if path.keep + len(path.tokens) - shared > rows:
                break
            line = line.then(path)
            others.append(line.after(shared))
            rows -= len(line.tokens) - shared
        return Piece(own, tuple(others))

    def done(self, piece: Piece) -> None:
        """A piece is computed, and the slot cut back to `held` tokens of labels."""
        line = self._held = self._held.then(piece.own)
        if len(piece.own.tokens) < len(self._next.tokens):
            self._next = self._next.after(len(piece.own.tokens))
            return
        beside = self._paths[self._at + 1 : self._at + 1 + len(piece.others)]
        self._at += 1 + len(beside)
        if not self:
            return
        for path in beside:
            line = line.then(path)
        path = self._paths[self._at]
        keep = min(each.keep for each in (path, *beside))
        self._next = line.then(path).after(keep)
        self._held = self._held.first(keep)


class LabelTrie:
    """The labels' tokens as a tree; node 0 is the prompt's end."""

    def __init__(self, labels: tuple[tuple[int, ...], ...], end_tokens: frozenset[int]) -> None:
        """Every label must have at least one token. Labels with equal tokens raise ValueError."""
        if len(set(labels)) != len(labels) or not all(labels):
            raise ValueError("labels must be distinct and non-empty in tokens")
        self._end_tokens = np.array(sorted(end_tokens), np.int64)
        self._labels = labels
        self._children: list[dict[int, int]] = [{}]
        self._ends = frozenset([self._add(label) for label in labels])
        # a label that ends inside another one is fair only when ending has a price
        self.scores_end = any(self._children[node] for node in self._ends) and bool(len(self._end_tokens))
        self._log_probability: dict[int, float] = {}
        self._end_log_probability: dict[int, float] = {}

    def _add(self, label: tuple[int, ...]) -> int:
        node = 0
        for token in label:
            if token not in self._children[node]:
                self._children[node][token] = len(self._children)
                self._children.append({})
            node = self._children[node][token]
        return node

    def _needs_logits(self, node: int) -> bool:
        return bool(self._children[node]) or (self.scores_end and node in self._ends)

    def paths(self) -> list[Path]:
        """The rows to compute, one path per branch, in depth-first order: each shares `keep` rows with the
        last.
        """
        found: list[Path] = []
        # depth first without recursion: a label may have thousands of tokens
        branches = [(0, token, child) for token, child in reversed(self._below(0))]
        while branches:
            start, token, node = branches.pop()
            tokens, nodes = [token], [node]
            # the first branch carries the rows up to here, the others start after them
            while below := self._below(node):
                depth = start + len(tokens)
                branches.extend((depth, token, child) for token, child in reversed(below[1:]))
                token, node = below[0]
                tokens.append(token)
                nodes.append(node)
            found.append(Path(start, tuple(tokens), tuple(nodes)))
        return found

    def _below(self, node: int) -> list[tuple[int, int]]:
        """The children whose own logits are needed, each with its token."""
        return [(token, child) for token, child in self._children[node].items() if self._needs_logits(child)]

    def n_tokens(self, label: int) -> int:
        """How many tokens a label has."""
        return len(self._labels[label])

    def score(self, node: int, row: Logits, normaliser: float) -> None:
        """Take the logits [vocabulary] after `node`, whose log Σ exp is `normaliser`, and score its children,
        and ending there.
        """
        for token, child in self._children[node].items():
            self._log_probability[child] = float(row[token]) - normaliser
        if self.scores_end:
            ends = row[self._end_tokens].astype(np.float64)
            self._end_log_probability[node] = float(np.logaddexp.reduce(ends)) - normaliser

    def log_scores(self) -> npt.NDArray[np.float64]:
        """Σ log p of each label's tokens [labels]. Every needed node must have been scored: KeyError
        otherwise.
        """
        return np.array([self._label_score(label) for label in self._labels], np.float64)

    def _label_score(self, label: tuple[int, ...]) -> float:
        node, total = 0, 0.0
        for token in label:
            node = self._children[node][token]
            total += self._log_probability[node]
        return total + (self._end_log_probability[node] if self.scores_end else 0.0)

    def lengths(self) -> npt.NDArray[np.float64]:
        """How many log-probabilities each label's score is the sum of [labels]."""
        return np.array([len(label) + self.scores_end for label in self._labels], np.float64)
