"""Tokens over an automaton: parts of characters, masks, and what is remembered of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workers.engine import automaton as automaton_module
from workers.engine.constraint import Constraint, Grammars

CHARACTER = "缺".encode()


class Bytes:
    """A vocabulary of given pieces after an end token, for texts that are fed piece by piece."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [b"", *pieces]
        self.end_tokens = frozenset({0})

    def tokenise(self, text: str) -> np.ndarray:
        return np.array([self.pieces.index(bytes([byte])) for byte in text.encode()], np.int32)


def allowed(constraint: Constraint, words: Bytes) -> list[bytes]:
    mask = constraint.mask()
    every = range(len(words.pieces))
    assert [constraint.allows(token) for token in every] == mask.tolist()
    return [words.pieces[token] for token in every if mask[token]]


def test_only_what_finishes_the_character_may_follow_its_part() -> None:
    pieces = (b"a", CHARACTER[:1], CHARACTER[1:2], CHARACTER[2:], CHARACTER, b"\xff", CHARACTER[1:] + b"x")
    words = Bytes(*pieces, b"b" + CHARACTER[:2], b"")
    constraint = Grammars(words).begin("root ::= .*")
    assert allowed(constraint, words) == [b"", b"a", CHARACTER[:1], CHARACTER, b"b" + CHARACTER[:2]]
    constraint.accept(2)
    assert allowed(constraint, words) == [CHARACTER[1:2], CHARACTER[2:], CHARACTER[1:] + b"x"]
    assert not constraint.may_end
    constraint.accept(3)
    assert allowed(constraint, words) == [CHARACTER[1:2], CHARACTER[2:]]
    constraint.accept(4)
    assert constraint.may_end
    assert b"a" in allowed(constraint, words)


@pytest.mark.parametrize(
    ("grammar", "parts"),
    [
        ("root ::= [é]", [b"\xc3"]),
        ("root ::= [^é]", [b"\xc3", b"\xc4", b"\xe7", b"\xf0"]),
        ("root ::= [一-龥]", [b"\xe7"]),
        ("root ::= [😀]", [b"\xf0"]),
        ("root ::= [a-z]", []),
        ("root ::= [\\u0000-\\u00FF]", [b"\xc3"]),
    ],
)
def test_a_part_is_allowed_where_one_of_its_characters_is(grammar: str, parts: list[bytes]) -> None:
    words = Bytes(b"\xc3", b"\xc4", b"\xe7", b"\xf0", b"\xf5", b"\x80", b"\0")
    assert allowed(Grammars(words).begin(grammar), words) == parts


def test_a_token_that_writes_nothing_may_only_end_the_text() -> None:
    words = Bytes(b"a", b"")
    constraint = Grammars(words).begin('root ::= "a"')
    assert constraint.mask().tolist() == [False, True, False]
    constraint.accept(1)
    assert constraint.mask().tolist() == [True, False, False]
    assert constraint.complete


def test_memory_is_bounded_and_what_is_forgotten_is_found_again(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = 'root ::= ("[" root "]" | [a-z]{1,30} | "(" root ")")+'
    text = b"[(abc[x]def)(y)[[z]]](hello[w])" * 20
    words = load_tiny().vocabulary
    tokens = [words.pieces.index(bytes([byte])) for byte in text]
    wide = Grammars(words).begin(grammar)
    monkeypatch.setattr(automaton_module, "_MOST_WEIGHT", 500)
    grammars = Grammars(words)
    narrow, late = grammars.begin(grammar), grammars.begin(grammar)
    walk = grammars.compile(grammar)
    forgot = 0
    for at, token in enumerate(tokens):
        before = walk.automaton.weight
        assert narrow.mask().tolist() == wide.mask().tolist()
        narrow.accept(token)
        wide.accept(token)
        if at % 3 == 0:
            # one that stands in states made before they were forgotten
            late.accept(tokens[at // 3])
        forgot += walk.automaton.weight < before
        assert walk.automaton.weight < 2000
    assert forgot > 3
    assert narrow.may_end


def test_what_is_forgotten_is_not_held_by_the_beginning(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = load_tiny().vocabulary
    monkeypatch.setattr(automaton_module, "_MOST_WEIGHT", 500)
    grammars = Grammars(words)
    grammar = 'root ::= [a-z]{1,30} | "(" root ")" | "[" root "]"'
    for at in range(2000):
        constraint = grammars.begin(grammar)
        for byte in format(at, "b").replace("0", "(").replace("1", "[").encode() + b"abc" * (at % 9 + 1):
            constraint.accept(words.pieces.index(bytes([byte])))
    found = {grammars.compile(grammar).automaton.start}
    todo = list(found)
    while todo:
        for state in todo.pop().steps.values():
            if state is not None and state not in found:
                found.add(state)
                todo.append(state)
    assert len(found) < 100
