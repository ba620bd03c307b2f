"""Labels as a tree: the rows it asks for and the scores it adds up."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest

from workers.engine.choices import LabelTrie
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


def run(trie: LabelTrie) -> None:
    """Follow the paths as an engine without forks does: keep a stack of rows, rewind, go on."""
    trie.score(0, row_after(()))
    done: tuple[int, ...] = ()
    for path in trie.paths():
        done = done[: path.keep]
        for token, node in zip(path.tokens, path.nodes, strict=True):
            done += (token,)
            trie.score(node, row_after(done))


@pytest.mark.parametrize(
    ("labels", "with_end"),
    [
        (((2,), (3,), (4,)), False),
        (((2, 3), (2, 4), (5,)), False),
        (((2, 3), (2, 3, 4), (6, 7, 8, 9)), True),
        (tuple(itertools.product((2, 3), repeat=3)), False),
    ],
)
def test_probabilities_equal_brute_force(labels: tuple[tuple[int, ...], ...], with_end: bool) -> None:
    trie = LabelTrie(labels, END)
    run(trie)
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
    whole = trie.whole_paths(trie.paths())
    assert [path.tokens for path in whole] == [(2, 3), (2, 6)]
    assert all(path.keep == 0 for path in whole)


def test_whole_paths_reach_the_same_nodes() -> None:
    labels = tuple(itertools.product((2, 3, 4), repeat=3))
    trie = LabelTrie(labels, END)
    nodes = {node for path in trie.paths() for node in path.nodes}
    assert nodes == {node for path in trie.whole_paths(trie.paths()) for node in path.nodes}


def test_paths_are_found_once_a_request_and_whole_ones_only_where_they_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = tuple(itertools.product((2, 3, 4), repeat=4))
    trie = LabelTrie(labels, END)
    found = trie.paths()
    memory = Memory(cast(Any, None), 1, n_cells=256, kept=0, kept_cells=0, forks=40, unified=True)
    calls: list[str] = []

    def counted(name: str) -> Any:
        real = getattr(trie, name)
        return lambda *given: calls.append(name) or real(*given)

    for name in ("paths", "whole_paths"):
        monkeypatch.setattr(trie, name, counted(name))
    wide, narrow = Scoring((), trie, list(found)), Scoring((), trie, list(found))
    for _ in range(3):
        assert PathRunner(memory, 27 * 3).rows_wanted(wide) == 27 * 3
        assert PathRunner(memory, 27 * 3 - 1).rows_wanted(narrow) == 3
    assert calls == ["whole_paths"]


@pytest.mark.parametrize("labels", [((2,), (2,)), ((), (2,))])
def test_labels_without_tokens_or_alike_are_refused(labels: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        LabelTrie(labels, END)
