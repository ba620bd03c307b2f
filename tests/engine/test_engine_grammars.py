"""Jobs of one grammar share it; one that is wrong fails where it comes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from workers.engine import constraint as constraint_module
from workers.engine.constraint import Grammars

OUTPUTS = [
    {"type": "grammar", "grammar": "root ::= [a-z]{3}"},
    {"type": "json_schema", "schema": {"enum": ["pass", "fail"]}},
]


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("output", OUTPUTS)
def test_jobs_of_one_grammar_share_it(make_yard: Callable[..., Any], output: dict[str, Any]) -> None:
    yard = make_yard(n_slots=2)
    grammars = yard.engine._runtime.grammars
    for at in range(6):
        sampling = {"temperature": 1.0, "seed": at}
        yard.submit(str(at), messages=user("x"), output=output, sampling=sampling)
    assert len(grammars._walks) == 1
    assert all(one._constraint is None for one in yard.engine._known.values())
    assert len(yard.run()) == 6
    assert len(grammars._walks) == 1


def test_a_wrong_grammar_fails_its_job_alone(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_slots=1)
    for name, text in (("a", '"aaa"'), ("bad", "missing"), ("b", '"bbb"')):
        output = {"type": "grammar", "grammar": f"root ::= {text}"}
        yard.submit(name, messages=user("hello hello hello"), output=output)
    assert yard.failed["bad"]["code"] == "grammar_invalid"
    assert {name: one["text"] for name, one in yard.run().items()} == {"a": "aaa", "b": "bbb"}
    assert yard.started == ["a", "b"]


def test_grammars_that_nobody_used_for_long_are_dropped(load_tiny: Callable[..., Any]) -> None:
    grammars = Grammars(load_tiny().vocabulary)
    first = grammars.compile('root ::= "0"')
    for at in range(1, 100):
        grammars.compile(f'root ::= "{at}"')
        assert grammars.compile('root ::= "0"') is first
    assert len(grammars._walks) <= 64
    assert 'root ::= "1"' not in grammars._walks
    # one that was dropped while its job waited is compiled again
    assert grammars.begin('root ::= "1"').mask().sum() == 1


def test_large_grammars_are_fewer(load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraint_module, "_MOST_WEIGHT", 1000)
    grammars = Grammars(load_tiny().vocabulary)
    for at in range(20):
        grammars.compile(f'root ::= "{at}" "{"x" * 300}"')
        assert len(grammars._walks) <= 3
    assert grammars.compile(f'root ::= "{"x" * 5000}"') in grammars._walks.values()
    assert len(grammars._walks) == 1
