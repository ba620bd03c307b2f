import json
from typing import Any

import pytest

from workers.engine.completion import Usage
from workers.remote.reply import NoAnswer, read_models, read_reply


def body(choice: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"choices": [choice]} | more).encode()


def test_an_answer_of_the_least_and_of_the_most() -> None:
    least = read_reply(b'{"choices": [{"message": {"content": "a"}}]}', chat=True)
    assert (least.text, least.finish_reason, least.tokens, least.model) == ("a", "unknown", None, None)
    assert least.usage == Usage(0, 0, 0)
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    choice = {"message": {"content": "a"}, "finish_reason": "stop"}
    most = read_reply(body(choice, usage=usage, model="m-1", system_fingerprint="fp_7"), chat=True)
    assert (most.usage, most.model, most.fingerprint) == (Usage(9, 4, 2), "m-1", "fp_7")


def test_a_declined_answer_has_its_reason_as_text() -> None:
    choice = {"message": {"content": None, "refusal": "I will not"}, "finish_reason": "content_filter"}
    assert read_reply(body(choice), chat=True).text == "I will not"
    assert read_reply(body({"message": {"content": None}}), chat=True).text == ""


def test_log_probabilities_in_both_apis() -> None:
    content = [{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -9999.0}]}]
    chat = read_reply(body({"message": {"content": "a"}, "logprobs": {"content": content}}), chat=True)
    plain = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -9999.0}]}
    raw = read_reply(body({"text": "a", "logprobs": plain}), chat=False)
    assert chat.tokens == raw.tokens
    assert chat.tokens is not None
    assert (chat.tokens[0].logprob, chat.tokens[0].top) == (-0.5, (("b", -9999.0),))


def test_numbers_that_are_none_are_as_good_as_impossible() -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [float("nan"), float("-inf")]}
    reply = read_reply(body({"text": "ab", "logprobs": logprobs}), chat=False)
    assert reply.tokens is not None
    assert [token.probability for token in reply.tokens] == [0.0, 0.0]


def test_half_a_surrogate_pair_becomes_a_character() -> None:
    assert read_reply(b'{"choices": [{"text": "a\\ud800b"}]}', chat=False).text == "a?b"


@pytest.mark.parametrize(
    "data",
    [
        b"\xff", b"[" * 100_000, b"null", b'{"choices": {}}', b'{"choices": [3]}',
        b'{"choices": [{"message": 3}]}', b'{"choices": [{"message": {"content": ["a"]}}]}',
        b'{"choices": [{"message": {"content": "a"}, "logprobs": {"content": [3]}}]}',
    ],
)  # fmt: skip
def test_what_is_no_answer_says_so(data: bytes) -> None:
    with pytest.raises(NoAnswer):
        read_reply(data, chat=True)


def test_the_list_of_models() -> None:
    assert read_models(b'{"data": [{"id": "a"}, {"id": 3}, 4]}') == ("a",)
    assert read_models(b"<html>") is None
    assert read_models(b'{"data": 3}') is None
