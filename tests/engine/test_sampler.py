"""Drawing tokens: against a plain reference written the slow way."""

from __future__ import annotations

import numpy as np
import pytest

from workers.engine.request import Sampling
from workers.engine.sampler import Sampler, log_sum_exp, top_tokens

PROMPT = np.array([1, 2, 3], np.int32)


def row_of(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32) * 4


@pytest.mark.parametrize("size", [3, 100, 1024, 32_000, 50_001])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_top_tokens_equal_a_full_sort(size: int, k: int) -> None:
    row = row_of(size)
    expected = np.argsort(-row, kind="stable")[:k]
    assert top_tokens(row, k).tolist() == expected.tolist()


def test_ties_go_to_the_lower_token() -> None:
    row = np.zeros(5000, np.float32)
    row[[4000, 17, 900]] = 1.0
    assert top_tokens(row, 3).tolist() == [17, 900, 4000]


@pytest.mark.parametrize("size", [64, 40_000])
def test_log_sum_exp(size: int) -> None:
    rows = np.stack([row_of(size, 1), row_of(size, 2) + 500])
    expected = np.log(np.exp(rows.astype(np.float64) - 500).sum(axis=1)) + 500
    assert np.allclose(log_sum_exp(rows), expected, rtol=1e-6)


def reference(row: np.ndarray, sampling: Sampling) -> dict[int, float]:
    """The filters of llama.cpp, one after the other, over a full sort."""
    order = np.argsort(-row, kind="stable")
    logits = row[order].astype(np.float64)
    if sampling.top_k:
        order, logits = order[: sampling.top_k], logits[: sampling.top_k]
    probabilities = np.exp(logits - logits[0])
    probabilities /= probabilities.sum()
    if sampling.top_p < 1:
        keep = int(np.argmax(np.cumsum(probabilities) >= sampling.top_p)) + 1
        order, logits = order[:keep], logits[:keep]
    if sampling.min_p > 0:
        keep = logits - logits[0] >= np.log(sampling.min_p)
        order, logits = order[keep], logits[keep]
    weights = np.exp((logits - logits[0]) / sampling.temperature)
    return dict(zip(order.tolist(), (weights / weights.sum()).tolist(), strict=True))


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7, top_k=5, top_p=1.0, min_p=0.0),
        Sampling(temperature=1.3, top_k=0, top_p=0.8, min_p=0.0),
        Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.1),
        Sampling(temperature=0.9, top_k=40, top_p=0.9, min_p=0.05),
    ],
)
def test_draws_follow_the_filtered_distribution(sampling: Sampling) -> None:
    row = row_of(300, 3)
    expected = reference(row, sampling)
    sampler = Sampler(sampling, 11, PROMPT)
    counts: dict[int, int] = {}
    for _ in range(4000):
        token = sampler.draw(row)
        counts[token] = counts.get(token, 0) + 1
    assert set(counts) <= set(expected)
    for token, probability in expected.items():
        assert abs(counts.get(token, 0) / 4000 - probability) < 0.04


def test_a_seed_repeats_itself_and_another_one_does_not() -> None:
    sampling = Sampling(temperature=1.0)
    rows = [row_of(500, seed) for seed in range(30)]

    def text(seed: int) -> list[int]:
        sampler = Sampler(sampling, seed, PROMPT)
        return [sampler.draw(row) for row in rows]

    assert text(5) == text(5)
    assert text(5) != text(6)


def test_greedy_takes_the_maximum() -> None:
    row = row_of(1000)
    assert Sampler(Sampling(temperature=0.0), 0, PROMPT).draw(row) == int(row.argmax())


@pytest.mark.parametrize("temperature", [1e-3, 1e-5, 1e-9, 1e-300, 5e-324])
def test_the_colder_the_more_likely_the_maximum(temperature: float) -> None:
    row = row_of(1000)
    sampling = Sampling(temperature=temperature, top_k=0, top_p=1.0, min_p=0.0)
    assert {Sampler(sampling, seed, PROMPT).draw(row) for seed in range(20)} == {int(row.argmax())}


def test_penalties_change_only_seen_tokens() -> None:
    sampling = Sampling(temperature=0.0, repeat_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25)
    sampler = Sampler(sampling, 0, np.array([1, 1, 2], np.int32))
    row = np.array([1.0, 4.0, -3.0, 2.0], np.float32)
    assert sampler.penalise(row).tolist() == [1.0, 4.0 / 2 - 0.5 - 0.5, -6.0 - 0.25 - 0.5, 2.0]
    assert row.tolist() == [1.0, 4.0, -3.0, 2.0]
    sampler.accept(3)
    assert sampler.penalise(row)[3] == 2.0 / 2 - 0.75


def test_an_image_s_placeholders_are_no_tokens() -> None:
    prompt = np.concatenate([[1], np.full(100, -7)]).astype(np.int32)
    sampler = Sampler(Sampling(temperature=0.0, repeat_penalty=2.0), 0, prompt)
    assert sampler.penalise(np.full(9, 4.0, np.float32)).tolist() == [4.0, 2.0] + [4.0] * 7


def test_penalties_forget_after_sixty_four_tokens() -> None:
    sampler = Sampler(Sampling(temperature=0.0, repeat_penalty=2.0), 0, np.array([3], np.int32))
    row = np.array([1.0, 1.0, 1.0, 1.0], np.float32)
    assert sampler.penalise(row)[3] == 0.5
    for _ in range(64):
        sampler.accept(0)
    assert sampler.penalise(row)[3] == 1.0


def test_refused_tokens_are_never_drawn() -> None:
    row = np.full(200, -np.inf, np.float32)
    row[150] = -50.0
    for sampling in (
        Sampling(temperature=0.0),
        Sampling(temperature=2.0, top_k=0),
        Sampling(temperature=2.0),
    ):
        assert Sampler(sampling, 1, PROMPT).draw(row) == 150


def test_typical_keeps_the_expected_surprise() -> None:
    row = np.log(np.array([0.5, 0.2, 0.2, 0.1], np.float32))
    sampler = Sampler(Sampling(temperature=1.0, typical_p=0.3, top_p=1.0, min_p=0.0, top_k=0), 2, PROMPT)
    # the entropy is 1.22 nats; the two tokens of 0.2 (1.61) and the one of 0.5 (0.69) lie nearest to it
    assert 3 not in {sampler.draw(row) for _ in range(200)}
