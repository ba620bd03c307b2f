"""What nobody foresaw in one request costs that request only."""

from __future__ import annotations

import math
import socket
from typing import Any

import numpy as np
import pytest

from workers.engine import engine as engine_module
from workers.engine import intake as intake_module
from workers.engine.choices import LabelTrie
from workers.engine.errors import EngineError
from workers.engine.frames import MAX_FRAME_BYTES, FrameReader
from workers.engine.request import EngineRequest
from workers.engine.server import Connection, _send_event


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def unforeseen(*_: Any, **__: Any) -> Any:
    raise TypeError("nobody thought of this")


def test_an_unforeseen_mistake_in_a_request_fails_that_request(
    yard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.submit("neighbour", messages=user("hello"), sampling={"max_tokens": 4})
    monkeypatch.setattr(intake_module, "compile_schema", unforeseen)
    yard.submit("bad", messages=user("x"), output={"type": "json_schema", "schema": {}})
    assert yard.failed["bad"]["code"] == "internal_error"
    assert "nobody thought of this" in yard.failed["bad"]["message"]
    assert set(yard.run()) == {"neighbour"}


def test_an_unforeseen_mistake_while_running_fails_that_job(
    yard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.submit("bad", messages=user("hello"), sampling={"max_tokens": 8})
    yard.submit("neighbour", messages=user("hello"), sampling={"max_tokens": 8})
    yard.step(2)
    monkeypatch.setattr(yard.engine._known["bad"], "draw", unforeseen)
    assert set(yard.run()) == {"neighbour"}
    assert yard.failed["bad"]["code"] == "internal_error"
    assert yard.failed["bad"]["retryable"]  # it is not the job's fault


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("text_completion", {"type": "text"}),
        ("choice_completion", {"type": "choices", "choices": ["A", "B"]}),
        ("choice_completion", {"type": "choices", "choices": ["solder", "open joint"]}),
    ],
)
def test_an_unforeseen_mistake_at_the_end_fails_that_job(
    yard: Any, monkeypatch: pytest.MonkeyPatch, name: str, output: dict[str, Any]
) -> None:
    real = getattr(engine_module, name)

    def fails_once(one: Any, *rest: Any) -> Any:
        return unforeseen() if one.request.id == "bad" else real(one, *rest)

    monkeypatch.setattr(engine_module, name, fails_once)
    for job in ("bad", "good"):
        yard.submit(job, messages=user("hello"), output=output, sampling={"max_tokens": 4})
    assert set(yard.run()) == {"good"}
    assert set(yard.failed) == {"bad"}
    assert yard.engine._memory.free_slots == 4


def test_a_document_nested_too_deeply_to_read_fails_its_job(
    yard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_deep(_: str) -> Any:
        raise RecursionError("maximum recursion depth exceeded")

    yard.submit("a", messages=user("x"), output={"type": "json_schema", "schema": {"const": 1}})
    monkeypatch.setattr("workers.engine.document.json.loads", too_deep)
    assert not yard.run()
    assert yard.failed["a"]["code"] == "schema_invalid"


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_a_number_beyond_every_float_is_named(value: int) -> None:
    for changes, field in (
        ({"sampling": {"temperature": value}}, "sampling.temperature"),
        ({"deadline": value}, "deadline"),
    ):
        with pytest.raises(EngineError) as caught:
            EngineRequest.parse({"id": "a", "prompt": "x"} | changes)
        assert (caught.value.code, caught.value.field) == ("request_invalid", field)


def test_a_very_long_label_is_refused_before_its_tree_is_built(
    yard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "LabelTrie", unforeseen)
    yard.submit("a", messages=user("?"), output={"type": "choices", "choices": ["x" * 5000, "y"]})
    assert yard.failed["a"]["code"] == "prompt_too_long"


def test_a_label_of_many_tokens_needs_no_recursion() -> None:
    label = tuple(range(2, 5002))
    (path,) = LabelTrie((label, (1,)), frozenset({0})).paths()
    assert path.tokens == label[:-1]


@pytest.mark.parametrize("answer", [math.nan, "x" * (MAX_FRAME_BYTES + 1), np.inf])
def test_an_answer_that_is_no_frame_fails_its_job(answer: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = Connection(ours)
        _send_event(peer, {"op": "done", "id": "a", "completion": answer})
        (message,) = FrameReader().feed(theirs.recv(1 << 16))
    assert (message["op"], message["id"]) == ("failed", "a")
    assert message["error"]["code"] == "request_invalid"
