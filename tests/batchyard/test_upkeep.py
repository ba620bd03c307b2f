"""The janitor's operations on a real Redis, also on one whose memory is full."""

import time
from collections.abc import Iterator

import pytest
import redis

from batchyard import names, store, upkeep
from batchyard.client import Client
from batchyard.names import UNACKED_KEY
from batchyard.settings import Settings
from batchyard.states import State
from batchyard.upkeep import EXPIRE_PAGE, GRACE_SECONDS

PAST = 10.0


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as raw:
        yield raw


@pytest.fixture
def full(raw: redis.Redis) -> Iterator[redis.Redis]:
    """Redis when called: from then on it has no memory left."""
    yield raw
    raw.config_set("maxmemory", 0)


def late(job_id: str, since: float = PAST) -> dict[str, object]:
    return {"id": job_id, "prompt": "x", "task": "defect_detect", "deadline": time.time() - since}


def count(raw: redis.Redis, model: str) -> int:
    return int(raw.hget(names.WAITING_KEY, model) or 0)


def test_jobs_past_their_deadline_end_and_everything_that_counts_jobs_knows(
    client: Client, raw: redis.Redis
) -> None:
    more = EXPIRE_PAGE + 3
    client.submit_many((late(f"j{number}") for number in range(more)), batch="b")
    client.submit({"id": "timeless", "prompt": "x", "task": "defect_detect"})
    now = time.time()
    assert store.run(raw, upkeep.expire_due(now, 60)) == (EXPIRE_PAGE, EXPIRE_PAGE)
    assert store.run(raw, upkeep.expire_due(now, 60)) == (3, 3)
    assert store.run(raw, upkeep.expire_due(now, 60)) == (0, 0)
    results = list(client.results("b"))
    assert {(result.state, result.error.code) for result in results} == {(State.REVOKED, "deadline_exceeded")}
    assert len(results) == client.batch("b").revoked == more
    assert results[0].error.remedy and not results[0].error.retryable
    assert client.status("timeless") is State.QUEUED
    assert int(raw.get(names.open_key(names.DEFAULT_TENANT))) == 1
    assert 0 < raw.ttl(names.result_key("j0")) <= 60


def test_what_has_a_result_keeps_it_and_what_is_hardly_late_is_left_alone(
    client: Client, raw: redis.Redis
) -> None:
    now = time.time()
    client.submit_many([late("hardly", GRACE_SECONDS / 2), late("done")], batch="b")
    document = store.state_document("done", State.SUCCESS, {"text": "just in time"})
    store.run(raw, store.finish([("done", "b", State.SUCCESS, document)], 60))
    raw.zadd(names.DEADLINES_KEY, {"done": now - PAST})
    assert store.run(raw, upkeep.expire_due(now, 60)) == (1, 0)
    assert client.result("done", timeout=0).text == "just in time"
    assert client.batch("b").done == 1
    assert raw.zrange(names.DEADLINES_KEY, 0, -1) == [b"hardly"]


def test_a_job_whose_state_has_expired_is_told_to_its_batch(client: Client, raw: redis.Redis) -> None:
    client.submit_many([late("forgotten")], batch="b")
    raw.delete(names.result_key("forgotten"))
    assert store.run(raw, upkeep.expire_due(time.time(), 60)) == (1, 1)
    assert client.batch("b").revoked == 1


def test_the_lock_is_its_owners(raw: redis.Redis) -> None:
    assert store.run(raw, upkeep.hold("a", 3000))
    assert store.run(raw, upkeep.hold("a", 3000))
    assert not store.run(raw, upkeep.hold("b", 3000))
    assert 0 < raw.pttl(names.JANITOR_KEY) <= 3000
    store.run(raw, upkeep.release("b"))
    assert not store.run(raw, upkeep.hold("b", 3000))
    store.run(raw, upkeep.release("a"))
    assert store.run(raw, upkeep.hold("b", 3000))


