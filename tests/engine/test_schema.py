"""JSON schemas: every derivable document is valid, good ones are accepted, the impossible is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from workers.engine.errors import EngineError
from workers.engine.number_range import integer_range, number_range
from workers.engine.pattern import pattern_to_gbnf
from workers.engine.schema import compile_schema

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "v": {"type": "integer"},
                "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["v"],
        }
    },
}

CASES: list[tuple[Any, list[Any], list[Any]]] = [
    ({"type": "boolean"}, [True, False], [None, 0, "true"]),
    ({"type": ["string", "null"]}, ["", '缺陷 "x"\n\\', None], [1, {}]),
    ({"enum": ["a", 1, None, {"x": [1]}]}, ["a", 1, None, {"x": [1]}], ["b", 2, True]),
    ({"const": "通过"}, ["通过"], ["x"]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "缺陷x"], ["a", "abcd"]),
    ({"type": "string", "pattern": "^[A-Z]{1,2}\\d{1,3}$"}, ["R1", "UC123"], ["r1", "R1234", "R"]),
    ({"type": "string", "pattern": "^(ok|n\\.g\\.)$"}, ["ok", "n.g."], ["nxg.", "okok"]),
    (
        {"type": "string", "format": "date"},
        ["2024-02-29", "2024-12-31"],
        ["2024-02-30", "2024-13-01", "2024-1-1"],
    ),
    ({"type": "integer"}, [0, -7, 12345], [1.5, "1"]),
    ({"type": "integer", "minimum": 0, "maximum": 100}, [0, 9, 10, 99, 100], [-1, 101, 1000]),
    ({"type": "integer", "minimum": -12, "maximum": 5}, [-12, -9, -1, 0, 5], [-13, 6, -20]),
    ({"type": "integer", "exclusiveMinimum": 7}, [8, 10, 999], [7, 0, -8]),
    ({"type": "integer", "maximum": -3}, [-3, -10, -999], [-2, 0, 3]),
    ({"type": "number", "minimum": 0, "maximum": 1}, [0, 1, 0.5, 0.001], [1.5, -0.5, 2]),
    ({"type": "number", "minimum": -2, "maximum": 10}, [-2, -1.5, -0.25, 9.75, 10], [-2.5, 10.5, -3]),
    (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        [[1], [1, 2]],
        [[], [1, 2, 3], ["a"]],
    ),
    (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        [[], [1], [1, "a"]],
        [["a"], [1, "a", 2]],
    ),
    (
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "null"}, "minItems": 2},
        [[1, None], [1, None, None]],
        [[1], [None]],
    ),
    ({"type": "array"}, [[], [1, "a", [{}]]], [{}, 1]),
    (
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "null"}},
            "required": ["b"],
        },
        [{"b": None}, {"a": 1, "b": None}],
        [{}, {"a": 1}, {"b": 1}],
    ),
    (
        {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}},
        [{}, {"a": 1}, {"b": 2}, {"c": 3}, {"a": 1, "c": 3}],
        [[]],
    ),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"x": 1, "y": 2}], [{"x": "a"}]),
    ({"type": "object"}, [{}, {"x": {"y": [None]}}], [[]]),
    ({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]}, [3, "a"], ["ab", None]),
    ({"oneOf": [{"type": "null"}, {"type": "boolean"}]}, [None, True], [1]),
    (
        {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}},
                    "required": ["kind", "x"],
                },
                {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]},
            ]
        },
        [{"kind": "a", "x": 1}, {"kind": "b"}],
        [{"kind": "c"}, {"kind": "a"}],
    ),
    (
        {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"required": ["a"]}]},
        [{"a": 1}],
        [{}],
    ),
    (TREE, [{"v": 1}, {"v": 1, "kids": [{"v": 2, "kids": []}]}], [{}, {"v": 1, "kids": [{}]}]),
    (True, [1, "a", None, [], {"a": {}}], []),
    ({"properties": {"a": {"type": "integer"}}, "required": ["a"]}, [{"a": 1}], [{"a": "x"}]),
]


def accepts(runtime: Any, grammar: str, text: str) -> bool:
    """Whether the grammar derives exactly `text`, fed byte by byte."""
    state = runtime.grammars.begin(grammar)
    by_piece = {piece: token for token, piece in reversed(list(enumerate(runtime.vocabulary.pieces)))}
    for byte in text.encode():
        token = by_piece[bytes([byte])]
        if not state.allows(token):
            return False
        state.accept(token)
    return bool(state.allows(next(iter(runtime.vocabulary.end_tokens))))


@pytest.fixture(scope="module")
def runtime(f32_model: Any, notebook: Any) -> Any:
    from workers.engine.loader import load
    from workers.engine.model import EngineModel

    loaded = load(EngineModel("tiny", str(f32_model), n_ctx=64, n_slots=1, n_threads=1), notebook=notebook)
    yield loaded
    loaded.close()


@pytest.mark.parametrize(("schema", "good", "bad"), CASES, ids=[json.dumps(case[0])[:60] for case in CASES])
def test_the_grammar_says_what_the_schema_says(
    runtime: Any, schema: Any, good: list[Any], bad: list[Any]
) -> None:
    compact, spaced = compile_schema(schema), compile_schema(schema, whitespace=True)
    for document in good:
        jsonschema.validate(document, schema)
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        assert accepts(runtime, compact, text), text
        assert accepts(runtime, spaced, text), text
        wide = json.dumps(document, ensure_ascii=False)
        # a fixed value has one spelling only
        if "enum" not in json.dumps(schema) or wide == text:
            assert accepts(runtime, spaced, wide), wide
            assert accepts(runtime, compact, wide) == (wide == text), wide
    for document in bad:
        assert not accepts(runtime, spaced, json.dumps(document, ensure_ascii=False)), document
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        assert not accepts(runtime, compact, text), document


@pytest.mark.parametrize(("schema", "good", "bad"), CASES, ids=[json.dumps(case[0])[:60] for case in CASES])
def test_whatever_random_weights_write_is_valid(
    make_yard: Callable[..., Any], schema: Any, good: list[Any], bad: list[Any]
) -> None:
    yard = make_yard(n_ctx=512, n_slots=8)
    for at in range(8):
        sampling = {
            "temperature": 1.5,
            "seed": at,
            "max_tokens": 300,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.02,
        }
        output = {"type": "json_schema", "schema": schema}
        yard.submit(str(at), prompt=f"document {at}: ", output=output, sampling=sampling)
    done = yard.run()
    assert not yard.failed
    for one in done.values():
        if one["finish_reason"] == "stop":
            jsonschema.validate(json.loads(one["text"]), schema)
            assert one["parsed"] == json.loads(one["text"])


@pytest.mark.parametrize(
    ("schema", "document", "ends"),
    [
        ({"type": "object"}, "{}", True),
        (TREE, '{"v":1,"kids":[]}', True),
        ({"enum": ["a", True, None]}, "true", True),
        ({"enum": ["a", True, None]}, '"a"', True),
        ({"type": ["array", "string"]}, "[1]", True),
        ({"type": "integer"}, "12", False),
        ({"enum": ["a", 1]}, "1", True),
        ({"enum": ["a", 1, 12]}, "1", False),
        (True, "null", True),
        ({"anyOf": [{"type": "object"}, {"type": "number"}]}, "0", False),
    ],
)
def test_a_document_is_over_where_nothing_can_follow(
    runtime: Any, schema: Any, document: str, ends: bool
) -> None:
    state = runtime.grammars.begin(compile_schema(schema))
    for byte in document.encode():
        assert not state.complete
        state.accept(runtime.vocabulary.pieces.index(bytes([byte])))
    assert state.may_end
    assert state.complete == ends


def test_a_long_string_keeps_its_bound(runtime: Any) -> None:
    grammar = compile_schema({"type": "string", "maxLength": 4000})
    assert accepts(runtime, grammar, '"' + "x" * 4000 + '"')
    assert not accepts(runtime, grammar, '"' + "x" * 4001 + '"')


REFUSED: list[tuple[Any, str]] = [
    ({"type": "nonsense"}, "nonsense"),
    ({"type": 3}, "#/type"),
    ({"required": "a"}, "#/required"),
    (False, "false"),
    ({"not": {}}, "not"),
    ({"type": "number", "multipleOf": 3}, "multipleOf"),
    ({"properties": {"a": {"if": {}, "then": {}}}}, "#/properties/a/if"),
    ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "maxItems"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "maxLength"),
    ({"type": "string", "pattern": "abc"}, "anchored"),
    ({"type": "string", "pattern": "^(?=x)a$"}, "look-around"),
    ({"type": "string", "pattern": "^a+?$"}, "lazy"),
    ({"type": "integer", "minimum": 5, "maximum": 4}, "no whole number"),
    ({"type": "number", "minimum": 0.5}, "fraction"),
    ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}, "overlap"),
    ({"$ref": "https://example.org/schema.json"}, "inside the schema"),
    ({"$ref": "#/$defs/x"}, "names nothing"),
    ({"$ref": "#"}, "cannot run"),
    ({"type": "object", "properties": {}, "required": ["a"], "additionalProperties": False}, "not allowed"),
    ({"type": "object", "minProperties": 2}, "minProperties"),
    ({"enum": ["abc"], "maxLength": 2, "type": "string"}, "none of its values"),
    ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "two different values"),
]


@pytest.mark.parametrize(("schema", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_cannot_be_enforced_is_refused_by_name(schema: Any, why: str) -> None:
    with pytest.raises(EngineError) as caught:
        compile_schema(schema)
    assert caught.value.code == "schema_invalid"
    assert why in caught.value.message


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(3000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(EngineError) as caught:
        compile_schema(schema)
    assert caught.value.code == "schema_invalid"


@pytest.mark.parametrize(
    ("low", "high"), [(0, 9), (3, 27), (95, 1203), (-15, -4), (-120, 31), (0, 0), (99, 100)]
)
def test_integer_ranges_are_exact(runtime: Any, low: int, high: int) -> None:
    grammar = f"root ::= {integer_range({'minimum': low, 'maximum': high})}"
    for number in {
        *range(low - 12, low + 12),
        *range(high - 12, high + 12),
        (low + high) // 2,
        10 * high,
        -low,
    }:
        assert accepts(runtime, grammar, str(number)) == (low <= number <= high), number


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 3), (2, 15), (-20, -11)])
def test_number_ranges_are_exact(runtime: Any, low: int, high: int) -> None:
    grammar = f"root ::= {number_range({'minimum': low, 'maximum': high})}"
    for tenth in range(10 * low - 25, 10 * high + 25):
        text = str(tenth / 10) if tenth % 10 else str(tenth // 10)
        assert accepts(runtime, grammar, text) == (10 * low <= tenth <= 10 * high), text


def test_patterns_escape_what_json_escapes(runtime: Any) -> None:
    grammar = "root ::= " + pattern_to_gbnf(r'^a"b\\c-[x\-y]+$')
    assert accepts(runtime, grammar, r"a\"b\\c-x-y")
    assert not accepts(runtime, grammar, 'a"b')
