"""A request frame is taken whole or refused with the field at fault."""

from __future__ import annotations

from typing import Any

import pytest

from workers.engine.errors import EngineError
from workers.engine.request import ChoicesOutput, EngineRequest, ImagePart, Message, TextOutput


def frame(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "messages": [{"role": "user", "content": "hello"}]} | changes


def test_defaults() -> None:
    request = EngineRequest.parse(frame())
    assert request.messages == (Message("user", "hello"),)
    assert request.output == TextOutput()
    assert request.priority == 5
    assert request.deadline is None


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = EngineRequest.parse(frame(messages=[{"role": "user", "content": parts}]))
    assert request.messages == (Message("user", "ab"),)


def test_choices_take_their_corrections() -> None:
    output = {
        "type": "choices",
        "choices": ["a", "b"],
        "prior": "content_free",
        "length_normalization": "mean",
        "temperature": 2,
    }
    assert EngineRequest.parse(frame(output=output)).output == ChoicesOutput(("a", "b"), True, True, 2.0)


def test_choices_keep_their_order() -> None:
    request = EngineRequest.parse(frame(output={"type": "choices", "choices": ["pass", "fail"]}))
    assert request.output == ChoicesOutput(("pass", "fail"))


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"id": ""}, "request_invalid", "id"),
        ({"messages": []}, "prompt_empty", "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "prompt_empty", "messages"),
        ({"messages": None}, "prompt_empty", "prompt"),
        ({"messages": None, "prompt": ""}, "prompt_empty", "prompt"),
        ({"prompt": "both"}, "request_invalid", "prompt"),
        ({"messages": [{"role": "user", "content": 3}]}, "request_invalid", "messages[0].content"),
        ({"messages": [{"content": "x"}]}, "request_invalid", "messages[0].role"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "request_invalid", "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "sha256": "0" * 64}]}]},
            "images_not_supported",
            "messages",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "sha256": "0"}]}]},
            "request_invalid",
            "messages[0].content[0].sha256",
        ),
        ({"sampling": {"temperature": float("nan")}}, "request_invalid", "sampling.temperature"),
        ({"sampling": {"temperature": -1}}, "request_invalid", "sampling.temperature"),
        ({"sampling": {"top_p": 2}}, "request_invalid", "sampling.top_p"),
        ({"sampling": {"max_tokens": -5}}, "request_invalid", "sampling.max_tokens"),
        ({"sampling": {"max_tokens": True}}, "request_invalid", "sampling.max_tokens"),
        ({"sampling": {"seed": -1}}, "request_invalid", "sampling.seed"),
        ({"sampling": {"stop": [""]}}, "request_invalid", "sampling.stop"),
        ({"priority": 10}, "request_invalid", "priority"),
        ({"deadline": "soon"}, "request_invalid", "deadline"),
        ({"output": {"type": "poem"}}, "request_invalid", "output.type"),
        ({"output": {"type": "json_schema", "schema": "x"}}, "schema_invalid", "output.schema"),
        ({"output": {"type": "grammar"}}, "grammar_invalid", "output.grammar"),
        ({"output": {"type": "choices", "choices": []}}, "choices_invalid", "output.choices"),
        (
            {"output": {"type": "choices", "choices": ["a"], "prior": "flat"}},
            "request_invalid",
            "output.prior",
        ),
        (
            {"output": {"type": "choices", "choices": ["a"], "length_normalization": "sum"}},
            "request_invalid",
            "output.length_normalization",
        ),
        (
            {"output": {"type": "choices", "choices": ["a"], "temperature": 0}},
            "request_invalid",
            "output.temperature",
        ),
        ({"output": {"type": "choices", "choices": ["a", "a"]}}, "choices_invalid", "output.choices"),
        ({"output": {"type": "choices", "choices": ["a", 1]}}, "choices_invalid", "output.choices"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(EngineError) as caught:
        EngineRequest.parse(frame(**changes))
    assert (caught.value.code, caught.value.field) == (code, field)
    assert not caught.value.retryable


@pytest.mark.parametrize("value", [None, 3, "text", []])
def test_a_frame_that_is_no_object(value: Any) -> None:
    with pytest.raises(EngineError):
        EngineRequest.parse(value)


def test_images_stand_where_they_were_between_the_texts() -> None:
    one, other = "1" * 64, "2" * 64
    content = [
        {"type": "image", "sha256": one},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
        {"type": "image", "sha256": other},
        {"type": "image", "sha256": one},
    ]
    request = EngineRequest.parse(
        {"id": "x", "messages": [{"role": "user", "content": content}]}, images=True
    )
    parts = (ImagePart(one, 0), ImagePart(other, 2), ImagePart(one, 2))
    assert request.messages == (Message("user", "ab", parts),)
    assert request.images == parts


@pytest.mark.parametrize("value", [False, 0, "", []])
@pytest.mark.parametrize("key", ["sampling", "output"])
def test_what_is_nothing_is_not_taken_for_the_default(key: str, value: Any) -> None:
    with pytest.raises(EngineError) as caught:
        EngineRequest.parse(frame(**{key: value}))
    assert str(caught.value.field).startswith(key)


@pytest.mark.parametrize("value", ["x" * 100_000, ["x"] * 100_000, 10**5000], ids=["text", "list", "number"])
@pytest.mark.parametrize(
    "place",
    ["priority", "deadline", "sampling.max_tokens", "sampling.top_p", "output.type", "output.normalize"],
)
def test_an_error_does_not_repeat_what_is_too_long(place: str, value: Any) -> None:
    key, _, inner = place.partition(".")
    form = {"type": "embedding"} if key == "output" else {}
    changes = {key: {**form, inner: value} if inner else value}
    with pytest.raises(EngineError) as caught:
        EngineRequest.parse(frame(**changes))
    assert caught.value.field == place
    assert len(caught.value.message) < 300
