"""Which bytes of a JSON text are values, in finished and unfinished ones."""

from __future__ import annotations

import json
import random

import pytest

from workers.engine.json_values import value_spans


def values(text: str) -> list[str]:
    data = text.encode()
    return [data[start:end].decode() for start, end in value_spans(data)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":"b","c":-1.5e3,"d":null}', ['"b"', "-1.5e3", "null"]),
        ('{"a": {"b": [1, "x", {"c": true}], "d": "e"}}', ["1", '"x"', "true", '"e"']),
        ('[["a"], "b", {"k": []}, 2]', ['"a"', '"b"', "2"]),
        ('"alone"', ['"alone"']),
        (r'{"a\"b": "c\\", "d": "e\"f:,{"}', ['"c\\\\"', r'"e\"f:,{"']),
        ('{"a":"焊锡","键":"桥"}', ['"焊锡"', '"桥"']),
        ('{"a":"unfin', ['"unfin']),
        ('{"a":"b","unfin', ['"b"']),
        ('["a","unfin', ['"a"', '"unfin']),
        (r'{"a":"b\"', [r'"b\"']),
        ("{", []),
        ("}]", []),
        ("", []),
    ],
)
def test_values_are_found_and_structure_is_not(text: str, expected: list[str]) -> None:
    assert values(text) == expected


def test_random_documents_give_their_scalars_in_order() -> None:
    rng = random.Random(5)

    def make(depth: int) -> object:
        kind = rng.randrange(6 if depth else 4)
        if kind == 4:
            return {f"k{n},:{{": make(depth - 1) for n in range(rng.randrange(4))}
        if kind == 5:
            return [make(depth - 1) for _ in range(rng.randrange(4))]
        return [rng.choice(["", 'a"b', "c,d:e", "\\", "[{"]), rng.random() * 1e9, None, rng.random() < 0.5][
            kind
        ]

    def scalars(value: object) -> list[object]:
        if isinstance(value, dict):
            return [one for inner in value.values() for one in scalars(inner)]
        return [one for inner in value for one in scalars(inner)] if isinstance(value, list) else [value]

    for _ in range(300):
        document = make(4)
        text = json.dumps(document, indent=rng.choice([None, 1]))
        assert [json.loads(one) for one in values(text)] == scalars(document)
