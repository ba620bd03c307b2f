"""The transport against a real Redis: nothing is between popped and recorded; leases; doorbells."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Queue

from batchyard.app import make_app
from batchyard.names import UNACKED_KEY, bell_key, priority_queue, result_key
from batchyard.queue_scripts import RENEW
from batchyard.settings import Settings
from batchyard.transport import read_envelope
from batchyard.wire import task_message
from tests.batchyard.consumers import take
from tests.waiting import dead_messages


@pytest.fixture
def raw(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.url, decode_responses=True) as raw:
        yield raw


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    with make_app(settings).connection_for_read() as connection:
        yield connection


def message(number: int, queue: str = "q", priority: int = 0) -> str:
    return task_message("t", f"id-{number}", {"n": number}, queue, priority)


def test_a_popped_message_is_recorded_until_it_is_acknowledged(
    connection: Connection, raw: redis.Redis
) -> None:
    raw.lpush("q", message(1))
    [taken] = take(connection, 1)
    tag = taken.delivery_tag
    recorded, exchange, queue = json.loads(raw.hget(UNACKED_KEY, tag))
    assert (recorded["headers"]["id"], exchange, queue) == ("id-1", "0", "q")
    assert raw.zscore(f"{UNACKED_KEY}:index", tag) is not None
    taken.ack()
    assert raw.hlen(UNACKED_KEY) == 0
    assert raw.zcard(f"{UNACKED_KEY}:index") == 0


def test_a_consumer_that_never_acknowledges_leaves_no_record(
    connection: Connection, raw: redis.Redis
) -> None:
    raw.lpush("q", message(1))
    take(connection, 1, no_ack=True)
    assert raw.hlen(UNACKED_KEY) == 0


def test_higher_priority_goes_first_and_queues_take_turns(connection: Connection, raw: redis.Redis) -> None:
    for number, queue, priority in [(1, "q", 6), (2, "q", 6), (3, "other", 6), (4, "q", 0)]:
        raw.lpush(priority_queue(queue, priority), message(number, queue, priority))
    taken = [m.headers["id"] for m in take(connection, 4, ("q", "other"))]
    assert taken[0] == "id-4"
    assert set(taken[1:3]) == {"id-1", "id-3"}
    assert taken[3] == "id-2"


def test_what_is_no_message_is_set_aside_and_the_next_one_delivered(
    connection: Connection, raw: redis.Redis
) -> None:
    rubbish = [
        "not json",
        "[1,2]",
        '{"body": 5, "properties": {"delivery_tag": "x"}}',
        '{"delivery_tag": "y"}',
    ]
    for text in [*rubbish, message(1)]:
        raw.lpush("q", text)
    [taken] = take(connection, 1)
    assert taken.headers["id"] == "id-1"
    assert dead_messages(raw, "q") == rubbish
    taken.ack()
    assert raw.hlen(UNACKED_KEY) == 0


def envelope(**changes: Any) -> str:
    """A sound message, but for `changes` to its headers."""
    whole = json.loads(message(1))
    whole["headers"] |= changes
    return json.dumps(whole)


def base64_body(body: str, encoding: str) -> str:
    whole = json.loads(message(1))
    whole["body"], whole["properties"]["body_encoding"] = body, encoding
    return json.dumps(whole)


@pytest.mark.parametrize(
    "poison",
    [
        '{"delivery_tag": "deep", "x": ' + "[" * 5000 + "]" * 5000 + "}",
        envelope(id=None),
        envelope(id=["x"]),
        envelope(task=["x"]),
        envelope(task=None),
        envelope(timelimit=5),
        envelope(timelimit=["a", "b"]),
        envelope(timelimit=[True, None]),
        envelope(retries="x"),
        envelope(retries=-1),
        envelope(x={"__type__": "uuid", "__value__": 5}),
        envelope(x={"__type__": "decimal", "__value__": "x"}),
        envelope(x={"__type__": "base64", "__value__": 5}),
        base64_body("abc", "base64"),
        base64_body("x", "rot13"),
        json.dumps(json.loads(message(1)) | {"headers": [1]}),
    ],
    ids=[
        "deep",
        "no id",
        "id",
        "task",
        "no task",
        "limit",
        "limits",
        "truth",
        "retries",
        "negative",
        "uuid",
        "decimal",
        "base",
        "base64",
        "rot13",
        "headers",
    ],
)
def test_a_message_that_celery_would_stumble_over_is_set_aside(
    connection: Connection, raw: redis.Redis, poison: str
) -> None:
    raw.lpush("q", poison)
    raw.lpush("q", message(1))
    [taken] = take(connection, 1)
    taken.ack()
    assert dead_messages(raw, "q") == [poison]
    assert raw.hlen(UNACKED_KEY) == 0


def test_a_record_that_cannot_be_read_does_not_stop_the_others_from_coming_back(
    connection: Connection, raw: redis.Redis
) -> None:
    raw.lpush("q", message(1))
    [held] = take(connection, 1)
    raw.hset(UNACKED_KEY, "broken", "[" * 5000)
    raw.zadd(f"{UNACKED_KEY}:index", {"broken": 1.0, held.delivery_tag: 2.0})
    held.channel.qos.restore_visible()
    assert raw.llen("q") == 1
    assert raw.hlen(UNACKED_KEY) == 0
    assert len(dead_messages(raw, "unacked")) == 1


def test_a_message_whose_lease_ended_is_delivered_again_and_marked(
    settings: Settings, connection: Connection, raw: redis.Redis
) -> None:
    raw.lpush("q", message(1))
    [held] = take(connection, 1)
    channel = held.channel
    channel.qos.restore_visible(num=10, interval=1)
    assert raw.llen("q") == 0, "the lease has not ended"
    raw.zadd(f"{UNACKED_KEY}:index", {held.delivery_tag: 1.0})
    assert raw.eval(RENEW, 1, f"{UNACKED_KEY}:index", held.delivery_tag) == []
    channel.qos.restore_visible(num=10, interval=1)
    assert raw.llen("q") == 0, "the lease was renewed"
    raw.zadd(f"{UNACKED_KEY}:index", {held.delivery_tag: 1.0})
    channel.qos.restore_visible(num=10, interval=1)
    with make_app(settings).connection_for_read() as other:
        [again] = take(other, 1)
        assert again.headers["id"] == "id-1"
        assert (again.headers["redelivered"], again.headers["lost"]) == (True, 1)
        held.ack()
        assert raw.eval(RENEW, 1, f"{UNACKED_KEY}:index", held.delivery_tag) == [held.delivery_tag]
        assert raw.hlen(UNACKED_KEY) == 1, "who lost it cannot acknowledge it for the one who has it now"
        again.ack()
        assert raw.hlen(UNACKED_KEY) == 0


def test_cancelled_tasks_are_dropped_without_going_to_a_consumer(
    connection: Connection, raw: redis.Redis
) -> None:
    for number in range(2500):
        raw.lpush("q", message(number))
        if number < 2499:
            raw.set(result_key(f"id-{number}"), '{"status": "REVOKED", "result": null}')
    [taken] = take(connection, 1)
    assert taken.headers["id"] == "id-2499"
    assert raw.llen("q") == 0
    assert raw.hlen(UNACKED_KEY) == 1


Limit = Callable[..., "Limited"]


@pytest.fixture
def limit(settings: Settings) -> Iterator[Limit]:
    """Makes a limited consumer."""
    with contextlib.ExitStack() as stack:

        def make(*, count: int, extra: int) -> Limited:
            app = make_app(settings, interactive_extra=extra)
            return Limited(stack.enter_context(app.connection_for_read()), count)

        yield make


class Limited:
    """A consumer of `q` with a prefetch count, and with room for interactive messages beyond it."""

    def __init__(self, connection: Connection, count: int) -> None:
        self.connection = connection
        self.channel = self.connection.channel()
        self.channel.basic_qos(prefetch_count=count)
        self.held: list[Any] = []
        consumer = Consumer(
            self.channel, [Queue("q", exchange="", routing_key="q")], on_message=self.held.append,
            accept=["json"], auto_declare=False,
        )  # fmt: skip
        consumer.consume()

    @property
    def ids(self) -> list[str]:
        return [message.headers["id"] for message in self.held]

    def take_until(self, count: int) -> None:
        end = time.monotonic() + 20
        while len(self.held) < count:
            assert time.monotonic() < end, f"only {self.ids} came"
            with contextlib.suppress(TimeoutError):
                self.connection.drain_events(timeout=0.05)

    def end(self, job_id: str) -> None:
        self.held.pop(self.ids.index(job_id)).ack()


def push(raw: redis.Redis, number: int, priority: int) -> None:
    raw.lpush(priority_queue("q", priority), message(number, "q", priority))


def test_a_full_consumer_takes_a_few_interactive_messages_more_and_no_others(
    limit: Limit, raw: redis.Redis
) -> None:
    limited = limit(count=2, extra=1)
    for number in range(4):
        push(raw, number, 6)
    limited.take_until(2)
    push(raw, 10, 3)
    push(raw, 11, 0)
    push(raw, 12, 2)
    limited.take_until(3)
    assert limited.ids == ["id-0", "id-1", "id-11"]
    assert not limited.channel.qos.can_consume(), "its extra place is taken"
    limited.end("id-11")
    limited.take_until(3)
    assert limited.ids == ["id-0", "id-1", "id-12"]
    limited.end("id-0")
    assert not limited.channel.qos.has_room(), "two are held, and the third place is for interactive ones"
    limited.end("id-1")
    limited.take_until(2)
    assert limited.ids == ["id-12", "id-10"]
    assert raw.llen(priority_queue("q", 6)) == 2


def test_without_extra_places_a_full_consumer_looks_for_nothing(limit: Limit, raw: redis.Redis) -> None:
    limited = limit(count=1, extra=0)
    push(raw, 0, 6)
    limited.take_until(1)
    push(raw, 1, 0)
    assert not limited.channel.qos.can_consume()


def test_a_full_consumer_that_found_nothing_looks_again_later(limit: Limit, raw: redis.Redis) -> None:
    limited = limit(count=1, extra=1)
    push(raw, 0, 6)
    limited.take_until(1)
    with pytest.raises(TimeoutError):
        limited.connection.drain_events(timeout=0.01)
    before = limited.channel.qos.peek_at
    assert before > 0
    push(raw, 1, 1)
    limited.take_until(2)
    assert limited.ids == ["id-0", "id-1"]


def test_a_message_on_its_way_is_read_though_the_count_falls(limit: Limit, raw: redis.Redis) -> None:
    limited = limit(count=2, extra=0)
    push(raw, 0, 6)
    limited.take_until(1)
    push(raw, 1, 6)
    limited.connection.transport.cycle.on_poll_start()  # the pop is sent
    limited.channel.basic_qos(prefetch_count=1)
    limited.take_until(2)
    assert limited.ids == ["id-0", "id-1"]
    assert not limited.channel.qos.can_consume()


def test_a_stock_publisher_rings_through_our_transport(settings: Settings, raw: redis.Redis) -> None:
    app = make_app(settings, task_default_queue="q")
    app.send_task("t", kwargs={"n": 1})
    assert raw.llen("q") == 1
    assert raw.llen(bell_key("q")) == 1


def test_the_bell_never_grows_beyond_its_limit(settings: Settings, raw: redis.Redis) -> None:
    app = make_app(settings, task_default_queue="q")
    for _ in range(70):
        app.send_task("t")
    assert raw.llen("q") == 70
    assert raw.llen(bell_key("q")) == 64


def test_an_envelope_without_its_parts_is_none() -> None:
    whole = json.loads(message(1))
    assert read_envelope(json.dumps(whole).encode()) == whole
    for part in ("body", "properties"):
        cut = {key: value for key, value in whole.items() if key != part}
        assert read_envelope(json.dumps(cut).encode()) is None
    assert read_envelope(b"\xff") is None
