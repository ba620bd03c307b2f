"""A passing error of the engine: that job is tried again with all it had, its neighbours notice nothing."""

import json
import subprocess
import time
from collections.abc import Iterator

import pytest
import redis

from batchyard import names
from batchyard.client import Client
from batchyard.job import Job
from batchyard.settings import Settings
from tests.waiting import messages
from tests.workers.conftest import Publish, start_worker, stop

REPORT = "Board A17: solder bridge found at U12 between pin 3 and pin 4."


@pytest.fixture
def flaky(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ("--model", "defect_detect", "--slots", "4")
    process = start_worker(settings, "flaky", *arguments, module="tests.workers.flaky_worker")
    yield process
    stop(process)


def test_a_retry_keeps_the_job_whole_and_its_neighbours_untouched(
    flaky: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    job = Job(
        id="flaky-1", prompt=REPORT, batch="b", priority=3, metadata={"k": 1}, time_limit=60,
        deadline=time.time() + 600,
    )  # fmt: skip
    neighbours = [Job(prompt=REPORT, batch="b") for _ in range(6)]
    publish(job, *neighbours)
    result = client.result(job.id, timeout=60)
    assert result.ok, result.error
    assert (result.attempt, result.metadata) == (2, {"k": 1})
    for neighbour in neighbours:
        assert client.result(neighbour.id, timeout=60).attempt == 1
    assert client.batch("b").success == 7


def test_the_message_of_the_next_attempt_has_the_same_options_and_shows_no_prompt(
    settings: Settings, flaky: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    deadline = time.time() + 600
    [job_id] = publish(
        Job(id="flaky-2", prompt=REPORT, batch="b", priority=3, time_limit=60, deadline=deadline)
    )
    with redis.Redis.from_url(settings.url) as raw:
        seen = next(again(raw))
    assert client.result(job_id, timeout=60).ok
    assert REPORT not in json.dumps(seen["headers"])
    assert (seen["headers"]["id"], seen["headers"]["batch"]) == (job_id, "b")
    assert seen["headers"]["timelimit"][0] == 60
    assert seen["headers"]["expires"]
    assert seen["properties"]["priority"] == 3


def again(raw: redis.Redis) -> Iterator[dict]:
    """The message of a second attempt, on the queue or with the worker that waits for its time."""
    while True:
        queued = messages(raw, names.model_queue("defect_detect"), [3])
        held = [json.loads(record)[0] for record in raw.hvals("batchyard:unacked")]
        for message in [*queued, *held]:
            if message["headers"].get("retries") == 1:
                yield message


def test_attempts_end_and_the_error_is_the_engines(
    flaky: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    [job_id] = publish(Job(id="flaky-always", prompt=REPORT, max_retries=2))
    result = client.result(job_id, timeout=60)
    assert result.error is not None
    assert (result.error.code, result.error.message) == ("decode_failed", "the test says so")
    assert result.attempt == 3
