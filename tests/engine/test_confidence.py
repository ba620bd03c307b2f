"""Confidence counts what was chosen freely and carries a value, and the margin is of the first such token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workers.engine.completion import Confidence
from workers.engine.confidence import Evidence, margin_of
from workers.engine.sampler import log_sum_exp

ROW = np.log(np.array([0.1, 0.4, 0.2, 0.25, 0.05], np.float32))


def test_minimum_mean_and_lower_decile() -> None:
    found = Confidence.of([0.9, 0.2, *[1.0] * 18], 0.5)
    assert found is not None
    assert (found.min, found.q10, found.first_margin) == (0.2, 0.9, 0.5)
    assert found.mean == pytest.approx((0.9 + 0.2 + 18) / 20)
    assert Confidence.of([]) is None


def test_choices_have_the_winner_and_its_lead() -> None:
    found = Confidence.of_choices([0.2, 0.7, 0.1])
    assert found is not None
    assert (found.min, found.mean, found.q10) == (0.7, 0.7, 0.7)
    assert found.first_margin == pytest.approx(0.5)
    assert Confidence.of_choices([1.0]) == Confidence(1.0, 1.0, 1.0, 1.0)
    assert Confidence.of_choices([]) is None


def test_the_margin_is_of_the_two_likeliest_tokens_that_are_allowed() -> None:
    row = ROW.copy()
    assert margin_of(row, 0.0) == pytest.approx(0.4 - 0.25)
    assert margin_of(row, 0.0, lambda token: token != 1) == pytest.approx(0.25 - 0.2)
    assert margin_of(row, 0.0, lambda token: token in (0, 4)) == pytest.approx(0.1 - 0.05)
    assert np.array_equal(row, ROW)


def test_a_margin_without_a_second_allowed_token_near_the_top_is_bounded() -> None:
    row = np.log(np.array([0.3, *np.linspace(0.1, 0.05, 10)], np.float32))
    assert margin_of(row, 0.0, lambda token: token == 0) == pytest.approx(
        0.3 - float(np.exp(np.sort(row)[-8])), abs=1e-6
    )
    assert margin_of(row, 0.0, lambda _token: False) == 0.0


def test_a_margin_is_of_probabilities_not_of_logits() -> None:
    row = ROW + np.float32(7.0)
    assert margin_of(row, float(log_sum_exp(row[None, :])[0])) == pytest.approx(0.15, abs=1e-6)


def gathered(structured: bool, tokens: list[tuple[str, float | None]]) -> Any:
    """The confidence of tokens with their probabilities; None was forced. A margin is position / 100."""
    evidence = Evidence(structured=structured)
    pieces: list[bytes] = []
    scores: list[float] = []
    for at, (piece, chance) in enumerate(tokens):
        pieces.append(piece.encode())
        scores.append(0.0 if chance is None else float(np.log(chance)))
        if chance is not None:
            evidence.choose(pieces, at / 100)
    return evidence.confidence(pieces, scores)


def test_structure_and_what_was_forced_do_not_count() -> None:
    tokens = [
        ('{"verdict":"', None), ("f", 0.8), ('ail","re', None), ('f":', 0.1), ('"U', 0.5), ("12", 0.9),
        ('"', 0.6), ("}", 0.2),
    ]  # fmt: skip
    found = gathered(True, tokens)
    assert found.min == pytest.approx(0.5)
    assert found.mean == pytest.approx(np.mean([0.8, 0.5, 0.9, 0.6]))
    assert found.first_margin == 0.01


def test_a_token_across_the_seam_counts_and_the_first_margin_waits_for_a_value() -> None:
    found = gathered(True, [("[", 0.7), ("12,", 0.4), ("3", 0.3), ("]", 0.9)])
    assert (found.min, found.first_margin) == (pytest.approx(0.3), 0.01)
    assert found.mean == pytest.approx(0.35)


def test_every_token_of_free_text_counts() -> None:
    found = gathered(False, [("{", 0.7), ("a", 0.4)])
    assert (found.min, found.first_margin) == (pytest.approx(0.4), 0.0)
    assert found.mean == pytest.approx(0.55)


def test_a_document_without_a_choice_has_no_confidence() -> None:
    assert gathered(True, [('{"a":1}', None)]) is None
    assert gathered(True, [("{", 0.5), ("}", 0.5)]) is None


SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"const": "board"},
        "verdict": {"enum": ["pass", "fail"]},
        "pin": {"type": "integer"},
    },
    "required": ["kind", "verdict", "pin"],
    "additionalProperties": False,
}


def test_the_engine_s_confidence_is_of_what_the_schema_leaves_open(yard: Any) -> None:
    sampling = {"max_tokens": 100, "logprobs": 8}
    yard.submit("a", prompt="7:", output={"type": "json_schema", "schema": SCHEMA}, sampling=sampling)
    done = yard.run()["a"]
    assert done["finish_reason"] == "stop"
    # a forced token has no alternatives; the first chosen one decides between pass and fail
    chosen = [one for one in done["logprobs"] if one["top"]]
    first = chosen[0]
    assert first["token"][0] in "pf"
    chances = [np.exp(one["logprob"]) for one in first["top"]]
    allowed = [
        chance
        for one, chance in zip(first["top"], chances, strict=True)
        if one["token"] and any(word.startswith(one["token"]) for word in ('pass"', 'fail"'))
    ]
    best, second = [*allowed, chances[-1], chances[-1]][:2]
    assert done["confidence"]["first_margin"] == pytest.approx(best - second, abs=1e-6)
    values = [np.exp(one["logprob"]) for one in chosen if one["token"] != "}"]
    assert done["confidence"]["min"] == pytest.approx(min(values))
    assert done["confidence"]["mean"] == pytest.approx(np.mean(values))


def test_the_first_margin_of_free_text_is_the_one_of_its_logprobs(yard: Any) -> None:
    yard.submit("a", prompt="hello", sampling={"max_tokens": 6, "logprobs": 2})
    done = yard.run()["a"]
    best, second = (np.exp(one["logprob"]) for one in done["logprobs"][0]["top"])
    assert done["confidence"]["first_margin"] == pytest.approx(best - second, abs=1e-5)
    chances = [np.exp(one["logprob"]) for one in done["logprobs"]]
    assert done["confidence"]["min"] == pytest.approx(min(chances))
    assert done["confidence"]["mean"] == pytest.approx(np.mean(chances))


def test_choices_are_as_sure_as_their_winner_and_its_lead(yard: Any) -> None:
    yard.submit("a", prompt="verdict:", output={"type": "choices", "choices": ["pass", "fail", "rework"]})
    done = yard.run()["a"]
    best, second, _ = sorted(done["choice_probabilities"].values(), reverse=True)
    assert done["confidence"]["min"] == done["confidence"]["mean"] == pytest.approx(best)
    assert done["confidence"]["first_margin"] == pytest.approx(best - second)
