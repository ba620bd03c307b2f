"""The client against a real Redis: what is queued, what is refused, what comes back."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
import redis

from batchyard import names, store
from batchyard.aclient import AsyncClient
from batchyard.client import Client
from batchyard.errors import IdConflict, InvalidJob, ResultTimeout, UnknownJob, YardError, YardUnavailable
from batchyard.settings import Settings
from batchyard.states import State
from tests.waiting import chunk_jobs, messages


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def raw(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.url, decode_responses=True) as raw:
        yield raw


def chunks_queued(raw: redis.Redis) -> list[list[dict]]:
    return [chunk_jobs(message) for message in messages(raw, names.ROUTE_QUEUE)]


def finish(
    raw_url: str, job_id: str, batch: str = "", state: State = State.SUCCESS, text: str = "done"
) -> int:
    value = {"job_id": job_id, "text": text} if state is State.SUCCESS else None
    document = store.state_document(job_id, state, value)
    with redis.Redis.from_url(raw_url) as connection:
        return store.run(connection, store.finish([(job_id, batch, state, document)], 60))


def test_a_job_is_queued_once_for_the_router(client: Client, raw: redis.Redis) -> None:
    job_id = client.submit(prompt="hello", priority="interactive", metadata={"line": 1})
    assert client.status(job_id) is State.QUEUED
    [[job]] = chunks_queued(raw)
    assert job == {"id": job_id, "prompt": "hello", "priority": 0, "metadata": {"line": 1}}


def test_many_jobs_travel_in_chunks_and_repeating_them_adds_nothing(client: Client, raw: redis.Redis) -> None:
    jobs = [{"id": f"j{number}", "prompt": f"report {number}"} for number in range(1203)]
    first = client.submit_many(jobs, batch="night")
    again = client.submit_many(jobs, batch="night")
    assert (first.submitted, first.duplicates, again.submitted, again.duplicates) == (1203, 0, 0, 1203)
    assert sorted(len(chunk) for chunk in chunks_queued(raw)) == [203, 500, 500]
    assert client.batch("night").total == 1203
    assert list(client.jobs("night"))[:2] == ["j0", "j1"]


def test_one_id_with_two_bodies_is_refused_and_the_first_stands(client: Client, raw: redis.Redis) -> None:
    client.submit(id="same", prompt="one")
    with pytest.raises(IdConflict, match="different body"):
        client.submit(id="same", prompt="two")
    assert len(chunks_queued(raw)) == 1


def test_one_id_twice_in_one_chunk_is_one_job_or_a_conflict(client: Client, raw: redis.Redis) -> None:
    same = {"id": "t", "prompt": "x"}
    assert client.submit_many([same, same], batch="t1").submitted == 1
    assert client.batch("t1").total == 1
    faults: list[int] = []
    items = [{"id": "u", "prompt": "first"}, {"id": "u", "prompt": "second"}, {"prompt": "other"}]
    handle = client.submit_many(items, batch="t2", on_error=lambda index, _item, _error: faults.append(index))
    assert (handle.submitted, faults) == (2, [1])
    assert {job["prompt"] for chunk in chunks_queued(raw) for job in chunk} == {"x", "first", "other"}


def test_a_batch_is_named_like_everything_else(client: Client) -> None:
    with pytest.raises(InvalidJob) as caught:
        client.submit_many([{"prompt": "x"}], batch="a b")
    assert caught.value.field == "batch"


def test_bad_items_are_reported_with_their_position_and_the_others_go_on(
    client: Client, raw: redis.Redis
) -> None:
    client.submit(id="taken", prompt="x")
    faults: list[tuple[int, YardError]] = []
    items = [{"prompt": "a"}, {"prompt": ""}, {"id": "taken", "prompt": "y"}, {"prompt": "b"}]
    handle = client.submit_many(items, on_error=lambda index, _item, error: faults.append((index, error)))
    assert (handle.submitted, handle.refused) == (2, 2)
    assert [(index, error.code) for index, error in faults] == [(1, "invalid_job"), (2, "id_conflict")]
    assert client.batch(handle.batch).total == 2


def test_without_a_handler_the_jobs_before_the_bad_one_are_in(client: Client) -> None:
    with pytest.raises(InvalidJob):
        client.submit_many([{"prompt": "a"}, {"prompt": "b"}, {"prompt": ""}], batch="cut")
    assert client.batch("cut").total == 2


def test_without_a_handler_what_stands_before_a_conflict_or_a_missing_image_is_in(client: Client) -> None:
    client.submit(id="taken", prompt="old")
    picture = {"messages": [{"role": "user", "content": [{"type": "image", "sha256": "0" * 64}]}]}
    conflict = {"id": "taken", "prompt": "new"}
    good = [{"id": f"g{number}", "prompt": "x"} for number in range(4)]
    for batch, items, code, expected in (
        ("c1", [*good[:2], conflict, good[2], picture], "id_conflict", ["g0", "g1"]),
        ("c2", [good[2], picture, good[3], conflict], "image_missing", ["g2"]),
        ("c3", [picture, good[3]], "image_missing", []),
    ):
        with pytest.raises(InvalidJob) as caught:
            client.submit_many(items, batch=batch)
        assert caught.value.code == code
        assert list(client.jobs(batch)) == expected
    assert client.status("g3") is State.UNKNOWN


def test_ids_make_a_repeated_submission_harmless_also_in_a_new_batch(client: Client) -> None:
    jobs = [{"id": f"j{number}", "prompt": "x"} for number in range(3)]
    first = client.submit_many(jobs)
    again = client.submit_many(jobs)
    assert (first.submitted, again.submitted, again.duplicates) == (3, 0, 3)
    assert client.submit(jobs[0]) == "j0"
    assert client.batch(first.batch).total == 3
    assert client.batch(again.batch).total == 0
    assert client.cancel("j0") == 1
    assert client.batch(first.batch).revoked == 1


def test_names_the_catalogue_has_not_are_refused(client: Client, raw: redis.Redis) -> None:
    catalogue = {"task_list": [{"task": "faq"}], "model_list": [{"model_name": "chat"}]}
    raw.set(names.CATALOGUE_KEY, json.dumps(catalogue))
    for field, code in (("task", "unknown_task"), ("model", "unknown_model")):
        with pytest.raises(InvalidJob) as caught:
            client.submit(prompt="x", **{field: "nonsense"})
        assert (caught.value.code, caught.value.field) == (code, field)
        assert "'nonsense'" in str(caught.value)
    assert chunks_queued(raw) == []
    client.submit(prompt="x", task="faq", model="chat")


def test_an_image_must_be_attached_before_its_job(client: Client) -> None:
    message = {"role": "user", "content": [{"type": "image", "sha256": "0" * 64}]}
    with pytest.raises(InvalidJob) as caught:
        client.submit(messages=[message])
    assert caught.value.code == "image_missing"
    with pytest.raises(InvalidJob) as caught:
        client.attach(b"\x89PNG\r\n\x1a\n and then nothing")
    assert caught.value.code == "image_corrupt"


def test_a_result_is_waited_for(client: Client, settings: Settings) -> None:
    job_id = client.submit(prompt="hello")
    with pytest.raises(ResultTimeout):
        client.result(job_id, timeout=0)
    waiter = threading.Timer(0.05, finish, (settings.url, job_id))
    waiter.start()
    result = client.result(job_id, timeout=20)
    assert (result.ok, result.text) == (True, "done")
    waiter.join()


def test_an_unknown_job_is_said_to_be_unknown(client: Client) -> None:
    assert client.status("nobody") is State.UNKNOWN
    with pytest.raises(UnknownJob, match="never submitted to this yard, or its state has expired"):
        client.result("nobody", timeout=0)
    with pytest.raises(UnknownJob):
        list(client.results("no-batch"))


def test_results_of_a_batch_come_once_each_and_can_be_resumed(client: Client, settings: Settings) -> None:
    ids = [f"r{number}" for number in range(7)]
    client.submit_many([{"id": job_id, "prompt": "x"} for job_id in ids], batch="b")
    for job_id in ids[:3]:
        finish(settings.url, job_id, "b")
    first = client.results("b", timeout=0.01)
    assert [next(first).job_id for _ in range(3)] == ids[:3]
    with pytest.raises(ResultTimeout) as caught:
        next(first)
    assert first.cursor in str(caught.value)
    for job_id in ids[3:]:
        finish(settings.url, job_id, "b")
    assert [result.job_id for result in client.results("b", after=first.cursor)] == ids[3:]
    assert client.batch("b").done == 7


def test_the_first_final_result_stays(client: Client, settings: Settings) -> None:
    job_id = client.submit(prompt="x", batch="once")
    assert finish(settings.url, job_id, "once", text="first") == 1
    assert finish(settings.url, job_id, "once", text="second") == 0
    assert client.result(job_id).text == "first"
    assert client.batch("once").done == 1
    assert [result.text for result in client.results("once")] == ["first"]


def test_cancel_ends_what_has_no_result(client: Client, settings: Settings) -> None:
    done, waiting = client.submit(prompt="a", batch="c"), client.submit(prompt="b", batch="c")
    finish(settings.url, done, "c")
    assert client.cancel_batch("c") == 1
    assert client.cancel(waiting, "never-heard-of") == 0
    assert (client.status(done), client.status(waiting)) == (State.SUCCESS, State.REVOKED)
    result = client.result(waiting)
    assert result.error is not None
    assert result.error.code == "cancelled"
    assert {result.job_id for result in client.results("c")} == {done, waiting}


def test_redis_away_is_said_and_nothing_is_lost_by_trying_again(settings: Settings) -> None:
    with (
        Client(Settings(redis_url="redis://127.0.0.1:1/0")) as away,
        pytest.raises(YardUnavailable) as caught,
    ):
        away.submit(prompt="x", id="kept")
    assert caught.value.retryable
    with Client(settings) as back:
        assert back.submit(prompt="x", id="kept") == "kept"


def test_a_full_redis_is_no_redis_away(client: Client, raw: redis.Redis) -> None:
    raw.config_set("maxmemory", "1")
    try:
        with pytest.raises(YardUnavailable) as caught:
            client.submit(prompt="x", id="later")
    finally:
        raw.config_set("maxmemory", "0")
    assert (caught.value.code, caught.value.retryable) == ("yard_full", True)
    assert "maxmemory" in str(caught.value.remedy)
    assert client.submit(prompt="x", id="later") == "later"


def test_a_wrong_password_or_missing_right_is_said_and_not_worth_a_retry(
    settings: Settings, raw: redis.Redis
) -> None:
    raw.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get", "+hello"])
    try:
        for login in ("reader:pw", ":wrong"):
            url = f"redis://{login}@{settings.url.rpartition('@')[2]}"
            with Client(Settings(redis_url=url)) as refused, pytest.raises(YardUnavailable) as caught:
                refused.submit(prompt="x")
            assert (caught.value.code, caught.value.retryable) == ("yard_refused", False)
            assert "wrong" not in str(caught.value.field)
    finally:
        raw.acl_deluser("reader")


def test_a_key_of_another_type_is_a_store_error_in_one_short_line(client: Client, raw: redis.Redis) -> None:
    raw.set(names.flow_key(names.ROUTE_QUEUE, 6, "default", ""), "no list")
    with pytest.raises(YardUnavailable) as caught:
        client.submit(prompt="x")
    assert (caught.value.code, caught.value.retryable) == ("store_error", False)
    assert "WRONGTYPE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_async_client_does_the_same(settings: Settings) -> None:
    async def scenario() -> None:
        async with AsyncClient(settings) as client:
            handle = await client.submit_many(({"id": f"a{n}", "prompt": "x"} for n in range(5)), batch="ab")
            assert handle.submitted == 5
            loop = asyncio.get_running_loop()
            waiting = asyncio.create_task(client.result("a0", timeout=20))
            for n in range(5):
                await loop.run_in_executor(None, finish, settings.url, f"a{n}", "ab")
            assert (await waiting).text == "done"
            assert [job_id async for job_id in client.jobs("ab")] == [f"a{n}" for n in range(5)]
            results = client.results("ab")
            assert (await anext(results)).job_id == "a0"
            rest = client.results("ab", after=results.cursor, timeout=0)
            assert [result.job_id async for result in rest] == [f"a{n}" for n in range(1, 5)]
            with pytest.raises(UnknownJob):
                await anext(client.results("no-batch"))
            handle = await client.submit_many(
                [{"id": "a0", "prompt": "other"}, {"prompt": "y"}], batch="ac", on_error=lambda *_: None
            )
            assert (handle.submitted, handle.refused) == (1, 1)
            with pytest.raises(ResultTimeout):
                await anext(client.results("ac", timeout=0))
            assert await client.cancel_batch("ac") == 1
            with pytest.raises(InvalidJob):
                await client.submit(prompt="")
            assert await client.cancel("a0") == 0

    asyncio.run(scenario())
