"""Dead letters in a real Redis: buried once, opened again, bounded."""

import json
from collections.abc import Iterator

import pytest
import redis

from batchyard import dead, names, store
from batchyard.dead import Letter
from batchyard.result import Result
from batchyard.states import State
from batchyard.wire import task_message

QUEUE = "model.m"
TTL = 600


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def message_of(job_id: str, **headers: object) -> str:
    job = {"id": job_id, "prompt": 'say "poison" / 毒', "deadline": 4e9}
    return task_message(names.RUN_TASK, job_id, {"job": job, "route": {}}, QUEUE, 3, headers=dict(headers))


def popped(raw: redis.Redis, message: str) -> str:
    """A message as a consumer has it; returns its tag."""
    tag = str(json.loads(message)["properties"]["delivery_tag"])
    raw.hset("batchyard:unacked", tag, f'[{message}, "3|default|b", "{QUEUE}"]')
    return tag


def letter(job_id: str, **fields: object) -> Letter:
    values = {"id": job_id, "kind": "poison", "job_id": job_id, "batch": "b", "queue": QUEUE}
    return Letter.model_validate(values | {"reason": "it aborts", "exit": "signal SIGABRT"} | fields)


def accept(raw: redis.Redis, *job_ids: str) -> None:
    """Jobs that a worker has started, in batch b."""
    for job_id in job_ids:
        document = store.state_document(job_id, State.STARTED, {"hostname": "w"})
        store.run(raw, store.finish([(job_id, "b", State.STARTED, document)], TTL))
        raw.set(names.claim_key(job_id), "digest b")
        raw.hincrby(names.batch_key("b"), "total", 1)
    raw.set("batchyard:open:default", len(job_ids))


def bury(raw: redis.Redis, one: Letter, *tags: str, message: str = "") -> bool:
    return store.run(raw, dead.bury(one, dead.poison(one.reason), tags, TTL, message))


def result(raw: redis.Redis, job_id: str) -> Result | None:
    (document,) = store.run(raw, store.documents([job_id]))
    return store.result_of(job_id, document)


def test_a_burial_ends_the_job_and_keeps_the_message_as_it_was(raw: redis.Redis) -> None:
    accept(raw, "j")
    message = message_of("j", lost=1)
    assert bury(raw, letter("j", attempts=2), "an-older-tag", popped(raw, message))
    ended = result(raw, "j")
    assert ended is not None
    assert ended.error is not None
    assert (ended.state, ended.error.code, ended.error.retryable) == (State.FAILURE, "poison", False)
    assert ended.attempt == 2
    [kept] = store.run(raw, dead.letters())
    assert (kept.message, kept.exit, kept.id) == (message, "signal SIGABRT", "j")
    assert store.run(raw, store.batch_status("b")).failure == 1
    assert [job_id for _, job_id in store.run(raw, store.completed("b", "0", 10))] == ["j"]
    assert raw.get("batchyard:open:default") == "0"


def test_who_has_ended_or_is_with_another_consumer_is_not_buried(raw: redis.Redis) -> None:
    accept(raw, "done", "elsewhere")
    document = store.state_document("done", State.SUCCESS, {})
    store.run(raw, store.finish([("done", "b", State.SUCCESS, document)], TTL))
    assert not bury(raw, letter("done"), popped(raw, message_of("done")))
    assert not bury(raw, letter("elsewhere"), "tag-that-is-gone")
    assert store.run(raw, dead.letters()) == []
    assert store.run(raw, store.states(["elsewhere"])) == [State.STARTED]


def test_a_retry_opens_the_job_as_if_it_had_never_been_delivered(raw: redis.Redis) -> None:
    accept(raw, "j")
    raw.set(names.alone_key("j"), 3)
    bury(raw, letter("j"), popped(raw, message_of("j", lost=5, retries=2, redelivered=True)))
    [kept] = store.run(raw, dead.letters())
    assert store.run(raw, dead.revive(kept, TTL)) is None
    assert store.run(raw, store.states(["j"])) == [State.ROUTED]
    status = store.run(raw, store.batch_status("b"))
    assert (status.failure, status.done, status.total) == (0, 0, 1)
    assert raw.get("batchyard:open:default") == "1"
    assert raw.zscore("batchyard:deadlines", "j") == 4e9
    assert not raw.exists(names.alone_key("j"))
    again = json.loads(raw.lpop(names.priority_queue(QUEUE, 3)))
    before = json.loads(kept.message)
    assert again["body"] == before["body"]
    assert {name: again["headers"][name] for name in ("lost", "retries", "redelivered")} == {
        "lost": 0, "retries": 0, "redelivered": False,
    }  # fmt: skip
    assert again["properties"]["delivery_tag"] != before["properties"]["delivery_tag"]
    assert raw.llen(names.bell_key(QUEUE)) == 1
    assert store.run(raw, dead.letters()) == []
    assert store.run(raw, dead.revive(kept, TTL)) == "its job is ROUTED, not FAILURE: drop the letter"
    document = store.state_document("j", State.SUCCESS, {})
    store.run(raw, store.finish([("j", "b", State.SUCCESS, document)], TTL))
    assert [job_id for _, job_id in store.run(raw, store.completed("b", "0", 10))] == ["j", "j"]


