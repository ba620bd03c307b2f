"""Against a server that says what it is told: what is asked again, opens the breaker, is passed on."""

import asyncio
import base64
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from batchyard.errors import InvalidConfig
from local.redis_server import free_ports
from tests.workers.endpoints import KEY
from tests.workers.remote.conftest import inside, remote_child
from tests.workers.remote.scripted import HANG, ScriptedServer, answer, chat
from workers.engine.errors import EngineError
from workers.remote import body as body_module

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def ask(url: str, request: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """The completion or the error of one request."""

    async def go() -> dict[str, Any]:
        async with inside(url, **settings) as one:
            return await one.ask(**(request or {}))

    return asyncio.run(go())


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_what_may_pass_is_asked_again(scripted: ScriptedServer, status: int) -> None:
    error = {"error": {"message": "not now", "type": "server_error", "param": None, "code": None}}
    scripted.script.extendleft([answer(status, error, Retry_After="0")])
    assert ask(scripted.url)["text"] == "fine"
    assert len(scripted.calls) == 2


@pytest.mark.parametrize(
    "body",
    ["<html>welcome</html>", "{", "[]", '{"choices": []}', '{"choices": [{"message": {"content": 7}}]}'],
)
def test_a_body_that_is_no_answer_is_asked_for_again_and_then_named(
    scripted: ScriptedServer, body: str
) -> None:
    scripted.script[0] = answer(200, body)
    error = ask(scripted.url, max_retries=1)
    assert (error["code"], error["retryable"]) == ("endpoint_answer_invalid", True)
    assert "api_base" in error["remedy"]
    assert len(scripted.calls) == 2


def test_retry_after_is_kept_or_handed_on(scripted: ScriptedServer) -> None:
    scripted.script.extendleft([answer(429, "slow down", Retry_After="17"), answer(500, "oh")])

    async def go() -> list[float]:
        async with inside(scripted.url) as one:
            assert (await one.ask())["text"] == "fine"
            return one.pauses

    assert asyncio.run(go()) == [0.25, 17.5]  # half of 0.5 s; half of 1 s after what it asked for
    scripted.script[0] = answer(429, "slow down", Retry_After="3600")
    error = ask(scripted.url)
    assert (error["code"], error["retryable"], error["retry_after"]) == ("endpoint_busy", True, 3600.0)
    assert len(scripted.calls) == 4  # nobody waits an hour in a slot


def test_no_wait_goes_past_the_deadline(scripted: ScriptedServer) -> None:
    scripted.script[0] = answer(503, "later", Retry_After="30")
    error = ask(scripted.url, {"deadline": time.time() + 20})
    assert (error["code"], len(scripted.calls)) == ("endpoint_unavailable", 1)


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (400, {"message": "too long", "code": "context_length_exceeded"}, "prompt_too_long", "too long"),
        (422, {"message": "top_p is odd", "param": "top_p"}, "request_invalid", "top_p is odd"),
    ],
)
def test_what_is_wrong_with_a_job_is_passed_on_at_once(
    scripted: ScriptedServer, status: int, body: dict[str, Any], code: str, words: str
) -> None:
    scripted.script[0] = answer(status, {"error": body})
    error = ask(scripted.url, allowed_fails=1)
    assert (error["code"], error["retryable"], len(scripted.calls)) == (code, False, 1)
    assert words in error["message"]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"message": f"Incorrect API key provided: {KEY}"}, "***"),
        (403, {"message": "not from here"}, "not from here"),
        (404, {"message": "no such model"}, "no such model"),
        (429, {"message": "no credit", "code": "insufficient_quota"}, "no credit"),
        (308, {"message": "elsewhere"}, "308"),
    ],
)
def test_a_refusal_of_all_opens_the_breaker_and_costs_no_job_its_life(
    scripted: ScriptedServer, status: int, body: dict[str, Any], words: str
) -> None:
    scripted.script[0] = answer(status, {"error": body}, Location=f"{scripted.url}/chat/completions")

    async def go() -> None:
        async with inside(scripted.url, allowed_fails=2, cooldown_time=30) as one:
            first, second = await one.ask(), await one.ask()
            assert len(scripted.calls) == 2  # neither is asked again before its retry, nor elsewhere
            for error in (first, second):
                assert (error["code"], error["retryable"]) == ("endpoint_refused", True)
                assert words in error["message"]
                assert KEY not in json.dumps(error)
            assert second["retry_after"] == 30
            assert one.capacities == [1]  # the queue keeps the others

    asyncio.run(go())


