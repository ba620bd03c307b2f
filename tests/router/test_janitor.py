"""The janitor on a real Redis: alone, beside another one, with Redis away, and in a router's process."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from batchyard import names, upkeep
from batchyard.client import Client
from batchyard.settings import Settings
from batchyard.states import State
from local.redis_server import answers, redis_command, start_redis
from router.janitor import Janitor

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


def until(true, what):
    """Wait for a condition that another thread or process brings about; fail after a minute."""
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.02)


@pytest.fixture
def connection(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client
        client.config_set("maxmemory", 0)


def test_one_janitor_works_and_the_other_goes_on_when_it_stops(settings, connection):
    first, second = Janitor(settings), Janitor(settings)
    first.start()
    until(lambda: connection.exists(names.JANITOR_KEY), "the lock")
    assert not second.round()
    first.stop()
    assert not connection.exists(names.JANITOR_KEY)
    assert second.round()


def test_a_round_ends_all_that_is_late(settings, connection, caplog):
    count = upkeep.EXPIRE_PAGE + 1
    with Client(settings) as client, caplog.at_level(logging.INFO):
        client.submit_many(
            ({"id": f"j{i}", "prompt": "x", "deadline": time.time() - 60} for i in range(count)), batch="b"
        )
        assert Janitor(settings).round()
        assert client.batch("b").revoked == count
    assert f"{count} jobs ended: their deadline had passed" in caplog.text


def test_memory_that_runs_out_is_said_until_it_is_there_again(settings, connection, caplog):
    janitor = Janitor(settings)
    for limit, full in [(10**10, 0), (1, 1), (1, 1), (10**10, 0), (0, 0)]:
        connection.config_set("maxmemory", limit)
        janitor.round()
        assert connection.exists(names.FULL_KEY) == full
    said = [record.message for record in caplog.records if "new jobs are" in record.message]
    assert [line.partition("new jobs are ")[2] for line in said] == ["refused", "accepted again"]


def test_rates_are_measured_between_rounds_and_taken_over_by_the_next_janitor(settings, connection):
    first, second = Janitor(settings), Janitor(settings)
    first.round()
    connection.hset(names.DONE_KEY, "m", 50)
    first.round()
    [(model, rate)] = connection.hgetall(names.RATES_KEY).items()
    assert model == "m" and float(rate) > 0
    first.start()
    first.stop()
    connection.hset(names.DONE_KEY, "m", 1_000_000)
    second.round()  # it has not seen when these were done
    assert float(connection.hget(names.RATES_KEY, "m")) == pytest.approx(float(rate), rel=0.01)


def test_a_wrong_counter_is_put_right_in_the_second_round_with_a_line(settings, connection, caplog):
    janitor = Janitor(settings)
    connection.hset(names.WAITING_KEY, mapping={"ghost": 5, "idle": 0})
    janitor.round()
    assert connection.hget(names.WAITING_KEY, "ghost") == "5"
    janitor.round()
    janitor.round()
    assert connection.hgetall(names.WAITING_KEY) == {"idle": "0"}
    assert [r.message for r in caplog.records if "put right" in r.message] == [
        "the counter of jobs waiting for ghost put right: it was 5"
    ]


def test_with_redis_away_it_waits_with_one_line(tmp_path, caplog):
    server = start_redis(tmp_path, append_only=False, password=None)
    again = None
    janitor = Janitor(Settings(redis_url=server.url))
    try:
        with caplog.at_level(logging.INFO):
            janitor._attempt()
            server.stop()
            janitor._attempt()
            janitor._attempt()
            waits = [r for r in caplog.records if "waits" in r.message]
            assert len(waits) == 1 and "yard_unavailable" in waits[0].message
            command = redis_command(tmp_path, server.port, append_only=False, password=None)
            again = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            until(lambda: answers(server.url), "Redis")
            janitor._attempt()
            assert "the janitor goes on" in caplog.text
    finally:
        server.stop()
        if again is not None:
            again.terminate()
            again.wait(PATIENCE)


def test_a_round_that_fails_does_not_end_it(settings, connection, caplog):
    janitor = Janitor(settings)
    connection.hset(names.DONE_KEY, "m", "many")
    janitor._attempt()
    assert "a round of the janitor failed" in caplog.text
    connection.delete(names.DONE_KEY)
    connection.zadd(names.DEADLINES_KEY, {"j": 1})
    janitor._attempt()
    assert not connection.exists(names.DEADLINES_KEY)


def test_it_lives_in_the_routers_process_and_leaves_with_it(settings, connection, tmp_path):
    log = tmp_path / "router.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "router", "worker"],
            cwd=ROOT,
            env=os.environ | {"BATCHYARD_REDIS_URL": settings.url, "OMP_NUM_THREADS": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: process.poll() is not None or connection.exists(names.JANITOR_KEY), "the janitor")
        with Client(settings) as client:
            client.submit({"id": "late", "prompt": "x", "task": "defect_detect", "deadline": time.time() + 1})
            result = client.result("late", timeout=PATIENCE)  # nobody consumes the model's queue
            assert (result.state, result.error.code) == (State.REVOKED, "deadline_exceeded")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, log.read_text()
        assert not connection.exists(names.JANITOR_KEY)
        assert "this router's janitor is at work" in log.read_text()
    finally:
        process.kill()
        process.wait()