def test_a_job_that_the_router_died_of_goes_back_to_the_router(raw: redis.Redis) -> None:
    accept(raw, "r")
    body = {"jobs": [{"id": "r", "prompt": "x"}], "submitted": 1.0}
    message = task_message(names.ROUTE_TASK, "route-r-1", body, names.ROUTE_QUEUE, 6, ignore_result=True)
    assert bury(raw, letter("r", queue=names.ROUTE_QUEUE), message=message)
    [kept] = store.run(raw, dead.letters())
    assert store.run(raw, dead.revive(kept, TTL)) is None
    assert store.run(raw, store.states(["r"])) == [State.QUEUED]
    assert raw.llen(names.priority_queue(names.ROUTE_QUEUE, 6)) == 1


@pytest.mark.parametrize("change", ["expired", "dropped", "none of ours"])
def test_what_cannot_be_retried_says_why(raw: redis.Redis, change: str) -> None:
    accept(raw, "j")
    bury(raw, letter("j"), popped(raw, message_of("j")))
    [kept] = store.run(raw, dead.letters())
    if change == "expired":
        raw.delete(names.result_key("j"))
    elif change == "dropped":
        assert store.run(raw, dead.drop(["j"])) == 1
        assert raw.zcard(names.DEAD_INDEX_KEY) == 0
    else:
        kept = kept.model_copy(update={"job_id": None})
    why_not = store.run(raw, dead.revive(kept, TTL))
    assert why_not is not None
    assert {"expired": "expired", "dropped": "dropped", "none of ours": "no job"}[change] in why_not
    assert raw.llen(names.priority_queue(QUEUE, 3)) == 0


def test_bytes_that_are_no_message_are_kept_readably_and_not_at_any_length(raw: redis.Redis) -> None:
    for message in (b'\xff{"half"' + b"x" * 100_000, b'"delivery_tag":"j"'):
        raw.execute_command(*dead.raw_burial("route", message, "no message"))
    newest, oldest = store.run(raw, dead.letters())
    assert (newest.message, newest.kind, newest.job_id) == ('"delivery_tag":"j"', "unprocessable", None)
    assert len({newest.id, oldest.id, "j"}) == 3
    assert oldest.message.startswith('\\xff{"half"xxx')
    assert len(oldest.message) == dead.RAW_BYTES + 3


def test_only_the_newest_are_kept(raw: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "KEPT", 3)
    accept(raw, *(f"j{number}" for number in range(5)))
    for number in range(5):
        job_id = f"j{number}"
        bury(raw, letter(job_id, when=1000.0 + number), popped(raw, message_of(job_id)))
    assert [one.id for one in store.run(raw, dead.letters())] == ["j4", "j3", "j2"]
    assert raw.hlen(names.DEAD_KEY) == 3
    assert store.run(raw, dead.letter("j0")) is None


def test_who_is_routed_alone_is_known_by_place_and_times(raw: redis.Redis) -> None:
    assert store.run(raw, dead.routed_alone("t")) == (0, 0)
    for position, times in [(0, 1), (9, 1), (10, 1), (10, 2)]:
        store.run(raw, dead.route_alone("t", position, times))
    assert store.run(raw, dead.routed_alone("t")) == (10, 2)
    store.run(raw, dead.all_routed("t"))
    assert store.run(raw, dead.routed_alone("t")) == (0, 0)


def test_runs_alone_are_counted_by_job(raw: redis.Redis) -> None:
    assert [store.run(raw, dead.run_alone(job_id)) for job_id in ("a", "a", "b")] == [1, 2, 1]
    assert raw.ttl(names.alone_key("a")) > 0
    store.run(raw, dead.ran_alone("a"))
    assert store.run(raw, dead.run_alone("a")) == 1