def test_a_conflict_is_no_word_against_the_endpoint(scripted: ScriptedServer) -> None:
    scripted.script[0] = answer(409, "busy with another")

    async def go() -> None:
        async with inside(scripted.url, allowed_fails=1, max_retries=0) as one:
            error = await one.ask()
            assert (error["code"], error["retryable"]) == ("endpoint_busy", True)
            assert one.backend.stats()["breaker"] == "closed"

    asyncio.run(go())


def test_a_job_that_always_fails_speaks_against_the_endpoint_once(scripted: ScriptedServer) -> None:
    scripted.script[0] = answer(500, "I cannot read this")

    async def go() -> None:
        async with inside(scripted.url, allowed_fails=4, max_retries=9) as one:
            for _ in range(3):
                assert (await one.ask())["code"] == "endpoint_unavailable"
            assert (len(scripted.calls), one.backend.stats()["breaker"]) == (30, "closed")
            one.submit("another")
            await one.end()
            assert one.backend.stats()["breaker"] == "open"

    asyncio.run(go())


def test_an_answer_too_long_or_compressed_is_not_read(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_module, "MOST_BYTES", 1000)
    for data, words in (
        (chat("x" * 1000), "longer than 1000 bytes"),
        (answer(500, "x" * 1001), "longer than 1000 bytes"),
        (answer(200, "", Content_Encoding="gzip"), "compressed"),
    ):
        scripted.script[0] = data
        error = ask(scripted.url)
        assert (error["code"], error["retryable"]) == ("endpoint_answer_invalid", True)
        assert words in error["message"]
    assert len(scripted.calls) == 3  # not asked for again
    scripted.script[0] = chat("x" * 700)
    assert ask(scripted.url)["text"] == "x" * 700
    assert {headers["accept-encoding"] for _, headers, _ in scripted.calls} == {"identity"}


def breaker_at_start(url: str) -> str:
    async def go() -> str:
        async with inside(url) as one:
            return str(one.backend.info["breaker"])

    return asyncio.run(go())


def test_a_model_that_the_endpoint_does_not_list_is_refused_at_the_start(scripted: ScriptedServer) -> None:
    other = {"data": [{"id": "another"}]}
    scripted.models = answer(200, other)
    with pytest.raises(EngineError, match="does not list 'inspector'; it lists another") as caught:
        ask(scripted.url)
    assert (caught.value.code, caught.value.field) == ("model_file_invalid", "model")
    assert "check_model" in str(caught.value.remedy)
    assert ask(scripted.url, check_model=False)["text"] == "fine"
    for no_list in (
        answer(200, other | {"has_more": True}),
        answer(200, {"data": []}),
        answer(200, "<html>"),
        answer(404, "x"),
    ):
        scripted.models = no_list
        assert breaker_at_start(scripted.url) == "closed"


@pytest.mark.parametrize("status", [401, 403, 307])
def test_an_endpoint_that_refuses_all_is_said_before_it_is_ready(
    scripted: ScriptedServer, status: int
) -> None:
    scripted.models = answer(status, {"error": {"message": "go away"}}, Location="/elsewhere")
    with pytest.raises(EngineError) as caught:
        ask(scripted.url)
    assert caught.value.code == "endpoint_refused"


def test_a_hanging_endpoint_costs_the_timeout_or_the_deadline(scripted: ScriptedServer) -> None:
    scripted.script[0] = HANG
    error = ask(scripted.url, timeout=0.2)
    assert (error["code"], error["retryable"]) == ("endpoint_unavailable", True)
    assert "0.2 s" in error["message"]
    assert len(scripted.calls) == 1  # another attempt would hold the slot for as long again
    assert ask(scripted.url, {"deadline": time.time() + 0.2})["code"] == "deadline_exceeded"


