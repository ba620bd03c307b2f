"""The verdict of a soak: each check fails for its own reason."""

import base64
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.shapes import STARTER
from benchmarks.soak import N_CTX, Check, Subject, Tally, body_of, same, verdict, wrong_answers
from benchmarks.traffic import TEXT_KINDS, traffic

DRAINED = {"cells_used": 94, "kept_cells": 94, "free_slots": 16, "running": 0, "waiting": 0}


def judged(**changes: Any) -> dict[str, bool]:
    """Which checks hold when all is well but for the changes."""
    given: dict[str, Any] = {
        "before": 90_000_000, "after": 91_000_000, "end": DRAINED, "slots": 16,
        "tally": Tally(Counter({("short", "done"): 3})), "house": True, "differing": 0, "wrong": [],
        "growth": 8.0,
    }  # fmt: skip
    return {check.name: check.passed for check in verdict(**given | changes)}


def test_all_is_well() -> None:
    assert all(judged().values())


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("resident memory", {"after": 99_000_000}),
        ("cells", {"end": DRAINED | {"cells_used": 95}}),
        ("slots", {"end": DRAINED | {"free_slots": 15}}),
        ("nobody left behind", {"end": DRAINED | {"waiting": 1}}),
        ("full house", {"house": False}),
        ("outcomes", {"tally": Tally(unexpected=["short: decode_failed"])}),
        ("answers", {"wrong": ["short s1-1"]}),
    ],
)
def test_each_check_fails_alone(check: str, changes: dict[str, Any]) -> None:
    assert {name for name, passed in judged(**changes).items() if not passed} == {check}


def test_probabilities_that_are_near_are_the_same_answer() -> None:
    one: dict[str, Any] = {"text": "a", "choice_probabilities": {"a": 0.51, "b": 0.49}}
    assert same(one, {"text": "b", "choice_probabilities": {"a": 0.49, "b": 0.51}})
    assert not same(one, {"text": "a", "choice_probabilities": {"a": 0.9, "b": 0.1}})
    assert not same({"text": "a"}, {"text": "b"})


def test_vectors_of_nearly_one_direction_are_the_same_answer() -> None:
    one, near, other = (
        {"embedding": base64.b64encode(np.array(vector, "<f4").tobytes()).decode()}
        for vector in ([1.0, 0.0], [0.99999, 0.004], [0.8, 0.6])
    )
    assert same(one, near)
    assert not same(one, other)


def test_an_embedder_has_no_cells_to_leak() -> None:
    assert set(judged(end={"running": 0, "waiting": 0})) == {
        "resident memory", "nobody left behind", "outcomes", "answers"
    }  # fmt: skip


def test_a_wrong_answer_is_found_by_asking_again() -> None:
    piece = next(piece for piece in traffic(TEXT_KINDS, 256, seed=1) if piece.kind == "short")
    piece = replace(piece, request=piece.request | {"sampling": {"temperature": 0.0, "max_tokens": 16}})
    subject = Subject("text", STARTER, N_CTX, TEXT_KINDS, 1.0, {})
    differing, wrong = wrong_answers(subject, [(piece, {"text": "nothing like it"})], 1, 0.1)
    assert differing == 1 and len(wrong) == 1


def test_the_table_shows_outcomes_and_faults() -> None:
    tally = Tally(Counter({("short", "done"): 3, ("short", "cancelled"): 1}), unexpected=["short s1-4: lost"])
    body = body_of([Check("cells", False, "3 in use")], tally, ["choices s1-9"])
    assert "1 cancelled, 3 done" in body and "FAILS" in body
    assert body.splitlines()[-2:] == ["short s1-4: lost", "choices s1-9"]
