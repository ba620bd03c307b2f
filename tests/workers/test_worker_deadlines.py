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
    deadline = time.time() + 2
    places = {"slots": (SLOTS, 6), "queue": (4, 6), "interactive": (1, 0)}
    jobs = [
        Job.model_validate(
            {
                "id": f"{place}-{number}",
                "prompt": "Board A17: solder bridge found at U12 between pin 3 and pin 4.",
                "output": {"type": "grammar", "grammar": "root ::= [0-9] root"},
                "sampling": {"max_tokens": 200},
                "priority": priority,
                "deadline": deadline,
            }
        )
        for place, (count, priority) in places.items()
        for number in range(count)
    ]
    ids = publish(*jobs)
    while time.time() < deadline:
        held = Counter(client.statuses(ids))
        assert worker.poll() is None
    assert held == {State.STARTED: SLOTS + 1, State.ROUTED: 4}
    child.resume()
    for job_id in ids:
        result = client.result(job_id, timeout=60)
        assert result.error is not None
        assert (result.state, result.error.code) == (State.REVOKED, "deadline_exceeded")
