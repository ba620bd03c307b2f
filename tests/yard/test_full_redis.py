"""A Redis whose memory is full refuses new work, finishes the old, and takes new work again."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from batchyard import names
from batchyard.client import Client
from batchyard.errors import YardUnavailable
from batchyard.settings import Settings
from batchyard.states import State
from local.redis_server import start_redis
from tests.workers.conftest import start_worker, stop

pytestmark = pytest.mark.yard

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
MODEL = "defect_detect"
ROOM = 8_000_000
"""Bytes that an empty yard may grow by."""
BALLAST = "x" * 40_000
"""Travels with every job and its result, so that few jobs fill much."""


def until(true: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.02)


def job(number: int, **fields: object) -> dict[str, object]:
    report = f"Board {number}: solder bridge at U12, pin 3 to pin 4."
    return {"id": f"{number}", "prompt": report, "task": MODEL, "metadata": {"ballast": BALLAST}} | fields


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A yard on a Redis of its own, for its memory is to be taken away."""
    server = start_redis(tmp_path_factory.mktemp("full"), append_only=True, password=None)
    configs = ROOT / "configs"
    yield Settings(
        redis_url=server.url,
        models=configs / "models.yaml",
        routing=configs / "routing.yaml",
        hardware=configs / "hardware.yaml",
    )
    server.stop()


@pytest.fixture(scope="module")
def raw(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.url) as raw:
        yield raw


@pytest.fixture(autouse=True)
def _room_again(raw: redis.Redis) -> Iterator[None]:
    yield
    raw.config_set("maxmemory", 0)


@pytest.fixture(scope="module")
def router(settings: Settings, raw: redis.Redis) -> Iterator[psutil.Process]:
    """A router that is up, with its janitor."""
    environ = os.environ | {"BATCHYARD_REDIS_URL": settings.url, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "router", "worker"], cwd=ROOT, env=environ)
    try:
        until(lambda: raw.exists(names.CATALOGUE_KEY) or process.poll() is not None, "the router")
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


@contextmanager
def worker(settings: Settings, *, ready: bool = True) -> Iterator[psutil.Process]:
    process = start_worker(settings, "full", "--model", MODEL, "--slots", "4", ready=ready)
    try:
        yield psutil.Process(process.pid)
    finally:
        stop(process)


def refused(client: Client, number: int) -> bool:
    """Whether a job is refused now, with an error that says why and that trying again helps."""
    try:
        client.submit(job(number))
    except YardUnavailable as exc:
        assert (exc.code, exc.retryable) == ("yard_full", True)
        assert exc.remedy
        return True
    return False


def fill(client: Client) -> list[str]:
    """Submit jobs until one is refused; returns the ids of those that were accepted."""
    accepted = 0
    while not refused(client, accepted):
        accepted += 1
        assert accepted < 2 * ROOM / len(BALLAST), "Redis takes everything"
    return [str(number) for number in range(accepted)]


def test_what_was_accepted_before_the_refusal_is_finished_and_then_new_work_is_taken(
    settings: Settings, raw: redis.Redis, router: psutil.Process
) -> None:
    with Client(settings) as client:
        raw.config_set("maxmemory", int(raw.info("memory")["used_memory"]) + ROOM)
        accepted = fill(client)
        assert len(accepted) > 50
        with worker(settings, ready=False):  # a full Redis takes no answer to a ping
            results = [client.result(job_id, timeout=PATIENCE) for job_id in accepted]
            assert {result.state for result in results} == {State.SUCCESS}
            # the results hold the ballast, too: room comes when they expire, or are taken away
            for job_id in accepted[len(accepted) // 2 :]:
                raw.delete(names.result_key(job_id))
            until(lambda: not refused(client, 100_000), "new work to be accepted")
            assert client.result("100000", timeout=PATIENCE).ok


def test_without_a_free_byte_everything_that_is_under_way_goes_on(
    settings: Settings, raw: redis.Redis, router: psutil.Process
) -> None:
    with Client(settings) as client, worker(settings) as process:
        (engine,) = process.children()
        engine.suspend()
        routed = [client.submit(job(number)) for number in range(200_000, 200_012)]
        nobody = {"model": "chat", "deadline": time.time() + 3.0}
        overdue = client.submit(job(201_000, **nobody))
        until(lambda: set(client.statuses(routed)) <= {State.ROUTED, State.STARTED}, "the router")
        router.suspend()
        unrouted = [client.submit(job(number)) for number in range(200_100, 200_112)]
        raw.config_set("maxmemory", 1)
        assert refused(client, 202_000)
        engine.resume()
        router.resume()
        for job_id in [*routed, *unrouted]:
            assert client.result(job_id, timeout=PATIENCE).ok, job_id
        error = client.result(overdue, timeout=PATIENCE).error
        assert error is not None and error.code == "deadline_exceeded"
        assert refused(client, 202_000)
        raw.config_set("maxmemory", 0)
        until(lambda: not refused(client, 202_000), "new work to be accepted")
        assert client.result("202000", timeout=PATIENCE).ok
