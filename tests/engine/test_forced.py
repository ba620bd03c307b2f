"""What a grammar forces is written in the tokens that the tokeniser itself would have chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.engine.automaton import Automaton
from workers.engine.constraint import Grammars
from workers.engine.forced import forced_text
from workers.engine.grammar import check_grammar
from workers.engine.llama.log import Log
from workers.engine.llama.model import Model
from workers.engine.llama.vocabulary import Vocabulary
from workers.engine.model import EngineModel
from workers.engine.schema import compile_schema

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "defect_detect.Q4_K_M.gguf"
VERDICT = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["pass", "fail"]},
        "defect": {"enum": ["none", "bridge", "open", "wrong_part"]},
        "ref": {"type": ["string", "null"], "maxLength": 16},
        "parts": {"type": "array", "items": {"enum": ["left", "right"]}},
        "结论": {"const": {"code": [1, "x"]}},
    },
    "required": ["verdict", "defect", "ref", "parts", "结论"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def words() -> Iterator[Vocabulary]:
    model = Model(EngineModel("shipped", str(SHIPPED)), use_extra_bufts=False, log=Log(False))
    yield model.vocabulary
    model.close()


def pieces(words: Vocabulary, grammar: str, after: bytes = b"") -> list[bytes]:
    constraint = Grammars(words).begin(grammar)
    for byte in after:
        constraint.accept(words.pieces.index(bytes([byte])))
    return [words.pieces[token] for token in constraint.forced()]


@pytest.mark.parametrize("ref", ["U12", None, "缺陷", "", " x", '"', "left pad"])
@pytest.mark.parametrize("parts", [[], ["left"], ["right", "left", "left"]])
def test_a_document_comes_out_in_the_tokenisers_own_tokens(
    words: Vocabulary, ref: str | None, parts: list[str]
) -> None:
    document = {"verdict": "fail", "defect": "open", "ref": ref, "parts": parts, "结论": {"code": [1, "x"]}}
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    wanted = words.tokenise(text).tolist()
    constraint = Grammars(words).begin(compile_schema(VERDICT))
    taken: list[int] = []
    forced = 0
    while not constraint.complete:
        run = constraint.forced()
        # what is not forced a good model would have written so
        for token in run or wanted[len(taken) : len(taken) + 1]:
            constraint.accept(token)
            taken.append(token)
        forced += len(run)
        assert taken == wanted[: len(taken)]
    assert taken == wanted
    assert forced > len(wanted) / 2


@pytest.mark.parametrize(
    ("grammar", "run"),
    [
        # nothing can run over the end: all of it
        ('root ::= "{\\"ref\\":" ("null" | "1")', [b'{"', b"ref", b'":']),
        # the vocabulary has `":"`, which may be what comes
        ('root ::= "{\\"ref\\":" ("\\"" [a-z] | "null")', [b'{"', b"ref"]),
        # the text is over behind it
        ('root ::= "{\\"ref\\":"', [b'{"', b"ref", b'":']),
        # it may be over, or go on
        ('root ::= "{\\"ref\\":" "1"?', [b'{"', b"ref", b'":']),
        ('root ::= "{\\"ref\\":" "\\""?', [b'{"', b"ref"]),
        ("root ::= [ab]", []),
        ('root ::= "a" | "b"', []),
    ],
)
def test_a_token_that_could_run_into_what_is_free_is_left_to_the_model(
    words: Vocabulary, grammar: str, run: list[bytes]
) -> None:
    assert pieces(words, grammar) == run


def test_nothing_is_forced_inside_a_character(words: Vocabulary) -> None:
    grammar = 'root ::= [é-ë] "pass"'
    assert pieces(words, grammar, "é".encode()[:1]) == []
    assert pieces(words, grammar, "é".encode()) == [b"pass"]


def test_a_forced_text_is_bounded() -> None:
    automaton = Automaton(check_grammar('root ::= "x"{5000}'))
    text, states = forced_text(automaton, automaton.start)
    assert text == "x" * 1024
    assert len(states) == 1025


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ('root ::= "ab" "cd"?', "ab"),
        ('root ::= ("ab" | "ab") ("c" | "c" "d")', "abc"),
        ('root ::= [a-a] [^\\x01-`b-\\U0010FFFF] "b"', "aab"),
        ('root ::= "a" item\nitem ::= "bc" | "bd"', "ab"),
        ('root ::= "" ', ""),
    ],
)
def test_text_is_forced_as_far_as_it_has_no_alternative(grammar: str, text: str) -> None:
    automaton = Automaton(check_grammar(grammar))
    assert forced_text(automaton, automaton.start)[0] == text


def test_a_tokeniser_that_begins_every_text_with_a_space_is_seen_through(words: Vocabulary) -> None:
    class Spaced:
        """The same words behind a tokeniser such as SentencePiece's."""

        pieces: Any = words.pieces
        end_tokens = words.end_tokens

        def tokenise(self, text: str) -> Any:
            return words.tokenise(" " + text)

    constraint = Grammars(Spaced()).begin('root ::= "{\\"ref\\":" ("null" | "1")')
    assert [words.pieces[token] for token in constraint.forced()] == [b'{"', b"ref", b'":']
