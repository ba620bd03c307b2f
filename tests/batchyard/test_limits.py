"""Limits against a real Redis: who is refused, what is taken meanwhile, who waits."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from batchyard import names, store
from batchyard.aclient import AsyncClient
from batchyard.catalogue import load_catalogue
from batchyard.client import Client
from batchyard.errors import IdConflict, YardBusy, YardError
from batchyard.limits import put_limits
from batchyard.settings import Settings
from batchyard.states import State
from router.service import Router, load


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings.model_copy(update={"tenant": "acme"})) as client:
        yield client


@pytest.fixture
def raw(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.url, decode_responses=True) as raw:
        yield raw


def limit(raw: redis.Redis, **limits: int) -> None:
    """Limits by field, with __ for the colon; workers do so many jobs that refusals say one second."""
    store.run(raw, put_limits({field.replace("__", ":"): most for field, most in limits.items()}))
    raw.hset(names.RATES_KEY, "chat", "1000")


def rows(count: int, start: int = 0, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": f"J{n}", "prompt": "x"} | fields for n in range(start, start + count)]


def end(raw: redis.Redis, *job_ids: str) -> None:
    """Give jobs of acme their results."""
    for job_id in job_ids:
        document = store.state_document(f"acme~{job_id}", State.SUCCESS, {"text": "done"})
        store.run(raw, store.finish([(f"acme~{job_id}", "acme~B", State.SUCCESS, document)], 60))


def test_the_router_publishes_the_limits_of_its_catalogue(settings: Settings, raw: redis.Redis) -> None:
    raw.hset(names.LIMITS_KEY, "tenant:gone", 1)
    router = Router(settings, load(settings))
    router.publish_catalogue()
    router.close()
    expected = load_catalogue(settings.models).limits
    assert {field: int(most) for field, most in raw.hgetall(names.LIMITS_KEY).items()} == expected
    assert "tenant_list" not in str(raw.get(names.CATALOGUE_KEY))


def test_a_refusal_says_whose_limit_it_is_and_what_to_do(client: Client, raw: redis.Redis) -> None:
    limit(raw, tenant__acme=2)
    client.submit_many(rows(2))
    with pytest.raises(YardBusy) as caught:
        client.submit(id="J3", prompt="x")
    error = caught.value
    assert (error.code, error.field, error.retryable, error.retry_after) == (
        "too_many_jobs",
        "tenant",
        True,
        1.0,
    )
    assert "the tenant acme has 2 jobs open, its limit is 2" in str(error)
    assert "in 1 s" in str(error.remedy) and "max_open of acme" in str(error.remedy)
    assert client.status("J3") is State.UNKNOWN
    assert client.submit(id="J1", prompt="x") == "J1", "what is in already is no more work"
    end(raw, "J0")
    assert client.submit(id="J3", prompt="x") == "J3"


def test_a_models_limit_stops_its_own_jobs_alone(client: Client, raw: redis.Redis) -> None:
    raw.set(names.CATALOGUE_KEY, '{"task_list": [{"task": "faq"}], "model_list": '
            '[{"model_name": "chat", "tasks": ["faq"]}, {"model_name": "other"}]}')  # fmt: skip
    limit(raw, model__chat=3)
    assert client.submit_many(rows(3, task="faq")).submitted == 3
    with pytest.raises(YardBusy) as caught:
        client.submit_many([*rows(2, 3, model="other"), *rows(2, 5, model="chat")], batch="mixed", wait=0)
    assert caught.value.field == "model"
    assert "3 jobs wait for the model chat, its limit is 3" in str(caught.value)
    assert caught.value.__notes__ == ["2 jobs were accepted before; they stay"]
    assert list(client.jobs("mixed")) == ["J3", "J4"]
    assert client.submit(id="auto", prompt="x") == "auto", "nobody knows yet where it will go"


def test_nearly_full_memory_is_said_as_such(client: Client, raw: redis.Redis) -> None:
    raw.set(names.FULL_KEY, 1)
    with pytest.raises(YardBusy) as caught:
        client.submit(prompt="x")
    assert (caught.value.code, caught.value.field) == ("yard_full", "BATCHYARD_REDIS_URL")
    assert "maxmemory" in str(caught.value.remedy)


def test_redis_full_to_the_last_byte_is_waited_for_like_a_limit(
    client: Client, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FULL_RETRY_AFTER_S", 0.2)
    raw.config_set("maxmemory", "1")
    try:
        with pytest.raises(YardBusy) as caught:
            client.submit_many(rows(3), batch="B", wait=0)
        assert caught.value.code == "yard_full"
        freed = threading.Timer(0.1, raw.config_set, ("maxmemory", "0"))
        freed.start()
        assert client.submit_many(rows(3), batch="B", wait=60).submitted == 3
        freed.join()
    finally:
        raw.config_set("maxmemory", "0")


def test_as_much_as_there_is_room_for_is_taken_and_repeating_is_harmless(
    client: Client, raw: redis.Redis
) -> None:
    limit(raw, tenant__acme=7)
    for _ in range(2):
        with pytest.raises(YardBusy):
            client.submit_many(rows(10), batch="B", chunk_size=4, wait=0)
        assert list(client.jobs("B")) == [f"J{n}" for n in range(7)]
    end(raw, *(f"J{n}" for n in range(5)))
    handle = client.submit_many(rows(10), batch="B", chunk_size=4, wait=0)
    assert (handle.submitted, handle.duplicates) == (3, 7)


def test_a_bad_job_behind_the_limit_is_found_when_its_turn_comes(client: Client, raw: redis.Redis) -> None:
    client.submit(id="taken", prompt="old")
    limit(raw, tenant__acme=3)
    items = [*rows(3), {"id": "taken", "prompt": "new"}, *rows(2, 3)]
    faults: list[tuple[int, str]] = []

    def note(index: int, _item: object, error: YardError) -> None:
        faults.append((index, error.code))

    with pytest.raises(YardBusy):
        client.submit_many(items, batch="B", wait=0)
    with pytest.raises(YardBusy):
        client.submit_many(items, batch="B", wait=0, on_error=note)
    assert list(client.jobs("B")) == ["J0", "J1"]
    end(raw, "J0", "J1")
    with pytest.raises(IdConflict):
        client.submit_many(items, batch="B", wait=0)
    end(raw, "J2")
    handle = client.submit_many(items, batch="B", wait=0, on_error=note)
    assert (handle.submitted, handle.refused) == (2, 1)
    assert faults == [(3, "id_conflict")] * 2


def test_a_pile_waits_for_room_and_goes_on(client: Client, raw: redis.Redis) -> None:
    limit(raw, tenant__acme=5)
    done = threading.Event()

    def work() -> None:
        ended: set[str] = set()
        while not done.wait(0.05):
            found = set(client.jobs("B")) - ended
            end(raw, *found)
            ended |= found

    worker = threading.Thread(target=work)
    worker.start()
    try:
        handle = client.submit_many(rows(12), batch="B", wait=60)
    finally:
        done.set()
        worker.join()
    assert (handle.submitted, handle.duplicates) == (12, 0)
    assert list(client.jobs("B")) == [f"J{n}" for n in range(12)]


def test_one_that_waits_does_not_hold_up_the_loop(settings: Settings, raw: redis.Redis) -> None:
    limit(raw, tenant__acme=2)

    async def scenario() -> None:
        async with AsyncClient(settings.model_copy(update={"tenant": "acme"})) as client:
            with pytest.raises(YardBusy):
                await client.submit_many(rows(3), batch="B", wait=0)
            waiting = asyncio.create_task(client.submit(id="J2", prompt="x", wait=None))
            await asyncio.sleep(0)
            end(raw, "J0")
            assert (await client.result("J0", timeout=0)).ok, "the loop goes on meanwhile"
            assert await waiting == "J2"
            pile = asyncio.create_task(client.submit_many(rows(2, 3), batch="B"))
            end(raw, "J1", "J2")
            assert (await pile).submitted == 2

    asyncio.run(scenario())
