"""Deadlines that pass while jobs run, wait in the engine, and wait in the queue of a worker that is full."""

import subprocess
import time
from collections import Counter

import psutil

from batchyard.client import Client
from batchyard.job import Job
from batchyard.states import State
from tests.workers.conftest import Publish

SLOTS = 8
"""Of the worker in `conftest`."""


def test_a_deadline_ends_a_job_the_same_way_wherever_it_is(
    worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    [child] = psutil.Process(worker.pid).children()
    child.suspend()
    deadline = time.time() + 4

    def job(place: str, number: int, priority: int = 6) -> Job:
        fields = {
            "id": f"{place}-{number}",
            "prompt": "Board A17: solder bridge found at U12 between pin 3 and pin 4.",
            "output": {"type": "grammar", "grammar": "root ::= [0-9] root"},
            "sampling": {"max_tokens": 200},
            "priority": priority,
            "deadline": deadline,
        }
        return Job.model_validate(fields)

    ids = publish(*(job("slots", number) for number in range(SLOTS)))
    while Counter(client.statuses(ids)) != {State.STARTED: SLOTS}:
        assert worker.poll() is None
    # the worker is full: only the one that somebody waits for still gets in
    ids += publish(*(job("queue", number) for number in range(4)), job("interactive", 0, priority=0))
    while Counter(client.statuses(ids)) != {State.STARTED: SLOTS + 1, State.ROUTED: 4}:
        assert worker.poll() is None
    while time.time() < deadline:
        assert worker.poll() is None
    child.resume()
    for job_id in ids:
        result = client.result(job_id, timeout=60)
        assert result.error is not None
        assert (result.state, result.error.code) == (State.REVOKED, "deadline_exceeded")
