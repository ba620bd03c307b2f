"""llama.cpp parses a grammar when its job begins to run, and what it refuses fails there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from workers.engine.engine import Engine

OUTPUTS = [
    {"type": "grammar", "grammar": "root ::= [a-z]{3}"},
    {"type": "json_schema", "schema": {"enum": ["pass", "fail"]}},
]


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def watched(yard: Any, runtime: Any, refused: str = "none") -> list[str]:
    """Have the yard run on `runtime` and note each grammar that is parsed."""
    parsed: list[str] = []

    def parse(text: str) -> Any:
        parsed.append(text)
        if refused in text:
            raise ValueError("llama.cpp refused the grammar")
        return runtime.make_grammar(text)

    yard.engine = Engine(replace(runtime, make_grammar=parse))
    return parsed


@pytest.mark.parametrize("output", OUTPUTS)
def test_those_who_wait_hold_no_parsed_grammar(
    make_yard: Callable[..., Any], load_tiny: Callable[..., Any], output: dict[str, Any]
) -> None:
    yard = make_yard()
    parsed = watched(yard, load_tiny(n_slots=1))
    for at in range(5):
        yard.submit(str(at), messages=user("x"), output=output)
    assert not parsed
    yard.step()
    assert len(parsed) == 1
    assert len(yard.run()) == len(parsed) == 5


def test_a_grammar_refused_at_the_start_fails_its_job_alone(
    make_yard: Callable[..., Any], load_tiny: Callable[..., Any]
) -> None:
    yard = make_yard()
    watched(yard, load_tiny(n_slots=1), refused="zzz")
    for name, text in (("a", "aaa"), ("bad", "zzz"), ("b", "bbb")):
        output = {"type": "grammar", "grammar": f'root ::= "{text}"'}
        yard.submit(name, messages=user("hello hello hello"), output=output)
    assert {name: one["text"] for name, one in yard.run().items()} == {"a": "aaa", "b": "bbb"}
    assert yard.failed["bad"]["code"] == "grammar_invalid"
    assert yard.started == ["a", "b"]
