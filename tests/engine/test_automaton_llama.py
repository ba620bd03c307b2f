"""The automaton allows what llama.cpp's own grammar sampler allows, over random grammars, schemas and texts.

Stated differences: text stays valid UTF-8, tokens that write nothing are not allowed, and a part of a
character is allowed exactly where one of its completions is (llama.cpp refuses it after a negated class that
excludes any of them).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from llama_cpp import llama_cpp as c

from benchmarks.llama_grammar import LlamaGrammar
from workers.engine.constraint import Constraint, Grammars
from workers.engine.errors import EngineError
from workers.engine.grammar import check_grammar
from workers.engine.llama.log import Log
from workers.engine.llama.model import Model
from workers.engine.llama.vocabulary import Vocabulary
from workers.engine.model import EngineModel
from workers.engine.schema import compile_schema
from workers.engine.utf8 import split_text

SCHEMAS: list[Any] = [
    {"type": "object", "properties": {"a": {"enum": ["x", "xy", 1]}, "b": {"type": "number"}}},
    {"type": "array", "items": {"type": ["string", "null"], "maxLength": 3}, "minItems": 1, "maxItems": 3},
    {"type": "integer", "minimum": -12, "maximum": 345},
    {"type": "string", "pattern": "^([A-Z]{1,3}\\d*|缺陷?)+$"},
    {"anyOf": [{"type": "string", "format": "date"}, {"const": "2024"}, {"type": "boolean"}]},
    {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}},
    True,
]
MANY_READINGS = [
    'root ::= ("a" | "aa"){3,} "b"',
    'root ::= ("a" | "ab" | "ba"){2,4} "b"{2,}',
    'root ::= ("a"{1,2}){3,5} "p"',
    'root ::= ("a"? "b"?){2,3} "t"',
    'root ::= one{2,} two | two{2} "h"\none ::= "a" | "a" "a"?\ntwo ::= one | "b" two "a"',
    'root ::= "a" root "b" | "a" root "c" | "aa" root | "t"',
    'root ::= ((("a" | "b"){2} | "a"){1,3} "h"?){2,}',
]


@pytest.fixture(scope="module")
def model(f32_model: Any) -> Iterator[Model]:
    loaded = Model(EngineModel("tiny", str(f32_model)), use_extra_bufts=False, log=Log(False))
    yield loaded
    loaded.close()


class RandomGrammar:
    """A text of random rules over few characters, so that walks often meet several readings."""

    CHARACTERS = ("a", "b", "t", "h", "e", "p", "é", "缺", "\\n", "\\x61", "\\u00e9", "\\\\", '\\"')
    CLASSES = ("[ab]", "[^a]", "[a-p]", "[^a-pé]", "[é-龥]", ".", "[\\]\\-x]", "[^\\n缺]")

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        names = ["root", "one", "two-2"]
        self.text = "".join(f"{name} ::= {self._alternatives(3, names)}\n" for name in names)

    def _alternatives(self, depth: int, names: list[str]) -> str:
        parts = [self._sequence(depth, names) for _ in range(self._random.randint(1, 3))]
        return " | ".join(parts)

    def _sequence(self, depth: int, names: list[str]) -> str:
        parts = [self._item(depth, names) for _ in range(self._random.randint(1, 3))]
        return " ".join(parts)

    def _item(self, depth: int, names: list[str]) -> str:
        kind = self._random.randrange(6 if depth else 4)
        if kind < 2:
            count = self._random.randint(1, 3)
            item = '"' + "".join(self._random.choice(self.CHARACTERS) for _ in range(count)) + '"'
        elif kind < 4:
            item = self._random.choice(self.CLASSES)
        elif kind == 4:
            item = self._random.choice(names)
        else:
            item = f"({self._alternatives(depth - 1, names)})"
        signs = ["", "", "", "?", "*", "+", "{2}", "{0,3}", "{1,2}", "{2,}"]
        return item + self._random.choice(signs)


def sound_grammars(count: int) -> list[str]:
    found: list[str] = []
    seed = 0
    while len(found) < count:
        seed += 1
        text = RandomGrammar(seed).text
        try:
            check_grammar(text)
        except EngineError as error:
            assert "left recursion" in error.message
        else:
            found.append(text)
    return found


def compare(model: Model, constraint: Constraint, grammar: str, seed: int, length: int) -> int:
    """Walk both by the same random tokens; returns how many were taken."""
    vocabulary = c.llama_model_get_vocab(model.pointer)
    with closing(LlamaGrammar(vocabulary, model.vocabulary.size, grammar)) as peer:
        return walk(model.vocabulary, constraint, peer, grammar, random.Random(seed), length)


def walk(
    words: Vocabulary,
    constraint: Constraint,
    peer: LlamaGrammar,
    grammar: str,
    choose: random.Random,
    length: int,
) -> int:
    text = b""
    for step in range(length):
        ours, theirs = constraint.mask(), peer.mask()
        for token, piece in enumerate(words.pieces):
            where = (grammar, text, piece)
            assert constraint.allows(token) == ours[token], where
            if token in words.end_tokens:
                # inside a character the peer would end the text
                if split_text(text) == (text.decode("utf-8", "ignore"), b""):
                    assert ours[token] == theirs[token], where
                continue
            split = split_text(text + piece)
            if split is None or not piece:
                assert not ours[token], where
            elif not split[1]:
                assert ours[token] == theirs[token], where
            elif theirs[token]:
                assert ours[token] or piece[-1:] in (b"\xf4", b"\xed", b"\xe0", b"\xf0"), where
        open_tokens = [token for token in np.flatnonzero(ours).tolist() if token not in words.end_tokens]
        # a part of a character is worth following, but not all the time
        whole = [token for token in open_tokens if words.pieces[token].isascii()]
        if whole and choose.random() < 0.7:
            open_tokens = whole
        open_tokens = [token for token in open_tokens if theirs[token]]
        if not open_tokens:
            return step
        token = choose.choice(open_tokens)
        constraint.accept(token)
        peer.accept(token)
        text += words.pieces[token]
    return length


def test_random_grammars_allow_the_same_tokens(model: Model) -> None:
    grammars = Grammars(model.vocabulary)
    taken = 0
    for at, text in enumerate(sound_grammars(120)):
        taken += compare(model, grammars.begin(text), text, at, 8)
    assert taken > 400


@pytest.mark.parametrize("grammar", MANY_READINGS)
def test_texts_of_many_readings_allow_the_same_tokens(model: Model, grammar: str) -> None:
    grammars = Grammars(model.vocabulary)
    assert sum(compare(model, grammars.begin(grammar), grammar, seed, 9) for seed in range(8)) > 16


@pytest.mark.parametrize("at", range(len(SCHEMAS)))
def test_schemas_allow_the_same_tokens(model: Model, at: int) -> None:
    grammars = Grammars(model.vocabulary)
    grammar = compile_schema(SCHEMAS[at])
    taken = sum(compare(model, grammars.begin(grammar), grammar, seed, 25) for seed in range(6))
    assert taken > 5
