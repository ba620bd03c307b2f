"""Schemas that lie, loop or reach out: each is one job's error, never an exception, a hang or a request."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from workers.engine.automaton import Automaton, State
from workers.engine.errors import EngineError
from workers.engine.grammar import check_grammar
from workers.engine.schema import compile_schema


def read(automaton: Automaton, text: str) -> State:
    state: State | None = automaton.start
    for character in text:
        assert state is not None
        state = automaton.step(state, automaton.alphabet.class_of(ord(character)))
    assert state is not None
    return state


def refused(schema: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        compile_schema(schema)
    assert caught.value.code == "schema_invalid"
    assert caught.value.field == "output.schema"
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    "schema",
    [
        {"const": {"a": 1}, "properties": {"a": {"$ref": "http://127.0.0.1:9/leak"}}},
        {"enum": [{"a": 1}], "properties": {"a": {"allOf": [{"$ref": "http://127.0.0.1:9/leak"}]}}},
        {"$defs": {"unused": {"$ref": "http://127.0.0.1:9/leak"}}, "type": "null"},
        {"$id": "http://127.0.0.1:9/", "const": [1], "items": {"$ref": "leak"}},
        {"const": [1], "items": {"$id": "http://127.0.0.1:9/", "$ref": "#/leak"}},
        {"$schema": "http://127.0.0.1:9/leak", "type": "null"},
        {"const": 1, "$dynamicRef": "http://127.0.0.1:9/leak"},
        {"const": [1], "items": {"$dynamicRef": "http://127.0.0.1:9/leak"}},
    ],
)
def test_no_schema_makes_the_engine_fetch_anything(schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[Any] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **_: fetched.append(args))
    refused(schema)
    assert not fetched


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["a" * 34 + "b"], "pattern": "^(a+)+$"},
        {"const": {"x": "a" * 34 + "b"}, "properties": {"x": {"pattern": "^(a+)+$"}}},
        {"const": {"a" * 34 + "b": 1}, "propertyNames": {"pattern": "^(a+)+$"}},
        {"const": [{"a" * 34 + "b": 1}], "items": {"patternProperties": {"^(a+)+$": {}}}},
        {
            "const": [{"a" * 34 + "b": 1}],
            "items": {"additionalProperties": False, "patternProperties": {"^(a+)+$": {}}},
        },
        {
            "const": [{"a" * 34 + "b": 1}],
            "items": {"unevaluatedProperties": False, "patternProperties": {"^(a+)+$": {}}},
        },
    ],
)
def test_no_pattern_is_tried_on_fixed_values(schema: Any) -> None:
    assert "beside enum or const" in refused(schema).message or "propertyNames" in refused(schema).message


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": [], "type": "null"},
        {"$schema": "http://[bad", "type": "null"},
        {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True},
        {"$schema": "http://json-schema.org/draft-03/schema#", "properties": {"a": {"required": True}}},
        {"properties": {"a": {"$schema": "http://json-schema.org/draft-03/schema#", "required": True}}},
        {"$ref": "#/x", "x": {"type": 5}},
        {"$ref": "#/default", "default": 5},
        {"$ref": "#/x", "x": {"type": "object", "properties": [1]}},
        {"$ref": "#/x", "x": {"$ref": "#/y"}, "y": {"items": 3}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$ref": "#/$defs/a",
            "$defs": {"a": {"type": 5}},
        },
        {"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": 5},
        {"$ref": "#leaf", "$defs": {"a": {"$anchor": "leaf", "type": "null"}}},
        {"$ref": "#/allOf/-1", "allOf": [{"type": "null"}]},
        {"enum": ["\ud800"]},
        {"type": "object", "properties": {"\udfff": {"type": "null"}}},
        {"type": "string", "pattern": "^a{" + "9" * 5000 + "}$"},
        {"type": "string", "pattern": "^a{²}$"},
        {"type": "integer", "maximum": 10**4000},
        {"const": float("nan")},
        {"type": "array", "minItems": float("inf")},
        {"anyOf": [{"type": "string"}] * 20_000},
    ],
    ids=range(21),
)
def test_a_faulty_schema_is_an_error_of_its_job(schema: Any) -> None:
    refused(schema)


def test_a_number_of_too_many_digits_is_an_error_of_its_job() -> None:
    refused({"const": 10**5000})


def test_values_are_checked_against_references_beside_them() -> None:
    schema = {
        "enum": [{"a": 1}, {"a": "x"}],
        "properties": {"a": {"$ref": "#/$defs/number"}},
        "$defs": {"number": {"type": "integer"}},
    }
    grammar = compile_schema(schema)
    assert r"{\"a\":1}" in grammar
    assert "x" not in grammar.split("root ::=")[1].split("\n")[0]


def test_true_is_not_one() -> None:
    assert "none of its values" in refused({"const": True, "enum": [1]}).message


def test_alternatives_that_multiply_are_refused() -> None:
    schema: dict[str, Any] = {"$ref": "#/$defs/d0", "$defs": {"d24": {"maxLength": 3}}}
    for at in range(24):
        both = [{"$ref": f"#/$defs/d{at + 1}"}, {"$ref": f"#/$defs/d{at + 1}"}]
        schema["$defs"][f"d{at}"] = {"anyOf": both, "type": "string"}
    assert "multiply" in refused(schema).message


def test_references_that_multiply_are_read_once() -> None:
    schema: dict[str, Any] = {"$ref": "#/$defs/d0", "$defs": {"d40": {"type": "null"}}}
    for at in range(40):
        schema["$defs"][f"d{at}"] = {"anyOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2}
    automaton = Automaton(check_grammar(compile_schema(schema)))
    assert read(automaton, "null").may_end
    assert automaton.weight < 2000


@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize("bound", [{"maximum": 1e300}, {"minimum": -(10**16)}, {"exclusiveMinimum": 10**400}])
def test_a_bound_of_too_many_digits_is_named(kind: str, bound: dict[str, Any]) -> None:
    message = refused({"type": kind} | bound).message
    assert f"the bound {next(iter(bound))} is too large" in message


def test_counts_may_be_written_with_a_point() -> None:
    array = {"type": "array", "minItems": 2.0, "maxItems": 3.0, "items": {"type": "null"}}
    assert compile_schema(array) == compile_schema(array | {"minItems": 2, "maxItems": 3})
    text = {"type": "string", "minLength": 1.0, "maxLength": 2.0}
    assert compile_schema(text) == compile_schema(text | {"minLength": 1, "maxLength": 2})
    compile_schema({"type": "object", "required": ["a"], "minProperties": 1.0, "maxProperties": 1.0})
    compile_schema({"type": "array", "prefixItems": [True], "minItems": 1.0, "maxItems": 9.0})


def test_references_are_read_as_addresses() -> None:
    schema = {"$ref": "#/$defs/a%20b~1c", "$defs": {"a b/c": {"type": "null"}}}
    assert read(Automaton(check_grammar(compile_schema(schema))), "null").may_end


def test_alternatives_of_many_values_are_compared_as_sets() -> None:
    parts = [{"enum": [[at, number] for number in range(200)]} for at in range(50)]
    assert "overlap" in refused({"oneOf": [*parts, {"const": [49, 199.0]}]}).message
    assert "overlap" in refused({"oneOf": [{"const": {"a": [1]}}, {"enum": [{"a": [1]}]}]}).message
    assert "more than" in refused({"oneOf": [{"const": at} for at in range(101)]}).message
    assert "more than" in refused({"allOf": [{"properties": {f"p{at}": {}}} for at in range(2000)]}).message
    compile_schema({"oneOf": [{"const": {"a": [1]}}, {"enum": [{"a": [2]}, [1]]}]})
