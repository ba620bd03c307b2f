"""One worker process, real Redis, real GGUF: every Celery semantic holds for one job of a running batch."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
import redis
from celery import Celery
from celery.exceptions import TimeLimitExceeded
from celery.result import AsyncResult

from batchyard import names
from batchyard.app import make_app
from batchyard.client import Client
from batchyard.job import Job
from batchyard.names import UNACKED_KEY
from batchyard.settings import Settings
from batchyard.states import State
from batchyard.wire import task_message
from tests.waiting import dead_messages
from tests.workers.conftest import ROOT, Publish, start_worker, stop

REPORT = "Board A17: solder bridge found at U12 between pin 3 and pin 4."
ENDLESS = {"max_tokens": 200, "temperature": 1.0, "seed": 1}
"""With a grammar that never ends: runs until it is stopped or its tokens are used up."""


def endless(job_id: str, **fields: object) -> Job:
    """A job that fills its context: random digits, 200 of them."""
    return Job.model_validate(
        {
            "id": job_id,
            "prompt": REPORT,
            "output": {"type": "grammar", "grammar": "root ::= [0-9] root"},
            "sampling": ENDLESS,
            **fields,
        }
    )


def test_a_plain_celery_client_gets_the_result_knowing_only_the_id(
    settings: Settings, worker: subprocess.Popen[bytes], publish: Publish
) -> None:
    [job_id] = publish(Job(prompt=REPORT, batch="b1", metadata={"line": 4}))
    plain = Celery(broker=settings.url, backend=settings.url, set_as_current=False)
    value = AsyncResult(job_id, app=plain).get(timeout=60)
    assert value["job_id"] == job_id
    assert set(value["parsed"]) == {"verdict", "defect", "ref", "location"}
    assert value["metadata"] == {"line": 4}
    assert value["route"]["model"] == "defect_detect"
    assert len(value["provenance"]["model_sha256"]) == 64
    assert value["usage"]["completion_tokens"] > 0


def test_a_failure_is_an_exception_with_the_reason(
    settings: Settings, worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    long = Job(prompt="bridge at U12 " * 500)
    fine = Job(prompt=REPORT)
    publish(long, fine)
    error = client.result(long.id, timeout=60).error
    assert error is not None
    assert error.code == "prompt_too_long"
    assert error.remedy
    assert client.result(fine.id, timeout=60).ok
    plain = Celery(broker=settings.url, backend=settings.url, set_as_current=False)
    with pytest.raises(Exception, match=r"prompt_too_long|tokens"):
        AsyncResult(long.id, app=plain).get(timeout=10)


def test_revoke_and_time_limit_take_out_one_job_and_leave_its_neighbours(
    settings: Settings, worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    before = {job_id: text_of(client, job_id) for job_id in publish(Job(prompt=REPORT))}
    doomed, slow = endless("doomed"), endless("slow", time_limit=0.05)
    neighbours = [Job(prompt=REPORT) for _ in range(4)]
    publish(doomed, slow, *neighbours)
    make_app(settings).control.revoke(doomed.id, terminate=True)
    assert {text_of(client, job.id) for job in neighbours} == set(before.values())
    assert client.result(doomed.id, timeout=60).state is State.REVOKED
    limited = client.result(slow.id, timeout=60)
    assert limited.error is not None
    assert limited.error.code == "time_limit_exceeded"
    with pytest.raises(TimeLimitExceeded):
        AsyncResult(slow.id, app=make_app(settings)).get(timeout=10)


def text_of(client: Client, job_id: str) -> str:
    text = client.result(job_id, timeout=60).value().text
    assert text is not None
    return text


def test_cancel_of_a_running_job_frees_its_slot(
    worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    [child] = psutil.Process(worker.pid).children()
    child.suspend()
    jobs = [endless(f"long-{number}") for number in range(8)]
    publish(*jobs)
    while set(client.statuses([job.id for job in jobs])) != {State.STARTED}:
        assert worker.poll() is None
    assert client.cancel(*(job.id for job in jobs)) == 8
    child.resume()
    [after] = publish(Job(prompt=REPORT))
    assert client.result(after, timeout=60).ok
    assert set(client.statuses([job.id for job in jobs])) == {State.REVOKED}


def test_an_expired_job_is_not_run(worker: subprocess.Popen[bytes], publish: Publish, client: Client) -> None:
    [late] = publish(Job(prompt=REPORT, deadline=1e9))
    result = client.result(late, timeout=60)
    assert result.error is not None
    assert (result.state, result.error.code) == (State.REVOKED, "deadline_exceeded")


def test_a_deadline_that_passes_in_the_engine_ends_in_the_same_state(
    worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    [child] = psutil.Process(worker.pid).children()
    child.suspend()
    deadline = time.time() + 1
    [late] = publish(endless("late", deadline=deadline))
    while client.status(late) is not State.STARTED or time.time() < deadline:
        assert worker.poll() is None
    child.resume()
    result = client.result(late, timeout=60)
    assert result.error is not None
    assert (result.state, result.error.code) == (State.REVOKED, "deadline_exceeded")


def test_a_retryable_failure_is_tried_again_and_keeps_everything(
    settings: Settings, worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    neighbours = [Job(prompt=REPORT) for _ in range(3)]
    publish(*neighbours)
    [child] = psutil.Process(worker.pid).children()
    jobs = [endless(f"shaken-{number}", batch="shaken", metadata={"n": number}) for number in range(4)]
    child.suspend()
    publish(*jobs)
    child.kill()  # the engine dies with several jobs in it: none is the culprit, all are run again
    for number, job in enumerate(jobs):
        result = client.result(job.id, timeout=120)
        assert result.ok, result.error
        assert result.metadata == {"n": number}
    assert all(client.result(job.id, timeout=60).ok for job in neighbours)


def test_a_single_job_is_not_blamed_for_the_first_death_of_its_engine(
    worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    [child] = psutil.Process(worker.pid).children()
    child.suspend()
    [job_id] = publish(Job(prompt=REPORT))
    while client.status(job_id) is not State.STARTED:
        assert worker.poll() is None
    child.kill()
    assert client.result(job_id, timeout=60).ok


def test_a_result_that_redis_refuses_is_stored_when_it_accepts_again(
    settings: Settings, worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    [child] = psutil.Process(worker.pid).children()
    child.suspend()
    [job_id] = publish(Job(prompt=REPORT))
    while client.status(job_id) is not State.STARTED:
        assert worker.poll() is None
    with redis.Redis.from_url(settings.url) as raw:
        raw.config_resetstat()
        raw.config_set("min-replicas-to-write", 1)
        try:
            child.resume()
            while "errorstat_NOREPLICAS" not in raw.info("errorstats"):
                assert worker.poll() is None
        finally:
            raw.config_set("min-replicas-to-write", 0)
    assert client.result(job_id, timeout=60).ok
    assert worker.poll() is None


def test_what_is_not_ours_on_the_queue_harms_nothing(
    settings: Settings, worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    queue = names.model_queue("defect_detect")
    with redis.Redis.from_url(settings.url) as raw:
        raw.lpush(queue, "this is no JSON")
        raw.lpush(queue, json.dumps({"hello": "world"}))
        raw.lpush(queue, task_message("somebody.elses", "stranger", {}, queue, 0))
        raw.lpush(queue, task_message(names.RUN_TASK, "half", {"job": {"prompt": "x"}}, queue, 0))
        [job_id] = publish(Job(prompt=REPORT))
        assert client.result(job_id, timeout=60).ok
        half = client.result("half", timeout=60)
        assert half.error is not None
        assert half.error.code == "unprocessable_message"
        assert len(dead_messages(raw, queue)) == 2
    assert worker.poll() is None


def test_a_killed_workers_jobs_run_on_the_next_one(
    settings: Settings, publish: Publish, client: Client
) -> None:
    first = start_worker(settings, "first", "--model", "defect_detect", "--slots", "4")
    [child] = psutil.Process(first.pid).children()
    child.suspend()  # the jobs stay in the engine
    ids = publish(*(Job(prompt=REPORT) for _ in range(6)))
    with redis.Redis.from_url(settings.url) as raw:
        while raw.hlen(UNACKED_KEY) < 4:
            assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait(30)
        assert raw.hlen(UNACKED_KEY) == 4
    child.resume()  # it finds its socket closed and ends
    assert psutil.wait_procs([child], timeout=30)[1] == []
    second = start_worker(settings, "second", "--model", "defect_detect", "--slots", "4")
    try:
        assert all(client.result(job_id, timeout=120).ok for job_id in ids)
    finally:
        stop(second)


def test_sigterm_finishes_what_runs_and_leaves_no_child(
    settings: Settings, publish: Publish, client: Client
) -> None:
    process = start_worker(settings, "leaving", "--model", "defect_detect", "--slots", "4")
    [child] = psutil.Process(process.pid).children()
    ids = publish(*(endless(f"last-{number}") for number in range(3)))
    with redis.Redis.from_url(settings.url) as raw:
        while raw.hlen(UNACKED_KEY) < 3:
            assert process.poll() is None
        assert stop(process) == 0
        assert raw.hgetall(UNACKED_KEY) == {}
    assert all(client.result(job_id, timeout=0).ok for job_id in ids)
    assert not child.is_running()


def test_a_truncated_gguf_is_named_and_the_worker_ends_with_status_2(settings: Settings, tmp_path) -> None:
    whole = (settings.models.parent.parent / "models/defect_detect.Q4_K_M.gguf").read_bytes()
    (tmp_path / "configs").mkdir()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    catalogue = "model_list: [{model_name: cut, model_path: cut.gguf}]\ntask_list: [{task: other}]\n"
    (tmp_path / "configs/models.yaml").write_text(catalogue)
    ended = subprocess.run(
        [sys.executable, "-m", "workers", "--model", "cut", "--gpu", "none"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "BATCHYARD_MODELS": str(tmp_path / "configs/models.yaml")}
        | {"BATCHYARD_REDIS_URL": settings.url},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "model_file_invalid" in ended.stderr
    assert "cut.gguf" in ended.stderr
