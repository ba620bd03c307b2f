"""A real worker process with a starter model, on the session's Redis."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from batchyard import names, store
from batchyard.app import make_app
from batchyard.client import Client
from batchyard.job import Job
from batchyard.route import Route
from batchyard.settings import Settings
from batchyard.states import State
from batchyard.wire import task_message
from tests.workers.endpoints import start_llama_server

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0

Publish = Callable[..., list[str]]


def wait_for_ping(settings: Settings, name: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the worker answers; fail with its log if it ends before."""
    app = make_app(settings)
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        assert process.poll() is None, "the worker ended while starting"
        if any(key.startswith(f"{name}@") for answer in app.control.ping(timeout=0.5) for key in answer):
            return
    pytest.fail(f"{name} did not answer within {START_SECONDS:g} s")


def start_worker(
    settings: Settings, name: str, *arguments: str, module: str = "workers", ready: bool = True
) -> subprocess.Popen[bytes]:
    """A worker process, ready for jobs unless nobody waits for that."""
    environ = os.environ | {
        "BATCHYARD_REDIS_URL": settings.url,
        "BATCHYARD_LEASE_SECONDS": "3",
        "BATCHYARD_MODELS": str(settings.models),
    }
    command = [sys.executable, "-m", module, "--name", name, "--gpu", "none", "--threads", "1", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environ)
    if not ready:
        return process
    try:
        wait_for_ping(settings, name, process)
    except BaseException:
        process.kill()
        raise
    return process


def stop(process: subprocess.Popen[bytes]) -> int:
    """End a worker as an operator would."""
    process.terminate()
    return process.wait(60)


@pytest.fixture
def worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    process = start_worker(settings, "bench", "--model", "defect_detect", "--slots", "8")
    yield process
    stop(process)


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The root of a real endpoint's API."""
    with start_llama_server(tmp_path_factory.mktemp("server") / "server.log") as url:
        yield url


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def publish(settings: Settings) -> Publish:
    """Put jobs on a model's queue as the router does, without one."""

    def put(*jobs: Job, model: str = "defect_detect", task: str = "defect_detect") -> list[str]:
        route = Route(task=task, model=model, by="job", reason="the test says so", policy="test").model_dump()
        publications = []
        for job in jobs:
            queue = names.model_queue(model)
            message = task_message(
                names.RUN_TASK, job.id, {"job": job.wire(), "route": route}, queue, job.priority,
                expires=job.deadline, time_limit=job.time_limit,
                headers={"batch": job.batch or "", "submitted": time.time(), "routed": time.time()},
            )  # fmt: skip
            state = store.state_document(job.id, State.ROUTED)
            publications.append(
                store.Publication(job.id, queue, job.priority, job.tenant, job.batch or "", message, state)
            )
        with redis.Redis.from_url(settings.url) as connection:
            store.run(connection, store.publish(publications, 600))
        return [job.id for job in jobs]

    return put
