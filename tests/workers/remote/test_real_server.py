"""Against llama-cpp-python's own server: every form of an answer, as a server that others wrote gives it."""

import json
import time
from collections.abc import Iterator

import pytest

from batchyard.errors import InvalidConfig
from tests.workers.child import Child
from tests.workers.remote.conftest import remote_child

REPORT = "Board A17: solder bridge found at U12 between pin 3 and pin 4."
SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"enum": ["pass", "fail"]}, "ref": {"type": "string", "maxLength": 8}},
    "required": ["verdict", "ref"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def child(llama_server: str) -> Iterator[Child]:
    with remote_child(llama_server, n_slots=2) as child:
        yield child


def test_text_with_usage_and_honest_provenance(llama_server: str, child: Child) -> None:
    assert child.process.info["breaker"] == "closed"
    child.submit("a", REPORT, sampling={"seed": 7})
    assert child.until("started")["id"] == "a"
    completion = child.done("a")
    assert completion["text"]
    assert completion["finish_reason"] in ("stop", "length")
    assert completion["usage"]["prompt_tokens"] > 8
    assert completion["usage"]["completion_tokens"] == 8
    provenance = completion["provenance"]
    assert provenance["endpoint"] == llama_server.split("/")[2]
    assert provenance["endpoint_model"] == "inspector"
    assert provenance["engine"].startswith("openai ")
    assert (provenance["model_sha256"], provenance["llama_build"], provenance["seed"]) == ("", "", 7)
    assert len(provenance["prompt_sha256"]) == 64
    assert 0 < completion["confidence"]["min"] <= completion["confidence"]["mean"] <= 1
    assert completion["logprobs"] is None
    assert completion["timings"]["decode_s"] > 0


def test_a_document_fits_its_schema(child: Child) -> None:
    child.submit("a", REPORT, output={"type": "json_schema", "schema": SCHEMA}, sampling={"max_tokens": 60})
    completion = child.done("a")
    assert completion["parsed"] == json.loads(completion["text"])
    assert completion["parsed"]["verdict"] in ("pass", "fail")


def test_a_document_that_is_cut_is_none(child: Child) -> None:
    child.submit("a", REPORT, output={"type": "json_schema", "schema": SCHEMA}, sampling={"max_tokens": 2})
    completion = child.done("a")
    assert (completion["finish_reason"], completion["parsed"]) == ("length", None)


def test_log_probabilities_of_messages_and_of_a_raw_prompt(child: Child) -> None:
    child.submit("chat", REPORT, sampling={"logprobs": 2, "max_tokens": 3})
    child.submit("raw", prompt="Board A17:", sampling={"logprobs": 2, "max_tokens": 3})
    for name in ("chat", "raw"):
        completion = child.done(name)
        assert "".join(one["token"] for one in completion["logprobs"]) == completion["text"]
        assert all(one["logprob"] <= 0 and len(one["top"]) <= 2 for one in completion["logprobs"])


def test_a_grammar_and_choices_hold(child: Child) -> None:
    child.submit("digits", REPORT, output={"type": "grammar", "grammar": "root ::= [0-9] [0-9]"})
    assert child.done("digits")["text"].isdigit()
    child.submit("label", REPORT, output={"type": "choices", "choices": ["soldering", 'a "placement"\n']})
    completion = child.done("label")
    assert completion["choice"] in ("soldering", 'a "placement"\n')
    # this server reports the distribution before its grammar, in which no label is likely: it has no chances
    assert completion["choice_probabilities"] is None
    assert completion["finish_reason"] != "choice"


def test_what_the_server_would_die_of_is_not_sent(child: Child) -> None:
    child.submit("bad", REPORT, output={"type": "grammar", "grammar": "root ::= ("})
    assert child.failed("bad")["code"] == "grammar_invalid"
    child.submit("good", REPORT)
    assert child.done("good")["text"]


def test_a_prompt_that_is_too_long_fails_alone(child: Child) -> None:
    child.submit("long", REPORT * 60)
    child.submit("short", REPORT)
    error = child.failed("long")
    assert (error["code"], error["retryable"]) == ("prompt_too_long", False)
    assert "512" in error["message"]
    assert child.done("short")["text"]


def test_cancel_and_deadline_free_their_slots(child: Child) -> None:
    endless = {"type": "grammar", "grammar": "root ::= [0-9] root"}
    child.submit("cancelled", REPORT, output=endless, sampling={"max_tokens": 400})
    child.submit("late", REPORT, output=endless, sampling={"max_tokens": 400}, deadline=time.time() + 0.05)
    child.submit("next", REPORT)
    child.until("started", name="cancelled")
    child.cancel("cancelled")
    assert child.failed("cancelled")["code"] == "cancelled"
    assert child.failed("late")["code"] == "deadline_exceeded"
    assert child.done("next")["text"]


@pytest.mark.parametrize("key", ["wrong", ""])
def test_a_refused_or_missing_key_is_found_at_start(llama_server: str, key: str) -> None:
    words = "api_key" if key else "FAR_KEY is not set"
    with pytest.raises(InvalidConfig, match=words), remote_child(llama_server, environ={"FAR_KEY": key}):
        pass