def test_a_cancel_hangs_up(scripted: ScriptedServer) -> None:
    scripted.script[0] = HANG

    async def go() -> dict[str, Any]:
        async with inside(scripted.url) as one:
            one.submit("gone")
            await asyncio.to_thread(scripted.asked.acquire)
            one.desk.cancel("gone")
            return await one.end()

    assert asyncio.run(go())["error"]["code"] == "cancelled"
    assert scripted.hung_up.acquire(timeout=30)


def test_the_breaker_turns_jobs_away_and_one_waits_to_try_the_endpoint_out(scripted: ScriptedServer) -> None:
    scripted.script[0] = answer(500, "down", Retry_After="0")

    async def go() -> None:
        async with inside(scripted.url, allowed_fails=1, cooldown_time=30, max_retries=5) as one:
            error = await one.ask()
            assert (error["code"], error["retryable"]) == ("endpoint_unavailable", True)
            assert error["retry_after"] == 30
            assert "answered 500: down" in error["message"]
            assert len(scripted.calls) == 1  # the second attempt was not made
            assert one.backend.stats()["breaker"] == "open"
            scripted.script[0] = chat("fine")
            one.submit("waits")
            one.submit("away")
            away, waited = await one.end(), await one.end()
            assert (away["id"], away["error"]["code"]) == ("away", "endpoint_unavailable")
            assert (waited["id"], waited["completion"]["text"]) == ("waits", "fine")
            assert one.pauses[-1] == 30
            assert one.backend.stats() == {"calls": 2, "retries": 0, "turned_away": 2, "breaker": "closed"}
            assert one.capacities == [1, 4]  # the queue keeps its jobs while nobody is asked

    asyncio.run(go())


def test_while_one_is_let_through_the_others_wait_for_it(scripted: ScriptedServer) -> None:
    scripted.script[0] = answer(500, "down")

    async def go() -> None:
        async with inside(scripted.url, allowed_fails=1, cooldown_time=30, max_retries=0) as one:
            assert (await one.ask())["retry_after"] == 30
            scripted.script[0] = HANG
            one.now[0] = 30
            await asyncio.to_thread(scripted.asked.acquire)
            for name in ("probe", "second", "third"):
                one.submit(name)
            await asyncio.to_thread(scripted.asked.acquire)
            scripted.script[0] = chat("fine")
            one.desk.cancel("probe")  # then another is the one
            ends = [await one.end() for _ in range(3)]
            assert [event["op"] for event in ends] == ["failed", "done", "done"]
            assert one.backend.stats()["turned_away"] == 0

    asyncio.run(go())


def test_a_worker_comes_up_while_its_endpoint_is_away() -> None:
    [port] = free_ports(1)
    with remote_child(f"http://127.0.0.1:{port}/v1", cooldown_time=60) as child:
        assert child.process.info["breaker"] == "open"
        assert child.until("capacity")["slots"] == 1
        child.submit("waits", "板")
        child.submit("away", "板")
        error = child.failed("away")
        child.cancel("waits")
        assert child.failed("waits")["code"] == "cancelled"
    assert (error["code"], error["retryable"]) == ("endpoint_unavailable", True)
    assert 0 < error["retry_after"] <= 60


