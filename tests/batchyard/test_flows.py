"""Flows of a queue against a real Redis: they take turns, come back where they were, and are counted."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection

from batchyard import Client, names, store
from batchyard.app import make_app
from batchyard.errors import JobCancelled
from batchyard.names import UNACKED_KEY
from batchyard.settings import Settings
from batchyard.states import State
from batchyard.store import Congestion, Publication
from batchyard.submission import Known, Prepared, prepare
from batchyard.wire import task_message
from tests.batchyard.consumers import take
from tests.waiting import messages

QUEUE = names.model_queue("m")
TTL = 60


@pytest.fixture
def raw(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.url, decode_responses=True) as raw:
        yield raw


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    with make_app(settings).connection_for_read() as connection:
        yield connection


def prepared(job_id: str, batch: str | None = None, **fields: Any) -> Prepared:
    known = Known(models=frozenset({"m"}))
    return prepare({"id": job_id, "prompt": "x", **fields}, known, 1000, batch)


def publication(job_id: str, tenant: str = "default", batch: str = "", priority: int = 6) -> Publication:
    message = task_message(names.RUN_TASK, job_id, {}, QUEUE, priority)
    state = store.state_document(job_id, State.ROUTED)
    return Publication(job_id, QUEUE, priority, tenant, batch, message, state)


def put(raw: redis.Redis, *publications: Publication) -> None:
    assert store.run(raw, store.publish(publications, TTL)) == len(publications)


def waiting(raw: redis.Redis, model: str = "m") -> int:
    return int(raw.hget(names.WAITING_KEY, model) or 0)


def ids(taken: list[Any]) -> list[str]:
    return [message.headers["id"] for message in taken]


def test_tenants_take_turns_and_so_do_the_batches_of_each(connection: Connection, raw: redis.Redis) -> None:
    put(raw, *(publication(f"big-{n}", batch="big") for n in range(6)))
    put(raw, *(publication(f"small-{n}", batch="small") for n in range(2)))
    put(raw, *(publication(f"acme~{n}", "acme", "acme~b") for n in range(3)))
    taken = take(connection, 11, (QUEUE,))
    assert ids(taken) == [
        "big-0", "acme~0", "small-0", "acme~1", "big-1", "acme~2", "small-1",
        *(f"big-{n}" for n in range(2, 6)),
    ]  # fmt: skip
    assert [message.headers["flow"] for message in taken[:2]] == ["default", "acme"]
    assert raw.keys("batchyard:ring*") == raw.keys("batchyard:flow*") == []
    assert waiting(raw) == 0


def test_priority_goes_before_turns(connection: Connection, raw: redis.Redis) -> None:
    put(raw, *(publication(f"a-{n}", batch="a") for n in range(2)))
    put(raw, publication("urgent", batch="b", priority=0))
    assert ids(take(connection, 3, (QUEUE,))) == ["urgent", "a-0", "a-1"]


def test_what_a_message_says_of_its_flow_does_not_count(connection: Connection, raw: redis.Redis) -> None:
    forged = task_message("t", "x", {}, QUEUE, 0, headers={"flow": "acme"})
    raw.lpush(QUEUE, forged)
    [taken] = take(connection, 1, (QUEUE,))
    assert taken.headers["flow"] == ""


def test_a_lapsed_message_comes_back_to_its_flow_and_is_next(
    connection: Connection, settings: Settings, raw: redis.Redis
) -> None:
    put(raw, *(publication(f"a-{n}", batch="a") for n in range(3)), publication("b-0", batch="b"))
    [held] = take(connection, 1, (QUEUE,))
    raw.zadd(f"{UNACKED_KEY}:index", {held.delivery_tag: 1.0})
    held.channel.qos.restore_visible()
    assert waiting(raw) == 4
    with make_app(settings).connection_for_read() as other:
        again = take(other, 4, (QUEUE,))
        assert waiting(raw) == 0
    assert ids(again) == ["a-0", "b-0", "a-1", "a-2"]
    assert [message.headers["lost"] for message in again] == [1, 0, 0, 0]
    assert again[0].headers["flow"] == "default"
    assert again[0].delivery_tag != held.delivery_tag
    assert waiting(raw) == 4, "the other consumer went in order and gave them back"


def test_what_is_given_back_in_order_was_not_lost(connection: Connection, raw: redis.Redis) -> None:
    put(raw, publication("a-0", batch="a"), publication("a-1", batch="a"))
    [held] = take(connection, 1, (QUEUE,))
    held.channel.qos.restore_by_tag(held.delivery_tag)
    assert [message["headers"]["id"] for message in messages(raw, QUEUE)] == ["a-0", "a-1"]
    assert [message["headers"]["lost"] for message in messages(raw, QUEUE)] == [0, 0]
    assert raw.hlen(UNACKED_KEY) == raw.zcard(f"{UNACKED_KEY}:index") == 0


def test_a_message_given_to_the_back_waits_for_its_flow(connection: Connection, raw: redis.Redis) -> None:
    put(raw, publication("a-0", batch="a"), publication("a-1", batch="a"))
    [held] = take(connection, 1, (QUEUE,))
    held.reject(requeue=True)
    assert [message["headers"]["id"] for message in messages(raw, QUEUE)] == ["a-1", "a-0"]


def test_a_tag_that_is_no_pattern_comes_back_as_it_is(connection: Connection, raw: redis.Redis) -> None:
    message = json.loads(task_message("t", "x", {}, QUEUE, 0))
    message["properties"]["delivery_tag"] = "%1-%%"
    raw.lpush(QUEUE, json.dumps(message))
    [held] = take(connection, 1, (QUEUE,))
    held.channel.qos.restore_by_tag(held.delivery_tag)
    [back] = messages(raw, QUEUE)
    assert back["properties"]["delivery_tag"] == "%1-%%-1"


def test_the_queues_length_counts_lists_and_flows(raw: redis.Redis) -> None:
    put(raw, *(publication(f"a-{n}", batch="a") for n in range(3)), publication("b", "acme", "acme~b", 0))
    raw.lpush(names.priority_queue(QUEUE, 9), "x")
    assert store.run(raw, store.queue_lengths([QUEUE, "model.other"])) == {QUEUE: 5, "model.other": 0}


def test_jobs_are_counted_as_waiting_from_their_acceptance_until_a_worker_has_them(
    connection: Connection, raw: redis.Redis
) -> None:
    named = [prepared(f"n-{n}", model="m") for n in range(3)]
    store.run(raw, store.submit(named, TTL))
    assert waiting(raw) == 3
    store.run(raw, store.submit([prepared("free", batch="b")], TTL))
    assert waiting(raw) == 3, "nobody knows where it will go"
    put(raw, *(publication(job.id) for job in named), publication("free", batch="b"))
    assert waiting(raw) == 4
    take(connection, 1, (QUEUE,))
    assert waiting(raw) == 3
    assert int(raw.get(names.open_key("default"))) == 4


def test_a_job_that_ends_before_its_route_is_not_waited_for(raw: redis.Redis) -> None:
    store.run(raw, store.submit([prepared("n", model="m", deadline=2e9)], TTL))
    assert raw.zscore(names.DEADLINES_KEY, "n") == 2e9
    cancelled = store.run(raw, store.cancel(["n", "nobody"], JobCancelled("x"), TTL))
    assert cancelled == 1
    assert waiting(raw) == 0
    assert raw.get(names.open_key("default")) == "0"
    assert raw.zcard(names.DEADLINES_KEY) == 0


def test_a_job_that_goes_elsewhere_than_expected_waits_there(raw: redis.Redis) -> None:
    store.run(raw, store.submit([prepared("n", model="m")], TTL))
    other = publication("n")
    store.run(
        raw, store.publish([Publication("n", "model.o", 6, "default", "", other.message, other.state)], TTL)
    )
    assert (waiting(raw), waiting(raw, "o")) == (0, 1)


def test_a_cancellation_ends_each_job_once(raw: redis.Redis) -> None:
    store.run(raw, store.submit([prepared("a"), prepared("b")], TTL))
    started = ("a", "", State.STARTED, store.state_document("a", State.STARTED))
    store.run(raw, store.finish([started], TTL))
    cancelled = store.run(raw, store.cancel(["a", "b", "a"], JobCancelled("x"), TTL))
    assert cancelled == 2


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({"tenant:*": 3}, Congestion("tenant", "default", 3, 2, 60.0)),
        ({"tenant:*": 100, "tenant:default": 3}, Congestion("tenant", "default", 3, 2, 60.0)),
        ({"tenant:*": 3, "tenant:default": 100}, None),
        ({"model:m": 3}, Congestion("model", "m", 3, 2, 60.0)),
        ({"model:m": 4, "tenant:*": 4}, None),
    ],
)
def test_a_chunk_beyond_a_limit_is_refused_whole(
    raw: redis.Redis, limits: dict[str, int], found: Congestion | None
) -> None:
    store.run(raw, store.submit([prepared("a", model="m"), prepared("b", model="m")], TTL))
    raw.hset(names.LIMITS_KEY, mapping=limits)
    submitted = store.run(raw, store.submit([prepared("c", model="m"), prepared("d", model="m")], TTL))
    assert submitted.congestion == found
    assert raw.exists(names.claim_key("c")) == (found is None)
    again = store.run(raw, store.submit([prepared("a", model="m")], TTL))
    assert again.congestion is None, "what is in already is no more work"


def test_a_refusal_says_when_to_come_back(raw: redis.Redis) -> None:
    raw.hset(names.LIMITS_KEY, "model:m", 1000)
    raw.hset(names.WAITING_KEY, "m", 1000)
    raw.hset(names.RATES_KEY, "m", "10")
    congestion = store.run(raw, store.submit([prepared("a", model="m")], TTL)).congestion
    assert congestion is not None
    assert congestion.retry_after == 5.0


def test_nearly_full_memory_refuses_new_jobs_only(raw: redis.Redis) -> None:
    raw.set(names.FULL_KEY, 1)
    congestion = store.run(raw, store.submit([prepared("a")], TTL)).congestion
    assert congestion is not None
    assert (congestion.kind, congestion.retry_after) == ("memory", 30.0)


def test_ends_are_announced_to_an_auditor_that_is_set_up(raw: redis.Redis, settings: Settings) -> None:
    store.run(raw, store.submit([prepared("a"), prepared("b")], TTL))
    end(raw, "a")
    raw.set(names.AUDITING_KEY, 1)
    end(raw, "b")
    end(raw, "b")
    [(_, entry)] = raw.xrange(names.FINALS_KEY)
    assert (entry["id"], entry["state"]) == ("b", "FAILURE")
    assert raw.get(names.open_key("default")) == "0"
    with Client(settings) as client:
        assert client.status("b") is State.FAILURE


def end(raw: redis.Redis, job_id: str) -> None:
    document = store.state_document(job_id, State.FAILURE)
    store.run(raw, store.finish([(job_id, "", State.FAILURE, document)], TTL))
