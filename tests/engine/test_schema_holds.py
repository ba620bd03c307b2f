"""What the grammar of a schema lets through is what the schema says; what slips through fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from workers.engine.document import read_document
from workers.engine.errors import EngineError
from workers.engine.pattern import pattern_to_gbnf
from workers.engine.schema import compile_schema
from workers.engine.schema_leaves import PRIMITIVES

CLOSED = {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False}
OPEN = {"type": "object", "properties": {"b": {"type": "null"}}}


@pytest.fixture(scope="module")
def runtime(f32_model: Any, notebook: Any) -> Any:
    from workers.engine.loader import load
    from workers.engine.model import EngineModel

    loaded = load(EngineModel("tiny", str(f32_model), n_ctx=64, n_slots=1, n_threads=1), notebook=notebook)
    yield loaded
    loaded.close()


def accepts(runtime: Any, grammar: str, text: str) -> bool:
    state = runtime.grammars.begin(grammar)
    by_piece = {piece: token for token, piece in reversed(list(enumerate(runtime.vocabulary.pieces)))}
    for byte in text.encode():
        if not state.allows(by_piece[bytes([byte])]):
            return False
        state.accept(by_piece[bytes([byte])])
    return bool(state.allows(next(iter(runtime.vocabulary.end_tokens))))


@pytest.mark.parametrize(
    "pattern",
    [
        "^[ -~]$",
        '^["]$',
        r"^[\\]$",
        "^[!-#]$",
        r"^[\[-\]]$",
        r"^[\d-]$",
        r"^[\w^]$",
        "^[ -\uffff]$",
        "^.$",
    ],
)
def test_classes_match_the_same_characters_written_in_json(runtime: Any, pattern: str) -> None:
    grammar = f'root ::= "\\"" {pattern_to_gbnf(pattern)} "\\""\ndot ::= {PRIMITIVES["dot"]}\n'
    for character in [*map(chr, range(0x20, 0x7F)), "é", "缺"]:
        fits = re.search(pattern, character, re.ASCII) is not None
        assert accepts(runtime, grammar, json.dumps(character, ensure_ascii=False)) == fits, character
    for bare in ('"""', '"\\"', '"\n"', '"\\n"'):
        assert not accepts(runtime, grammar, bare), bare


@pytest.mark.parametrize("pattern", [r"^[\d-z]$", r"^[a-\d]$", "^[z-a]$", "^[\x01-z]$", "^[]$", "^[^a]$"])
def test_classes_without_one_meaning_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"the pattern (has|uses)"):
        pattern_to_gbnf(pattern)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"allOf": [CLOSED, OPEN]}, "additionalProperties"),
        ({"allOf": [OPEN, CLOSED]}, "additionalProperties"),
        ({"anyOf": [OPEN, {"type": "null"}]} | CLOSED, "additionalProperties"),
        ({"anyOf": [CLOSED], "properties": {"b": {"type": "null"}}}, "additionalProperties"),
        ({"$ref": "#/$defs/a", "properties": {"b": {}}, "$defs": {"a": CLOSED}}, "additionalProperties"),
        (
            {"allOf": [{"additionalProperties": {"type": "null"}}, OPEN | {"title": "x"}]},
            "additionalProperties",
        ),
        ({"allOf": [{"prefixItems": [{"type": "null"}]}, {"items": {"type": "integer"}}]}, "items"),
        ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"type": "array", "unevaluatedItems": False}, "unevaluatedItems"),
        ({"type": "string", "format": "date", "maxLength": 3}, "format"),
        ({"type": "string", "format": "date", "pattern": "^a$"}, "format"),
    ],
)
def test_parts_that_would_loosen_each_other_are_refused(schema: Any, why: str) -> None:
    with pytest.raises(EngineError, match=why) as caught:
        compile_schema(schema)
    assert caught.value.code == "schema_invalid"


def test_what_stands_beside_a_reference_holds(runtime: Any) -> None:
    schema = {"allOf": [{"$ref": "#/$defs/s", "maxLength": 2}], "$defs": {"s": {"type": "string"}}}
    grammar = compile_schema(schema)
    assert accepts(runtime, grammar, '"ab"')
    assert not accepts(runtime, grammar, '"abc"')


def test_parts_that_name_the_same_properties_may_be_closed() -> None:
    compile_schema({"allOf": [CLOSED, {"required": ["a"]}, {"properties": {"a": {"type": "null"}}}]})


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ('{"a": 1', {}),
        ("3", {"type": "string"}),
        ('{"a": null, "b": null}', CLOSED),
        ("[[3]]", {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}),
        (
            "4",
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "oneOf": [{"type": "number"}, {"minimum": 3}],
            },
        ),
        ("[" * 100_000, {}),
        ('{"a": "half a pair \\ud800"}', {}),
        ("[1e999]", {}),
    ],
    ids=range(8),
)
def test_a_document_that_violates_its_schema_fails_by_name(text: str, schema: Any) -> None:
    with pytest.raises(EngineError, match="does not fit") as caught:
        read_document(text, schema)
    assert caught.value.code == "schema_invalid"
    assert caught.value.remedy


def test_a_deep_document_over_many_alternatives_is_read_in_little_time() -> None:
    node = {"type": "object", "required": ["left", "op"]}
    both = [
        node | {"properties": {"left": {"$ref": "#/$defs/n"}, "op": {"const": sign}}} for sign in ("+", "-")
    ]
    schema = {"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [*both, {"type": "null"}]}}}
    text = "null"
    for _ in range(40):
        text = f'{{"left": {text}, "op": "-"}}'
    assert read_document(text, schema)["op"] == "-"


def test_patterns_are_left_to_the_grammar() -> None:
    assert read_document('"' + "a" * 40 + 'b"', {"type": "string", "pattern": "^(a+)+$"})


def test_a_stop_string_that_cuts_a_document_fails_the_job(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_ctx=512)
    schema = {"type": "object", "properties": {"abc": {"type": "null"}}, "required": ["abc"]}
    yard.submit(
        "cut", prompt="x", output={"type": "json_schema", "schema": schema}, sampling={"stop": ["abc"]}
    )
    yard.submit("whole", prompt="x", output={"type": "json_schema", "schema": schema})
    done = yard.run()
    assert yard.failed["cut"]["code"] == "schema_invalid"
    assert done["whole"]["parsed"] == {"abc": None}
    jsonschema.validate(done["whole"]["parsed"], schema)