def test_the_key_goes_to_the_endpoint_and_nowhere_else(scripted: ScriptedServer, caplog: Any) -> None:
    scripted.script[0] = answer(500, f"key {KEY} failed", Retry_After="0")
    with caplog.at_level(logging.DEBUG):
        error = ask(scripted.url)
    [(path, headers, body), *_] = scripted.calls
    assert (path, headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert (body["model"], body["messages"]) == ("inspector", [{"role": "user", "content": "板 A17"}])
    assert KEY not in json.dumps(error)
    ours = [record for record in caplog.records if record.name.startswith("workers")]
    assert ours
    assert all(KEY not in record.getMessage() for record in ours)


def test_an_endpoint_without_a_key_is_sent_none_and_the_sdks_variables_stay_here(
    scripted: ScriptedServer,
) -> None:
    environ = {"OPENAI_API_KEY": "sk-another", "OPENAI_CUSTOM_HEADERS": "X-Own: 1", "OPENAI_PROJECT_ID": "p"}
    with remote_child(scripted.url, environ, api_key=None) as child:
        child.submit("a", "板")
        assert child.done("a")["text"] == "fine"
    [(_, headers, _)] = scripted.calls
    assert not {"authorization", "x-own", "openai-organization", "openai-project"} & set(headers)
    assert "sk-another" not in json.dumps(headers)


def test_the_key_may_stand_in_a_file(scripted: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "far_key"
    path.write_text(f"{KEY}\n", encoding="utf-8")
    with remote_child(scripted.url, {"FAR_KEY": "", "FAR_KEY_FILE": str(path)}) as child:
        child.submit("a", "板")
        assert child.done("a")["text"] == "fine"
    assert scripted.calls[0][1]["authorization"] == f"Bearer {KEY}"
    missing = {"FAR_KEY": "", "FAR_KEY_FILE": str(tmp_path / "none")}
    with pytest.raises(InvalidConfig, match="FAR_KEY_FILE: cannot read"), remote_child(scripted.url, missing):
        pass


def test_a_document_that_does_not_fit_fails_its_job(scripted: ScriptedServer) -> None:
    scripted.script[0] = chat('{"n": "three"}')
    error = ask(scripted.url, {"output": {"type": "json_schema", "schema": SCHEMA}})
    assert (error["code"], error["field"]) == ("schema_invalid", "output.schema")
    scripted.script[0] = chat('{"n": 3}')
    assert ask(scripted.url, {"output": {"type": "json_schema", "schema": SCHEMA}})["parsed"] == {"n": 3}


def test_choices_have_probabilities_where_every_label_has_a_token(scripted: ScriptedServer) -> None:
    def token(text: str, logprob: float, **top: float) -> dict[str, Any]:
        beside = [{"token": other, "logprob": value} for other, value in ({text: logprob} | top).items()]
        return {"token": text, "logprob": logprob, "top_logprobs": beside}

    content = [token('{"choice": "', 0.0), token("pass", -0.1054, fail=-2.3026), token('"}', 0.0)]
    scripted.script[0] = chat('{"choice": "pass"}', choice={"logprobs": {"content": content}})
    request = {"output": {"type": "choices", "choices": ["fail", "pass"]}}
    completion = ask(scripted.url, request, dialect="compatible")
    assert (completion["choice"], completion["finish_reason"]) == ("pass", "choice")
    assert completion["choice_probabilities"] == pytest.approx({"fail": 0.1, "pass": 0.9}, abs=1e-3)
    assert completion["choice_logprobs"] == pytest.approx({"fail": -2.3026, "pass": -0.1054})
    scripted.script[0] = chat('{"choice": "maybe"}')
    assert ask(scripted.url, request, dialect="compatible")["code"] == "choices_invalid"


def test_an_image_is_asked_for_and_goes_as_a_data_url_where_the_model_sees(scripted: ScriptedServer) -> None:
    part = {"type": "image", "sha256": "a" * 64}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]

    async def go() -> None:
        async with inside(scripted.url, images=True) as one:
            one.submit("a", messages=messages)
            while (event := await one.events.get())["op"] != "need_image":
                assert event["op"] == "started"
            assert event["sha256"] == "a" * 64
            data = base64.b64encode(b"\x89PNG").decode()
            one.desk.images.take({"op": "image", "sha256": "a" * 64, "data": data})
            assert (await one.end())["op"] == "done"

    asyncio.run(go())
    [(_, _, body)] = scripted.calls
    assert body["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert ask(scripted.url, {"messages": messages})["code"] == "images_not_supported"


def test_ids_slots_and_priorities(scripted: ScriptedServer) -> None:
    scripted.script[0] = HANG

    async def go() -> list[str]:
        async with inside(scripted.url, n_slots=1) as one:
            one.submit("first")
            await asyncio.to_thread(scripted.asked.acquire)
            one.submit("later", priority=6)
            one.submit("soon", priority=0)
            one.submit("first")
            assert (await one.end())["op"] == "rejected"
            scripted.script[0] = chat("fine")
            one.desk.cancel("first")
            return [(await one.end())["id"] for _ in range(3)]

    assert asyncio.run(go()) == ["first", "soon", "later"]
