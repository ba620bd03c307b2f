"""What is sampled of a yard, on a real Redis; what is made of the samples and of the jobs' outcomes."""

import os
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from batchyard import names, store
from batchyard.client import Client
from batchyard.errors import JobFailed
from batchyard.settings import Settings
from batchyard.states import State
from benchmarks.footprint import kind_of, process_footprint, redis_footprint
from benchmarks.growth import body_of, trends
from benchmarks.steady import LOST_AFTER_S, SHARES, Sent, Tally, Traffic


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as raw:
        yield raw


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (names.result_key("acme~j-1"), "celery-task-meta"),
        (names.claim_key("acme~j-1"), "batchyard:claim"),
        (names.batch_key("b"), "batchyard:batch"),
        (names.batch_jobs_key("b"), "batchyard:batch-jobs"),
        (names.batch_done_key("b"), "batchyard:batch-done"),
        (names.flow_key("model.m", 6, "acme", "acme~b"), "batchyard:flow"),
        (names.ring_key("model.m", 6), "batchyard:ring"),
        (names.open_key("acme"), "batchyard:open"),
        (names.bell_key("route"), "batchyard:bell"),
        ("batchyard:unacked:index", "batchyard:unacked:index"),
        (names.WAITING_KEY, "batchyard:waiting"),
        (names.priority_queue("model.m", 6), "model.m"),
        ("_kombu.binding.reply.celery.pidbox", "_kombu.binding"),
        ("a1b2-c3.reply.celery.pidbox", ".reply.celery.pidbox"),
    ],
)
def test_keys_of_a_kind_are_counted_together(key: str, kind: str) -> None:
    assert kind_of(key) == kind


def test_redis_is_read_by_kinds(client: Client, raw: redis.Redis) -> None:
    client.submit_many([{"prompt": "x"} for _ in range(7)], batch="b")
    raw.zadd(names.DEADLINES_KEY, {"a": 1, "b": 2})
    found = redis_footprint(raw)
    assert (found["keys celery-task-meta"], found["keys batchyard:claim"]) == (7, 7)
    assert (found["elements batchyard:batch-jobs"], found["elements batchyard:deadlines"]) == (7, 2)
    assert found["elements batchyard:flow"] == 1
    assert "elements celery-task-meta" not in found
    assert found["used memory"] > 100_000
    with redis.Redis.from_url(client.settings.url) as other:
        other.ping()
        assert redis_footprint(raw)["connections"] == found["connections"] + 1


def test_processes_are_read_by_name() -> None:
    before = process_footprint({"me": os.getpid()})
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    descriptor = os.dup(0)
    after = process_footprint({"me": os.getpid()})
    os.close(descriptor)
    release.set()
    thread.join()
    assert after["threads me"] == before["threads me"] + 1
    assert after["descriptors me"] == before["descriptors me"] + 1
    assert after["memory me"] > 1e6


def test_a_reading_that_comes_late_was_nothing_before() -> None:
    samples = [
        (10.0 * n, {"connections": 5.0} | ({"keys new": n - 20.0} if n > 20 else {})) for n in range(40)
    ]
    found = {one.name: one for one in trends(samples)}
    assert found["keys new"].grows and not found["connections"].grows
    body = body_of(list(found.values()), samples, Tally(unexpected=["late x: lost_it"]))
    assert "GROWS" in body and "not moving: connections" in body
    assert body.splitlines()[-2].startswith("1 of 2 readings grow, 1 jobs ended unexpectedly, 0 not at all")


def finish(raw: redis.Redis, job_id: str, state: State) -> None:
    document = store.state_document(job_id, state, {"text": "x"})
    if state is not State.SUCCESS:
        document = store.failure_document(job_id, state, JobFailed("x", "no_reason"))
    store.run(raw, store.finish([(job_id, "", state, document)], 60))


def test_traffic_has_every_kind_and_sees_what_becomes_of_it(
    client: Client, raw: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHARES, "asked", 0.0)  # it waits for its result
    traffic = Traffic(client, raw, settings, ["a", "b", "c"], seed=1)
    traffic.turn(100)
    traffic.turn(100)
    kinds = {sent.kind for sent in traffic._sent}
    assert kinds == set(SHARES) - {"asked"}
    assert client.status(next(s.id for s in traffic._sent if s.kind == "cancelled")) is State.REVOKED
    late = [sent.id for sent in traffic._sent if sent.kind == "late"]
    assert raw.zcard(names.DEADLINES_KEY) == len(late)
    for sent in list(traffic._sent):
        finish(raw, sent.id, State.SUCCESS)
    traffic.look(0.0)
    assert traffic.under_way == 0 and not traffic.tally.unexpected and not traffic.tally.lost
    assert {kind for kind, _ in traffic.tally.outcomes} == kinds


def test_what_ends_as_it_may_not_or_not_at_all_is_named(
    client: Client, raw: redis.Redis, settings: Settings
) -> None:
    traffic = Traffic(client, raw, settings, ["a"], seed=1)
    now = time.monotonic()
    for job_id, age in [("wrong", 1.0), ("slow", 1.0), ("lost", LOST_AFTER_S)]:
        client.submit({"id": job_id, "prompt": "x"})
        traffic._sent.append(Sent("single", job_id, now - age))
    finish(raw, "wrong", State.FAILURE)
    traffic.look(0.5)
    assert traffic.tally.unexpected == ["single wrong: no_reason"]
    assert traffic.tally.lost == ["single lost: QUEUED"]
    assert traffic.under_way == 1
