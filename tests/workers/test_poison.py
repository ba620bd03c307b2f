"""Jobs that kill: a real worker whose engine aborts for marked ones (its test hook)."""

import json
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import redis

from batchyard import dead, names, store
from batchyard.app import make_app
from batchyard.cli import main
from batchyard.client import Client
from batchyard.job import Job
from batchyard.names import UNACKED_KEY
from batchyard.route import Route
from batchyard.settings import Settings
from batchyard.states import State
from batchyard.wire import task_message
from tests.workers.conftest import Publish, start_worker, stop
from workers.engine.abort_on import VARIABLE

REPORT = "Board A17: solder bridge found at U12 between pin 3 and pin 4."
MARK = "do not touch U99"
QUEUE = names.model_queue("defect_detect")
ARGUMENTS = ("--model", "defect_detect", "--slots", "8")


@pytest.fixture
def raw(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.url) as client:
        yield client


def restarts(settings: Settings) -> int:
    [stats] = make_app(settings).control.inspect().stats().values()
    return int(stats["pool"]["engine"]["restarts"])


def test_a_job_that_aborts_its_engine_is_set_apart_and_can_be_tried_again(
    settings: Settings, raw: redis.Redis, publish: Publish, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, MARK)
    monkeypatch.setenv("BATCHYARD_REDIS_URL", settings.url)
    bad = Job(id="bad", prompt=f"{REPORT} {MARK}", batch="b")
    jobs = [Job(prompt=f"{number}: {REPORT}", batch="b") for number in range(30)]
    worker = start_worker(settings, "risky", *ARGUMENTS)
    try:
        ids = publish(*jobs[:15], bad, *jobs[15:])
        assert all(client.result(job_id, timeout=60).ok for job_id in ids if job_id != "bad")
        error = client.result("bad", timeout=60).error
        assert error is not None
        assert (error.code, error.retryable) == ("poison", False)
        assert restarts(settings) == 2
        while raw.hlen(UNACKED_KEY):
            assert worker.poll() is None
    finally:
        assert stop(worker) == 0
    letter = store.run(raw, dead.letter("bad"))
    assert letter is not None
    assert (letter.kind, letter.exit, letter.attempts) == ("poison", "signal SIGABRT", 1)
    assert letter.worker.startswith("risky@")
    assert json.loads(letter.message)["headers"]["id"] == "bad"
    assert MARK in letter.message
    monkeypatch.delenv(VARIABLE)
    worker = start_worker(settings, "mended", *ARGUMENTS)
    try:
        assert main(["dead", "retry", "bad"]) == 0
        result = client.result("bad", timeout=60)
        assert result.ok, result.error
    finally:
        stop(worker)
    status = client.batch("b")
    assert (status.success, status.failure, status.total) == (31, 0, 0)
    assert len(store.run(raw, store.completed("b", "0", 100))) == 32


def lost(raw: redis.Redis, job: Job, times: int) -> None:
    """A job with which workers have vanished, as it comes back to its queue."""
    route = Route(task="defect_detect", model="defect_detect", by="job", reason="test", policy="1")
    message = task_message(
        names.RUN_TASK, job.id, {"job": job.wire(), "route": route.model_dump()}, QUEUE, 0,
        headers={"lost": times, "batch": "b"},
    )  # fmt: skip
    document = store.state_document(job.id, State.STARTED)
    store.run(raw, store.finish([(job.id, "b", State.STARTED, document)], 600))
    raw.lpush(QUEUE, message)


def test_a_job_with_which_workers_vanish_is_not_run_again_and_those_beside_it_are(
    settings: Settings, raw: redis.Redis, client: Client
) -> None:
    """Whoever was with it in the same workers was lost as often, but did not run alone."""
    raw.set(names.alone_key("killer"), 3)
    for job_id in ("killer", "beside-1", "beside-2"):
        lost(raw, Job(id=job_id, prompt=REPORT), 5)
    worker = start_worker(settings, "careful", *ARGUMENTS)
    try:
        for job_id in ("beside-1", "beside-2"):
            result = client.result(job_id, timeout=60)
            assert (result.ok, result.attempt, result.timings.mean_batch) == (True, 6, 1.0)
        error = client.result("killer", timeout=60).error
        assert error is not None
        assert error.code == "poison"
        assert restarts(settings) == 0
        assert not raw.exists(*(names.alone_key(job_id) for job_id in ("killer", "beside-1", "beside-2")))
    finally:
        stop(worker)
    letter = store.run(raw, dead.letter("killer"))
    assert letter is not None
    assert (letter.exit, letter.attempts) == (None, 6)


def queues_of(inspect: Any) -> list[str] | None:
    """What the worker consumes; None while it does not answer."""
    for queues in (inspect.active_queues() or {}).values():
        return [queue["name"] for queue in queues]
    return None


def engine_after(worker: subprocess.Popen[bytes], before: int) -> psutil.Process:
    """The worker's engine as soon as it is another than `before`."""
    while True:
        assert worker.poll() is None
        for child in psutil.Process(worker.pid).children():
            if child.pid != before:
                return child


def test_a_worker_whose_engine_keeps_dying_leaves_the_jobs_to_others_until_it_is_sound(
    settings: Settings, publish: Publish, client: Client
) -> None:
    broken = start_worker(settings, "broken", *ARGUMENTS)
    other = None
    inspect = make_app(settings).control.inspect([f"broken@{socket.gethostname()}"], timeout=0.3)
    try:
        engine = engine_after(broken, 0)
        for _ in range(3):
            engine.kill()
            engine = engine_after(broken, engine.pid)
        engine.suspend()
        while queues_of(inspect) != []:
            assert broken.poll() is None
        [job_id] = publish(Job(prompt=REPORT))
        other = start_worker(settings, "other", *ARGUMENTS)
        provenance = client.result(job_id, timeout=60).value().provenance
        assert provenance is not None
        assert provenance.worker.startswith("other@")
        engine.resume()
        while queues_of(inspect) != [QUEUE]:
            assert broken.poll() is None
    finally:
        for process in (broken, other):
            if process is not None:
                stop(process)
