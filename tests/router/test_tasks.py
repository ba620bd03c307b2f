"""The router as it is deployed: its own process, fed through Redis by the client and by strangers."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from celery.exceptions import Reject

from batchyard import names
from batchyard.client import Client
from batchyard.errors import YardUnavailable
from batchyard.names import UNACKED_KEY
from batchyard.states import State
from batchyard.wire import task_message
from router import tasks
from router.service import Outcome, Router, load
from tests.waiting import messages

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 60.0


def until(true, what):
    """Wait for a condition that another process brings about; fail after a minute."""
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.02)


@pytest.fixture
def connection(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def process(redis_url, connection, tmp_path):
    log = tmp_path / "router.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "router", "worker"],
            cwd=ROOT,
            env=os.environ
            | {"BATCHYARD_REDIS_URL": redis_url, "OMP_NUM_THREADS": "1", "BATCHYARD_LEASE_SECONDS": "2"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    process.log = log
    try:
        until(lambda: process.poll() is not None or connection.exists(names.CATALOGUE_KEY), "the router")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def waiting(connection, model):
    return len(messages(connection, names.model_queue(model)))


def test_a_batch_is_routed_and_what_is_not_ours_harms_nobody(process, settings, connection):
    strangers = [
        "this is no JSON",
        '{"some": "object"}',
        task_message("somebody.elses", "s1", {"x": 1}, names.ROUTE_QUEUE, 0),
        task_message(names.ROUTE_TASK, "s2", {"jobs": "not a list"}, names.ROUTE_QUEUE, 0),
        task_message(names.ROUTE_TASK, "s3", {}, names.ROUTE_QUEUE, 0),
    ]
    for message in strangers:
        connection.lpush(names.ROUTE_QUEUE, message)
    with Client(settings) as client:
        jobs = [{"id": f"j{i}", "prompt": f"U8{i} has a solder bridge, whispered", "task": "defect_detect"}
                for i in range(20)]  # fmt: skip
        client.submit_many([*jobs, {"id": "hello", "prompt": "hello", "priority": 0}], batch="b")
        ids = [*(job["id"] for job in jobs), "hello"]
        until(lambda: set(client.statuses(ids)) == {State.ROUTED}, "the jobs to be routed")
    assert (waiting(connection, "defect_detect"), waiting(connection, "chat")) == (20, 1)
    until(lambda: connection.hlen(UNACKED_KEY) == 0, "every message to be acknowledged")
    assert connection.llen(names.ROUTE_QUEUE) == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    log = process.log.read_text()
    assert "21 jobs: 21 published" in log
    assert "a message that is no chunk of jobs was dropped" in log
    assert "whispered" not in log, "prompts do not belong into logs"


def test_a_chunk_that_a_dead_router_had_taken_is_routed_once(settings, connection, process):
    jobs = [{"id": f"k{i}", "prompt": "hello"} for i in range(4)]
    with Client(settings) as client:
        process.send_signal(signal.SIGSTOP)
        client.submit_many(jobs, batch="b")
        flow = names.flow_key(names.ROUTE_QUEUE, 6, "default", "b")
        message = connection.rpop(flow)  # as a router takes a chunk; this one dies after publishing one job
        tag = json.loads(message)["properties"]["delivery_tag"]
        connection.hset(UNACKED_KEY, tag, f'[{message}, "6|default|b", "{names.ROUTE_QUEUE}"]')
        connection.zadd(f"{UNACKED_KEY}:index", {tag: time.time()})
        bodies = json.loads(json.loads(message)["body"])[1]["jobs"]
        dead = Router(settings, load(settings))
        dead.route(bodies[:1], time.time())
        dead.close()
        process.send_signal(signal.SIGCONT)
        until(lambda: client.status("k3") is State.ROUTED, "the lease to run out and the chunk to come back")
    assert waiting(connection, "chat") == 4
    until(lambda: connection.hlen(UNACKED_KEY) == 0, "the chunk to be acknowledged")


def test_a_broken_policy_stops_the_router_with_one_clear_line(redis_url, tmp_path):
    path = tmp_path / "configs/routing.yaml"
    path.parent.mkdir()
    path.write_text("version: 1\ndefault: {task: nope, model: chat}\n")
    done = subprocess.run(
        [sys.executable, "-m", "router", "worker"],
        cwd=ROOT,
        env=os.environ | {"BATCHYARD_REDIS_URL": redis_url, "BATCHYARD_ROUTING": str(path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert (
        done.stderr.startswith(f"error: [invalid_config] {path}: version:") and done.stderr.count("\n") == 1
    )


DELIVERY = tasks.Delivery("tag")


class Recorder:
    """Stands in for the router behind the task: notes what it is given, or is away."""

    def __init__(self, away=False):
        self.away = away
        self.given = []

    def route(self, jobs, submitted, flow):
        if self.away:
            raise YardUnavailable("Redis: gone")
        self.given.append((jobs, submitted, flow))
        return Outcome(len(jobs), {}, {}, 0, 0.0)


def test_a_chunk_with_which_routers_were_lost_is_handed_on_by_its_name():
    recorder = Recorder()
    recorder.route_one_by_one = lambda *given: recorder.given.append(given) or Outcome(1, {}, {}, 0, 0.0)
    delivery = tasks.Delivery("tag-2", lost=tasks.LOST_TO_ROUTE_ALONE, flow="acme")
    tasks.run_chunk(recorder, delivery, (), {"jobs": [{"id": "a"}], "submitted": 5})
    assert recorder.given == [([{"id": "a"}], 5.0, "tag", "acme")]


def test_a_chunk_is_handed_on():
    recorder = Recorder()
    delivery = tasks.Delivery("tag-1", flow="acme")
    tasks.run_chunk(recorder, delivery, (), {"jobs": [{"id": "a"}], "submitted": 5})
    assert recorder.given == [([{"id": "a"}], 5.0, "acme")]


@pytest.mark.parametrize(
    "args, kwargs",
    [
        ((1,), {"jobs": [], "submitted": 5}),
        ((), {}),
        ((), {"jobs": [], "submitted": "now"}),
        ((), {"jobs": [], "submitted": float("nan")}),
        ((), {"jobs": {}, "submitted": 5}),
        ((), {"jobs": [{}] * 10_001, "submitted": 5}),
    ],
)
def test_what_is_no_chunk_is_dropped_with_a_line(args, kwargs, caplog):
    recorder = Recorder()
    with caplog.at_level(logging.ERROR):
        tasks.run_chunk(recorder, DELIVERY, args, kwargs)
    assert recorder.given == []
    assert "no chunk of jobs was dropped" in caplog.text


def test_with_redis_away_the_message_goes_back():
    with pytest.raises(Reject) as caught:
        tasks.run_chunk(Recorder(away=True), DELIVERY, (), {"jobs": [{"id": "a"}], "submitted": 5})
    assert caught.value.requeue


@pytest.mark.parametrize("submitted", [True, -1, 10**400, 1e300, float("nan"), float("inf"), "1", None])
def test_a_chunk_without_a_time_is_none_of_ours(submitted):
    assert tasks.chunk_of({"jobs": [], "submitted": submitted}) is None
    assert tasks.chunk_of({"jobs": [], "submitted": 1_700_000_000}) == ([], 1.7e9)
