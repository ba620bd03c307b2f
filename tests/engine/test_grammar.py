"""GBNF is read and checked: what is sound compiles, what is wrong is named with its line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from workers.engine.errors import EngineError
from workers.engine.grammar import check_grammar

GOOD = [
    'root ::= "yes" | "no"',
    'root ::= [a-z]+ [^0-9] [\\]\\[\\-x-]{2,3} . "\\n\\t\\"\\\\" item*\nitem ::= ("a" | \'b\')+'.replace(
        "'b'", '"b"'
    ),
    '# a comment\nroot ::= a b # another\n\na ::= "x" |\n  "y"\nb ::= (\n "1"\n | "2" )\n',
    'root ::= "\\u5408\\u683c" | "缺陷" | [一-龥]{1,4}',
    'root ::= expr\nexpr ::= term ("+" term)*\nterm ::= [0-9]+ | "(" expr ")"',
    'root ::= "a"{3} "b"{1,} "c"{0,2} ""',
    "root ::= " + "[a]{2000} " * 11,
    'root ::= "' + "x" * 50 + '"{60000}',
]

BAD = [
    ("", "no rule named root"),
    ('other ::= "a"', "no rule named root"),
    ('root = "a"', "::="),
    ('root ::= "a', "ends inside"),
    ("root ::= [a", "ends inside"),
    ("root ::= []", "empty"),
    ("root ::= [z-a]", "ends before it begins"),
    ('root ::= ("a"', "expected )"),
    ('root ::= "a")', "did not expect"),
    ('root ::= * "a"', "nothing stands before"),
    ('root ::= "a"{2,1}', "below its minimum"),
    ('root ::= "a"{99999}', "above"),
    ('root ::= "a"{x}', "a number"),
    ('root ::= "\\q"', "escape"),
    ("root ::= missing", "not defined"),
    ('root ::= root "a" | "b"', "left recursion"),
    ('root ::= a\na ::= b root "x" | "y"\nb ::= c\nc ::= ""', "left recursion"),
    ('root ::= ("a"?)*', "left recursion"),
    ("root ::= " + "(" * 100 + '"a"' + ")" * 100, "nested"),
    ('root ::= "a\0b"', "NUL"),
    ("root ::= under_score", "did not expect '_'"),
    ('root ::= "x"\n' + "".join(f'r{n} ::= "x"\n' for n in range(3000)), "more than"),
    ('root ::= "\ud800"', "surrogate"),
    ('root ::= "\\uD800"', "no character"),
    ("root ::= [a]{" + "9" * 5000 + "}", "above"),
    ("root ::= <think>", "tokens such as <name>"),
    ('root ::= "' + "x" * 600_000 + '"', "longer"),
]


@pytest.mark.parametrize("grammar", GOOD)
def test_a_sound_grammar_compiles(load_tiny: Callable[..., Any], grammar: str) -> None:
    constraint = load_tiny().grammars.begin(grammar)
    assert constraint.mask().any()


@pytest.mark.parametrize(("grammar", "why"), BAD, ids=[why for _, why in BAD])
def test_what_is_wrong_is_named(grammar: str, why: str) -> None:
    with pytest.raises(EngineError) as caught:
        check_grammar(grammar)
    assert caught.value.code == "grammar_invalid"
    assert why in caught.value.message


def test_the_line_is_named() -> None:
    with pytest.raises(EngineError, match="line 3"):
        check_grammar('root ::= a\na ::= "x"\nb ::= "y" )\n')


def test_a_refused_token_is_seen_before_it_is_accepted(load_tiny: Callable[..., Any]) -> None:
    runtime = load_tiny()
    state = runtime.grammars.begin('root ::= "ab" [0-9]')
    words = runtime.vocabulary
    a, b, seven = (int(words.tokenise(text)[0]) for text in "ab7")
    end = next(iter(words.end_tokens))
    assert state.allows(a)
    assert not state.allows(b)
    assert not state.allows(end)
    for token in (a, b, seven):
        state.accept(token)
    assert state.allows(end)
    assert not state.allows(seven)
    with pytest.raises(ValueError, match="does not allow"):
        state.accept(seven)
    assert state.mask()[words.tokenise("ab7")].tolist() == [False, False, False]


def test_emptiness_travels_through_rules_in_any_order() -> None:
    chain = [f"r{at} ::= r{at + 1} r{at + 1}\n" for at in range(1500)]
    with pytest.raises(EngineError, match="left recursion"):
        check_grammar('root ::= r0 root "x" | "y"\n' + "".join(chain) + 'r1500 ::= "a"?\n')
    check_grammar('root ::= r0 root "x" | "y"\n' + "".join(chain) + 'r1500 ::= "a"\n')
