"""Real workers whose slots are all taken: what they fetch beyond that, and what they leave to others."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import yaml

from batchyard import names
from batchyard.app import make_app
from batchyard.client import Client
from batchyard.job import Job
from batchyard.names import UNACKED_KEY
from batchyard.settings import Settings
from batchyard.states import State
from tests.waiting import messages
from tests.workers.conftest import ROOT, Publish, start_worker, stop

REPORT = "Board A17: solder bridge found at U12 between pin 3 and pin 4."


def endless(job_id: str) -> Job:
    """A batch job of random digits that runs for thousands of steps, or until it is cancelled."""
    return Job.model_validate(
        {
            "id": job_id,
            "prompt": REPORT,
            "output": {"type": "grammar", "grammar": "root ::= [0-9] root"},
            "sampling": {"max_tokens": 8000, "temperature": 1.0, "seed": 1},
        }
    )


StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts a worker of four slots in which one job may use 8,192 tokens, with settings of the test's
    own."""
    workers: list[subprocess.Popen[bytes]] = []

    def start_one(**model: object) -> subprocess.Popen[bytes]:
        catalogue = yaml.safe_load((ROOT / "configs/models.yaml").read_text(encoding="utf-8"))
        entry = catalogue["model_list"][0]
        entry |= {"n_ctx": 8192, "model_path": str(ROOT / entry["model_path"]), **model}
        path = tmp_path / "models.yaml"
        path.write_text(yaml.safe_dump(catalogue), encoding="utf-8")
        own = settings.model_copy(update={"models": path})
        workers.append(start_worker(own, "bench", "--model", "defect_detect", "--slots", "4"))
        return workers[-1]

    yield start_one
    for process in workers:
        stop(process)


def await_started(worker: subprocess.Popen[bytes], client: Client, job_ids: list[str]) -> None:
    while set(client.statuses(job_ids)) != {State.STARTED}:
        assert worker.poll() is None


def await_held(worker: subprocess.Popen[bytes], settings: Settings, count: int) -> None:
    """Until so many messages are unacknowledged."""
    with redis.Redis.from_url(settings.url) as raw:
        while raw.hlen(UNACKED_KEY) != count:
            assert worker.poll() is None


def left_in_queue(settings: Settings) -> int:
    with redis.Redis.from_url(settings.url) as raw:
        return len(messages(raw, names.model_queue("defect_detect"), [6]))


def test_an_interactive_job_is_done_while_batch_jobs_have_every_slot(
    settings: Settings, start: StartWorker, publish: Publish, client: Client
) -> None:
    worker = start()
    running = publish(*(endless(f"long-{number}") for number in range(4)))
    await_started(worker, client, running)
    waiting = publish(*(endless(f"more-{number}") for number in range(4)))
    urgent = publish(*(Job(prompt=REPORT, priority=priority) for priority in (0, 2)))
    assert all(client.result(job_id, timeout=60).ok for job_id in urgent)
    assert set(client.statuses(running)) == {State.STARTED}
    assert set(client.statuses(waiting)) == {State.ROUTED}
    await_held(worker, settings, 4)
    assert left_in_queue(settings) == 4
    assert client.cancel(*running, *waiting) == 8


def test_a_worker_holds_no_more_jobs_than_its_engine_wants_to_run(
    settings: Settings, start: StartWorker, publish: Publish, client: Client
) -> None:
    """No job can keep this target, so the engine goes down to one at a time within a dozen of them."""
    worker = start(target_p99_ms=0.001)
    for job_id in publish(*(Job(prompt=REPORT) for _ in range(24))):
        assert client.result(job_id, timeout=60).ok
    long = publish(*(endless(f"long-{number}") for number in range(4)))
    await_started(worker, client, long[:1])
    # the worker has looked for messages since, and had a free slot in Celery's old count
    [urgent] = publish(Job(prompt=REPORT, priority="interactive"))
    assert client.result(urgent, timeout=60).ok
    await_held(worker, settings, 1)
    assert left_in_queue(settings) == 3
    [stats] = make_app(settings).control.inspect().stats().values()
    assert stats["prefetch_count"] == 1
    assert client.cancel(*long) == 4