def test_what_is_said_is_read_again_and_does_not_hold_for_ever(raw: redis.Redis) -> None:
    raw.hset(names.DONE_KEY, "m", 7)
    raw.hset(names.WAITING_KEY, "m", 3)
    store.run(raw, upkeep.say(True, {"m": 2.5, "slow": 0.25}))
    assert 0 < raw.ttl(names.FULL_KEY) <= upkeep.FULL_SECONDS
    assert 0 < raw.ttl(names.RATES_KEY) <= upkeep.RATES_SECONDS
    readings = store.run(raw, upkeep.read())
    assert (readings.full, readings.rates) == (True, {"m": 2.5, "slow": 0.25})
    assert (readings.done, readings.waiting, readings.limit) == ({"m": 7}, {"m": 3}, 0)
    assert readings.used > 100_000
    assert abs(readings.at - time.time()) < 60
    store.run(raw, upkeep.say(False, {}))
    readings = store.run(raw, upkeep.read())
    assert (readings.full, readings.rates) == (False, {})


def test_a_full_redis_lets_the_janitor_work(client: Client, full: redis.Redis) -> None:
    client.submit_many([late("late")], batch="b")
    full.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        full.set("more", 1)
    assert store.run(full, upkeep.hold("a", 3000))
    store.run(full, upkeep.say(True, {"m": 1.0}))
    assert store.run(full, upkeep.read()).full
    assert store.run(full, upkeep.expire_due(time.time(), 60)) == (1, 1)
    assert [result.state for result in client.results("b")] == [State.REVOKED]


def test_a_counter_that_nothing_stands_behind_goes_at_the_second_look(raw: redis.Redis) -> None:
    raw.hset(names.WAITING_KEY, mapping={"ghost": 5, "minus": -2})
    assert store.run(raw, upkeep.settle({"ghost": False, "minus": False}, UNACKED_KEY)) == {"ghost", "minus"}
    assert (count(raw, "ghost"), count(raw, "minus")) == (5, -2)
    assert store.run(raw, upkeep.settle({"ghost": True, "minus": True}, UNACKED_KEY)) == {"ghost", "minus"}
    assert raw.hgetall(names.WAITING_KEY) == {}


@pytest.mark.parametrize("priority", [0, 6, 9])
@pytest.mark.parametrize("ring", [True, False])
@pytest.mark.parametrize("queue", [names.model_queue("m"), names.ROUTE_QUEUE])
def test_a_counter_stays_while_a_message_may_stand_behind_it(
    raw: redis.Redis, queue: str, ring: bool, priority: int
) -> None:
    raw.hset(names.WAITING_KEY, "m", 5)
    raw.lpush(names.ring_key(queue, priority) if ring else names.priority_queue(queue, priority), "x")
    assert store.run(raw, upkeep.settle({"m": True}, UNACKED_KEY)) == frozenset()
    assert count(raw, "m") == 5


def test_a_counter_stays_while_a_router_has_a_chunk(client: Client, raw: redis.Redis) -> None:
    raw.hset(names.WAITING_KEY, "m", 5)
    raw.hset(
        UNACKED_KEY, mapping={"t1": f'[{{}}, "0", "{names.model_queue("m")}"]', "t2": '[{}, "", "route"]'}
    )
    assert store.run(raw, upkeep.settle({"m": True}, UNACKED_KEY)) == frozenset()
    raw.hdel(UNACKED_KEY, "t2")
    assert store.run(raw, upkeep.settle({"m": True}, UNACKED_KEY)) == {"m"}
    assert count(raw, "m") == 0


def test_jobs_that_really_wait_are_not_touched(client: Client, raw: redis.Redis) -> None:
    client.submit_many([{"prompt": "x", "model": "chat"} for _ in range(3)])
    assert count(raw, "chat") == 3
    assert store.run(raw, upkeep.settle({"chat": True}, UNACKED_KEY)) == frozenset()
    assert count(raw, "chat") == 3
