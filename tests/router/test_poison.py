"""A chunk with which routers are lost: real routers that are killed from within, and the way out of it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from batchyard import dead, names, store
from batchyard.client import Client
from batchyard.job import Job
from batchyard.settings import Settings
from batchyard.states import State
from batchyard.wire import task_message
from router.service import LOST_ALONE, Router, load
from router.tasks import Delivery
from tests.router.deadly_router import DEADLY

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


@pytest.fixture
def raw(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.url) as client:
        yield client


def chunk(raw: redis.Redis, *jobs: Job, lost: int) -> str:
    """A chunk of accepted jobs with which routers have been lost, as it comes back to its queue; returns its
    name."""
    for job in jobs:
        document = store.state_document(job.id, State.QUEUED)
        store.run(raw, store.finish([(job.id, job.batch or "", State.QUEUED, document)], 600))
    arguments = {"jobs": [job.wire() for job in jobs], "submitted": time.time()}
    message = task_message(
        names.ROUTE_TASK, "chunk", arguments, names.ROUTE_QUEUE, 0, ignore_result=True,
        headers={"lost": lost},
    )  # fmt: skip
    raw.lpush(names.ROUTE_QUEUE, message)
    return Delivery(json.loads(message)["properties"]["delivery_tag"]).name


def routed_by_one(settings: Settings, client: Client, job_ids: list[str]) -> bool:
    """Run a deadly router until all jobs have left the queue (True), or until it is dead (False)."""
    environ = os.environ | {
        "BATCHYARD_REDIS_URL": settings.url, "OMP_NUM_THREADS": "1", "BATCHYARD_LEASE_SECONDS": "1",
    }  # fmt: skip
    limit = time.monotonic() + PATIENCE
    router = subprocess.Popen([sys.executable, "-m", "tests.router.deadly_router"], cwd=ROOT, env=environ)
    try:
        while router.poll() is None:
            assert time.monotonic() < limit, "it neither dies nor gets through the chunk"
            if State.QUEUED not in client.statuses(job_ids):
                return True
            time.sleep(0.05)
        return False
    finally:
        router.kill()
        router.wait()


def test_the_job_that_kills_its_router_is_found_and_the_others_go_on(
    settings: Settings, raw: redis.Redis
) -> None:
    jobs = [Job(id=f"j{number}", prompt="hello", batch="b") for number in range(8)]
    bad = Job(id="bad", prompt=f"hello, {DEADLY}", batch="b")
    ids = [job.id for job in (*jobs, bad)]
    name = chunk(raw, *jobs[:5], bad, *jobs[5:], lost=2)
    with Client(settings) as client:
        assert not routed_by_one(settings, client, ids)
        assert set(client.statuses([job.id for job in jobs[:5]])) == {State.ROUTED}
        assert store.run(raw, dead.routed_alone(name)) == (5, 1)
        store.run(raw, dead.route_alone(name, 5, LOST_ALONE))  # as if so many had been lost by now
        assert routed_by_one(settings, client, ids)
        assert set(client.statuses([job.id for job in jobs])) == {State.ROUTED}
        error = client.result("bad", timeout=0).error
    assert error is not None
    assert error.code == "poison"
    letter = store.run(raw, dead.letter("bad"))
    assert letter is not None
    assert (letter.queue, letter.batch, letter.attempts) == (names.ROUTE_QUEUE, "b", LOST_ALONE)
    [again] = json.loads(json.loads(letter.message)["body"])[1]["jobs"]
    assert again == bad.wire()


@pytest.fixture
def router(settings: Settings) -> Iterator[Router]:
    router = Router(settings, load(settings))
    yield router
    router.close()


def test_it_goes_on_where_the_last_one_was(router: Router, raw: redis.Redis) -> None:
    bodies = [Job(id=f"j{number}", prompt="hello").wire() for number in range(4)]
    store.run(raw, dead.route_alone("tag", 2, 1))
    outcome = router.route_one_by_one(bodies, time.time(), "tag")
    assert outcome.published == 2, "those before it were published then"
    assert store.run(raw, dead.routed_alone("tag")) == (0, 0)


def test_what_has_no_id_to_be_asked_for_is_dropped(router: Router, raw: redis.Redis) -> None:
    store.run(raw, dead.route_alone("tag", 0, LOST_ALONE))
    good = Job(id="good", prompt="hello").wire()
    outcome = router.route_one_by_one([{"prompt": "no id"}, good], time.time(), "tag")
    assert (outcome.published, outcome.skipped) == (1, 1)
    assert store.run(raw, dead.letters()) == []


def test_a_message_is_known_by_its_tag_however_often_it_was_given_back() -> None:
    assert {Delivery(tag).name for tag in ("abc", "abc-1", "abc-12")} == {"abc"}
    assert [Delivery("abc", lost).suspect for lost in (0, 1, 2, None, "2")] == [
        False, False, True, False, False,
    ]  # fmt: skip
