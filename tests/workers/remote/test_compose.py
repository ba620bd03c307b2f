from typing import Any

import pytest

from batchyard.entry import OpenaiEntry
from workers.engine.errors import EngineError
from workers.engine.request import EngineRequest
from workers.remote.compose import Question, compose

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
MESSAGES = [{"role": "system", "content": "Look."}, {"role": "user", "content": "板"}]


def entry(dialect: str, **settings: Any) -> OpenaiEntry:
    fields = {
        "model_name": "m",
        "engine": "openai",
        "api_base": "http://h/v1",
        "model": "x",
        "dialect": dialect,
    }
    return OpenaiEntry.model_validate(fields | settings)


def ask(dialect: str = "compatible", settings: dict[str, Any] | None = None, **request: Any) -> Question:
    content = {} if "prompt" in request else {"messages": MESSAGES}
    parsed = EngineRequest.parse({"id": "a"} | content | request)
    return compose(parsed, entry(dialect, **(settings or {})), 11)


def test_plain_chat_with_openais_names() -> None:
    question = ask(sampling={"max_tokens": 9, "temperature": 0.5, "stop": ["\n"], "presence_penalty": 1})
    assert question.chat
    assert question.body == {
        "model": "x", "messages": MESSAGES, "max_tokens": 9, "temperature": 0.5, "top_p": 0.95, "seed": 11,
        "stop": ["\n"], "presence_penalty": 1.0, "logprobs": True, "top_logprobs": 2,
    }  # fmt: skip
    assert question.extra == {}
    assert question.seed == 11


def test_dialects_spell_what_openai_has_no_words_for() -> None:
    sampling = {"top_k": 5, "repeat_penalty": 1.1, "seed": 3}
    assert ask("vllm", sampling=sampling).extra == {"top_k": 5, "min_p": 0.05, "repetition_penalty": 1.1}
    assert ask("llama_cpp", sampling=sampling).extra["repeat_penalty"] == 1.1
    assert ask("openai").body["max_completion_tokens"] == 256
    with pytest.raises(EngineError, match="has no top_k") as caught:
        ask(sampling=sampling)
    assert caught.value.field == "sampling.top_k"
    assert ask(sampling={"top_k": 0, "min_p": 0}).extra == {}  # off is what an endpoint without it does


def test_options_that_an_endpoint_refuses_are_never_sent() -> None:
    question = ask(settings={"drop_params": ["temperature", "top_p", "seed"], "logprobs": False})
    assert set(question.body) == {"model", "messages", "max_tokens"}
    assert question.seed is None
    with pytest.raises(EngineError) as caught:
        ask(settings={"logprobs": False}, sampling={"logprobs": 1})
    assert caught.value.field == "sampling.logprobs"


def test_schemas_in_each_form() -> None:
    output = {"type": "json_schema", "schema": SCHEMA}
    form = ask(output=output).body["response_format"]
    assert form == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
    }
    form = ask("llama_cpp_python", output=output).body["response_format"]
    assert form == {"type": "json_object", "schema": SCHEMA}
    grammars = [
        ask("text_generation_webui", output=output).extra["grammar_string"],
        ask("llama_cpp", output=output, prompt="raw").extra["grammar"],
    ]
    assert all("root ::=" in grammar for grammar in grammars)
    with pytest.raises(EngineError, match="no schema for a raw prompt"):
        ask(output=output, prompt="raw")
    with pytest.raises(EngineError) as caught:
        ask(output={"type": "json_schema", "schema": {"type": "thing"}})
    assert caught.value.code == "schema_invalid"


def test_grammars_where_there_are_any() -> None:
    output = {"type": "grammar", "grammar": 'root ::= "a"'}
    assert ask("text_generation_webui", output=output).extra["grammar_string"] == 'root ::= "a"'
    with pytest.raises(EngineError, match="takes no grammar") as caught:
        ask("vllm", output=output)
    assert (caught.value.code, caught.value.field) == ("grammar_invalid", "output.grammar")


def test_choices_by_grammar_or_by_document() -> None:
    output = {"type": "choices", "choices": ["pass", "fail"]}
    by_grammar = ask("llama_cpp", output=output, sampling={"temperature": 2, "stop": ["a"]})
    assert by_grammar.extra["grammar"] == 'root ::= "pass" | "fail"'
    assert (by_grammar.body["temperature"], by_grammar.body["top_logprobs"]) == (0.0, 20)
    assert "stop" not in by_grammar.body
    assert not by_grammar.document
    by_document = ask(output=output)
    schema = by_document.body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["choice"]["enum"] == ["pass", "fail"]
    assert by_document.document
    with pytest.raises(EngineError) as caught:
        ask(output=output, prompt="raw")
    assert caught.value.code == "choices_invalid"
    for key, value in (("prior", "content_free"), ("length_normalization", "mean")):
        with pytest.raises(EngineError) as caught:
            ask(output=output | {key: value})
        assert caught.value.field == f"output.{key}"


def test_a_raw_prompt_goes_to_completions() -> None:
    question = ask("openai", prompt="once", sampling={"logprobs": 3})
    assert not question.chat
    assert (question.body["prompt"], question.body["max_tokens"], question.body["logprobs"]) == (
        "once",
        256,
        3,
    )


def test_images_stand_where_they_were_as_data_urls() -> None:
    hashes = ["a" * 64, "b" * 64]
    content = [
        {"type": "image", "sha256": hashes[0]},
        {"type": "text", "text": "before "},
        {"type": "text", "text": "between"},
        {"type": "image", "sha256": hashes[1]},
    ]
    request = EngineRequest.parse(
        {"id": "a", "messages": [{"role": "user", "content": content}]}, images=True
    )
    files = {hashes[0]: b"\x89PNG\r\n", hashes[1]: b"\xff\xd8"}
    [message] = compose(request, entry("openai", images=True), 1, files).body["messages"]
    kinds = [part["type"] for part in message["content"]]
    urls = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
    assert kinds == ["image_url", "text", "image_url"]
    assert message["content"][1]["text"] == "before between"
    assert urls == ["data:image/png;base64,iVBORw0K", "data:image/jpeg;base64,/9g="]


def test_the_prompts_digest_is_of_what_is_sent() -> None:
    assert ask().prompt_sha256 == ask("vllm", sampling={"temperature": 0}).prompt_sha256
    assert ask().prompt_sha256 != ask(prompt="板").prompt_sha256
