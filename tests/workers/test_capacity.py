"""Real workers whose slots are all taken: what they fetch beyond that, and what they leave to others."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import yaml

from batchyard import names
from batchyard.app import UNACKED
from batchyard.client import Client
from batchyard.job import Job
from batchyard.settings import Settings
from batchyard.states import State
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


@pytest.fixture
def long_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue in which one job may use 8,192 tokens."""
    catalogue = yaml.safe_load((ROOT / "configs/models.yaml").read_text(encoding="utf-8"))
    model = catalogue["model_list"][0]
    model |= {"n_ctx": 8192, "model_path": str(ROOT / model["model_path"])}
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump(catalogue), encoding="utf-8")
    monkeypatch.setenv("BATCHYARD_MODELS", str(path))


@pytest.fixture
def worker(settings: Settings, long_jobs: None) -> Iterator[subprocess.Popen[bytes]]:
    process = start_worker(settings, "bench", "--model", "defect_detect", "--slots", "4")
    yield process
    stop(process)


def await_started(worker: subprocess.Popen[bytes], client: Client, job_ids: list[str]) -> None:
    while set(client.statuses(job_ids)) != {State.STARTED}:
        assert worker.poll() is None


def await_held(worker: subprocess.Popen[bytes], settings: Settings, count: int) -> None:
    """Until so many messages are unacknowledged."""
    with redis.Redis.from_url(settings.url) as raw:
        while raw.hlen(UNACKED) != count:
            assert worker.poll() is None


def test_an_interactive_job_is_done_while_batch_jobs_have_every_slot(
    settings: Settings, worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    running = publish(*(endless(f"long-{number}") for number in range(4)))
    await_started(worker, client, running)
    waiting = publish(*(endless(f"more-{number}") for number in range(4)))
    urgent = publish(*(Job(prompt=REPORT, priority=priority) for priority in (0, 2)))
    assert all(client.result(job_id, timeout=60).ok for job_id in urgent)
    assert set(client.statuses(running)) == {State.STARTED}
    assert set(client.statuses(waiting)) == {State.ROUTED}
    await_held(worker, settings, 4)
    with redis.Redis.from_url(settings.url) as raw:
        assert raw.llen(names.priority_queue(names.model_queue("defect_detect"), 6)) == 4
    assert client.cancel(*running, *waiting) == 8
