"""Labels as a tree: the rows it asks for and the scores it adds up."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest

from workers.engine.choices import Branches, LabelTrie, Path, Piece
from workers.engine.distribution import distribution
from workers.engine.memory import Memory
from workers.engine.scoring import PathRunner
from workers.engine.sequence import Scoring

END = frozenset({0, 1})


def row_after(tokens: tuple[int, ...]) -> np.ndarray:
    """A made-up model: logits depend on all tokens so far."""
    return np.random.default_rng([len(tokens), *tokens]).standard_normal(12).astype(np.float32)


def log_softmax(row: np.ndarray) -> np.ndarray:
    row = row.astype(np.float64)
    return row - np.log(np.exp(row).sum())


def brute_force(labels: tuple[tuple[int, ...], ...], with_end: bool) -> np.ndarray:
    scores = []
    for label in labels:
        score = sum(log_softmax(row_after(label[:at]))[token] for at, token in enumerate(label))
        if with_end:
            score += np.log(np.exp(log_softmax(row_after(label))[sorted(END)]).sum())
        scores.append(score)
    weights = np.exp(np.array(scores))
    return weights / weights.sum()


def run(trie: LabelTrie, rows: int = 1000, forks: int = 0) -> int:
    """Follow the branches as an engine does, in a slot that is cut back in between and in forks of it;
    returns the steps.
    """
    score(trie, 0, ())
    branches, slot, steps = Branches(trie.paths()), (), 0
    while branches:
        assert branches.held == len(slot)
        piece = branches.piece(rows, forks)
        assert 0 < piece.n_rows <= rows and len(piece.others) <= forks
        for path in (*piece.others, piece.own):
            done = slot[: path.keep]
            for token, node in zip(path.tokens, path.nodes, strict=True):
                done += (token,)
                score(trie, node, done)
        branches.done(piece)
        slot, steps = done[: branches.held], steps + 1
    return steps


def score(trie: LabelTrie, node: int, tokens: tuple[int, ...]) -> None:
    row = row_after(tokens)
    trie.score(node, row, float(np.log(np.exp(row.astype(np.float64)).sum())))


@pytest.mark.parametrize(
    ("labels", "with_end"),
    [
        (((2,), (3,), (4,)), False),
        (((2, 3), (2, 4), (5,)), False),
        (((2, 3), (2, 3, 4), (6, 7, 8, 9)), True),
        (tuple(itertools.product((2, 3), repeat=3)), False),
    ],
)
@pytest.mark.parametrize(("rows", "forks"), [(1000, 0), (1, 3), (3, 2), (1000, 2), (1000, 1000)])
def test_probabilities_equal_brute_force(
    labels: tuple[tuple[int, ...], ...], with_end: bool, rows: int, forks: int
) -> None:
    trie = LabelTrie(labels, END)
    run(trie, rows, forks)
    assert trie.scores_end is with_end
    probabilities = distribution(trie.log_scores())
    assert np.allclose(probabilities, brute_force(labels, with_end))
    assert probabilities.sum() == pytest.approx(1.0)
    assert trie.lengths().tolist() == [len(label) + with_end for label in labels]


def test_labels_of_one_token_need_no_rows() -> None:
    assert LabelTrie(((2,), (3,)), END).paths() == []


def test_shared_beginnings_are_computed_once() -> None:
    trie = LabelTrie(((2, 3, 4), (2, 3, 5), (2, 6, 7)), END)
    assert sum(len(path.tokens) for path in trie.paths()) == 3
    # in forks only what the slot does not hold yet
    branches = Branches(trie.paths())
    piece = branches.piece(10, 10)
    assert [path.tokens for path in (piece.own, *piece.others)] == [(2, 3), (2, 6)]
    branches.done(branches.piece(2, 10))
    assert (branches.held, branches.piece(10, 10)) == (1, Piece(Path(1, (6,), (5,))))


@pytest.mark.parametrize(
    ("rows", "forks", "steps"), [(1000, 1000, 1), (1000, 8, 9), (64, 1000, 5), (64, 0, 81), (1, 8, 120)]
)
def test_a_step_runs_as_many_branches_as_rows_and_forks_allow(rows: int, forks: int, steps: int) -> None:
    trie = LabelTrie(tuple(itertools.product((2, 3, 4), repeat=5)), END)
    assert len(trie.paths()) == 81
    assert run(trie, rows, forks) == steps


def test_what_was_computed_is_forgotten_with_the_slot() -> None:
    trie = LabelTrie(tuple(itertools.product((2, 3, 4), repeat=4)), END)
    branches = Branches(trie.paths())
    first = branches.piece(4, 0)
    branches.done(first)
    assert branches.held and branches.piece(4, 0) != first
    branches.reset()
    assert not branches.held and branches.piece(4, 0) == first


def test_each_of_many_has_a_branch_before_one_has_two() -> None:
    memory = Memory(cast(Any, None), 4, n_cells=256, kept=0, kept_cells=0, forks=8, unified=True)
    pairs = LabelTrie(tuple((first, 9) for first in range(2, 8)), END)
    those = [Scoring((), pairs, Branches(pairs.paths())) for _ in range(3)]
    assert PathRunner(memory, 64).allot(those) == [6, 4, 1]
    assert PathRunner(memory, 5).allot(those) == [3, 1, 1]
    assert PathRunner(memory, 2).allot(those) == [1, 1, 0]


@pytest.mark.parametrize("labels", [((2,), (2,)), ((), (2,))])
def test_labels_without_tokens_or_alike_are_refused(labels: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        LabelTrie(labels, END)
