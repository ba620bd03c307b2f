"""The pool's own decisions, with a hub and an engine that do what the test says; the real ones are used in
`test_worker.py`."""

import json
import time
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from batchyard.catalogue import parse_catalogue
from batchyard.errors import JobFailed, YardUnavailable
from batchyard.job import Job
from batchyard.names import RUN_TASK
from batchyard.route import Route
from workers import pool as pool_module
from workers.blobs import ImageLimits
from workers.outcome import Outcome, Outcomes
from workers.pool import TEST, EnginePool
from workers.pool_job import PoolJob
from workers.yard import Yard

CATALOGUE = {
    "model_list": [{"model_name": "m", "model_path": "m.gguf"}],
    "task_list": [{"task": "t"}],
}


class Engine:
    """Records what it is sent; the test says what it answers."""

    def __init__(self) -> None:
        self.ready, self.unsent, self.info, self.pid, self.write_fd = True, False, {}, 1, -1
        self.sent: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] | None = []
        self.killed = 0

    def fileno(self) -> int:
        return -1

    def flush(self) -> None:
        pass

    def send(self, frame: dict[str, Any]) -> None:
        if "unspeakable" in json.dumps(frame):
            raise ValueError("not to be written")
        self.sent.append(frame)

    def read(self) -> list[dict[str, Any]] | None:
        return self.answers

    def end(self) -> str:
        return "signal SIGSEGV"

    def restart(self) -> None:
        self.ready = False

    def kill(self) -> None:
        self.killed += 1

    @property
    def inside(self) -> list[str]:
        ended = {frame["id"] for frame in self.sent if frame["op"] == "cancel"}
        ids = [frame["request"]["id"] for frame in self.sent if frame["op"] == "submit"]
        return [name.split("#")[0] for name in ids if name not in ended]


class Buried(Yard):
    """A yard that notes who was buried, as long as its Redis is there."""

    def mark_started(self, unit: PoolJob) -> bool:
        return True

    def bury(self, unit: PoolJob, reason: str, death: str | None) -> Outcome:
        away = self.outcomes.buried.pop("Redis is away", None)  # type: ignore[attr-defined]
        if away is not None:
            raise YardUnavailable("gone")
        self.outcomes.buried[unit.job.id] = (reason, death)  # type: ignore[attr-defined]
        return Outcome(error=JobFailed(reason, code="poison"))


class Noted(Outcomes):
    """With a place for those who were buried."""

    def __init__(self) -> None:
        super().__init__()
        self.buried: dict[str, Any] = {}


class Hub:
    def __init__(self) -> None:
        self.soon: list[Any] = []
        self.later: list[tuple[Any, ...]] = []

    def call_soon(self, callback: Any) -> None:
        self.soon.append(callback)

    def call_repeatedly(self, *_: Any) -> Any:
        return self

    def call_later(self, _seconds: float, *call: Any) -> Any:
        self.later.append(call)
        return self

    def cancel(self) -> None:
        pass

    def add_reader(self, *_: Any) -> None:
        pass

    add_writer = remove_writer = remove = add_reader


class App:
    def __init__(self, yard: Yard) -> None:
        self.yard = yard


class Bench:
    """A pool with its surroundings; `outcomes` are what Celery was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = Engine()
        catalogue = parse_catalogue(CATALOGUE, "test")
        nowhere = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
        limits = ImageLimits(1_000_000, 1_000_000)
        outcomes = Noted()
        self.buried = outcomes.buried
        yard = Buried(self.engine, outcomes, catalogue, nowhere, "w", None, 60, 1.0, limits, {"prompt": "x"})  # type: ignore[arg-type]
        self.pool = EnginePool(limit=4, app=App(yard))
        self.outcomes: list[tuple[str, Outcome]] = []
        monkeypatch.setattr(
            EnginePool,
            "_settle",
            lambda _pool, delivery, outcome: self.outcomes.append((delivery.task_id, outcome)),
        )
        self.pool.register_with_event_loop(Hub())

    def deliver(self, job_id: str, prompt: str = "x", timeout: float | None = None) -> Any:
        route = Route(task="t", model="m", by="job", reason="test", policy="1").model_dump()
        body = json.dumps([[], {"job": Job(id=job_id, prompt=prompt).wire(), "route": route}, {}])
        args = (RUN_TASK, job_id, {}, body, "application/json", "utf-8")
        return self.pool.apply_async(
            lambda *_: (0, "", 0.0), args, {}, callback=lambda *_: None,
            accept_callback=lambda *_: None, timeout_callback=lambda *_: None, timeout=timeout,
        )  # fmt: skip

    def die(self) -> None:
        """The engine ends, and a new one comes up."""
        self.engine.answers = None
        self.pool._on_readable()
        self.engine.sent.clear()
        self.engine.ready, self.engine.answers = True, [{"op": "ready"}]
        self.pool._on_readable()

    def pass_test(self) -> None:
        """The engine answers the test that it was given."""
        assert self.engine.inside == [TEST]
        self.engine.sent.clear()
        self.engine.answers = [{"op": "done", "id": TEST, "completion": {}}]
        self.pool._on_readable()

    @property
    def keys(self) -> list[str]:
        """The engine's names of those inside."""
        return [unit.key for unit in self.pool._turns.inside]

    def answer(self, job_id: str, code: str = "prompt_too_long") -> None:
        """The engine fails a job, which ends it."""
        key = next(key for key in self.keys if key.startswith(f"{job_id}#"))
        error = {"code": code, "message": "x", "retryable": False}
        self.engine.answers = [{"op": "failed", "id": key, "error": error}]
        self.pool._on_readable()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_after_a_death_each_runs_alone_and_the_second_death_finds_the_culprit(bench: Bench) -> None:
    for job_id in ("good", "bad"):
        bench.deliver(job_id)
    bench.die()
    assert bench.engine.inside == ["good"]
    bench.deliver("new")
    assert bench.engine.inside == ["good"], "nobody joins a suspect"
    bench.answer("good")
    assert bench.engine.inside == ["good", "new"], "the held ones and the suspects take turns"
    bench.answer("new")
    assert bench.engine.inside == ["good", "new", "bad"]
    bench.deliver("newer")
    bench.die()
    assert bench.buried == {}
    bench.pass_test()
    assert list(bench.buried) == ["bad"]
    assert bench.buried["bad"][1] == "signal SIGSEGV"
    assert [job_id for job_id, _ in bench.outcomes] == ["good", "new", "bad"]
    assert bench.engine.inside == ["newer"]


def test_an_engine_that_dies_of_the_test_too_clears_the_job_and_takes_no_more(bench: Bench) -> None:
    bench.deliver("a")
    bench.die()
    bench.die()
    assert bench.engine.inside == [TEST]
    bench.die()
    assert (bench.buried, bench.outcomes) == ({}, [])
    assert bench.engine.inside == [], "it cools down"
    assert bench.pool.prefetch._paused


def test_an_engine_that_fails_every_pass_gets_a_rest_and_then_a_test(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        bench.deliver(f"j{number}")
        bench.answer(f"j{number}", "decode_failed")
    bench.engine.sent.clear()
    bench.deliver("waits")
    assert bench.engine.inside == []
    ((feed,),) = bench.pool._hub.later[-1:]
    now = time.monotonic() + 6
    monkeypatch.setattr(pool_module.time, "monotonic", lambda: now)
    feed()
    bench.pass_test()
    assert bench.engine.inside == ["waits"]
    assert not bench.pool.prefetch._paused


def test_a_dead_letter_waits_for_redis(bench: Bench) -> None:
    bench.buried["Redis is away"] = True
    bench.deliver("a")
    bench.die()
    bench.die()
    bench.pass_test()
    assert bench.outcomes == []
    ((again, *arguments),) = [call for call in bench.pool._hub.later if len(call) > 1]
    again(*arguments)
    assert [job_id for job_id, _ in bench.outcomes] == ["a"]


def test_while_suspects_run_nothing_comes_in_for_who_leaves(bench: Bench) -> None:
    for job_id in ("a", "b", "c"):
        bench.deliver(job_id)
    limits = []
    bench.die()
    for job_id in ("a", "b", "c"):
        limits.append(bench.pool.num_processes)
        bench.answer(job_id)
    assert [*limits, bench.pool.num_processes] == [3, 2, 1, 4]


def test_celery_is_asked_for_as_many_jobs_as_the_engine_wants(bench: Bench) -> None:
    assert bench.pool.num_processes == 4
    for slots, limit in [(2, 2), (0, 1), (9, 4), (3, 3)]:
        bench.engine.answers = [{"op": "capacity", "slots": slots}]
        bench.pool._on_readable()
        assert bench.pool.num_processes == limit
    bench.die()
    assert bench.pool.num_processes == 4, "a new engine begins with all its slots"


def test_what_came_together_with_ready_is_heard(bench: Bench) -> None:
    bench.engine.answers = [{"op": "capacity", "slots": 1}]  # read while the worker waited for the model
    hub = Hub()
    bench.pool.register_with_event_loop(hub)
    for callback in hub.soon:
        callback()
    assert bench.pool.num_processes == 1


def test_the_time_that_the_engine_names_goes_with_its_error(bench: Bench) -> None:
    bench.deliver("a")
    error = {"code": "endpoint_unavailable", "message": "x", "retryable": True, "retry_after": 7.5}
    bench.engine.answers = [{"op": "failed", "id": bench.keys[0], "error": error}]
    bench.pool._on_readable()
    [(_, outcome)] = bench.outcomes
    assert (outcome.retry_after, outcome.max_retries) == (7.5, 3)


def test_a_time_limit_of_a_suspect_lets_the_next_one_run(bench: Bench) -> None:
    units = [bench.deliver(job_id, timeout=5.0) for job_id in ("a", "b", "c")]
    bench.die()
    bench.pool._on_hard_timeout(units[0], 5.0)
    assert bench.engine.inside == ["b"]


def test_a_second_delivery_is_acknowledged_with_the_first(bench: Bench) -> None:
    bench.deliver("a")
    bench.deliver("a")
    assert bench.engine.inside == ["a"]
    bench.answer("a")
    assert [(job_id, outcome.error is None) for job_id, outcome in bench.outcomes] == [
        ("a", False),
        ("a", True),
    ]


def test_twins_of_a_revoked_job_are_acknowledged(bench: Bench) -> None:
    unit = bench.deliver("a")
    bench.deliver("a")
    unit.terminate()
    assert [(job_id, outcome) for job_id, outcome in bench.outcomes] == [("a", Outcome())]
    assert bench.engine.inside == []


def test_a_job_that_cannot_be_put_into_a_frame_fails_alone(bench: Bench) -> None:
    bench.deliver("a", prompt="unspeakable")
    bench.deliver("b")
    assert [(job_id, type(outcome.error)) for job_id, outcome in bench.outcomes] == [("a", JobFailed)]
    assert bench.engine.inside == ["b"]
    assert list(bench.pool._jobs) == ["b"]


def test_an_answer_that_cannot_be_read_fails_that_job(bench: Bench) -> None:
    bench.deliver("a")
    bench.engine.answers = [{"op": "done", "id": bench.keys[0], "completion": {"text": "x"}}]
    bench.pool._on_readable()
    assert [(job_id, type(outcome.error)) for job_id, outcome in bench.outcomes] == [("a", JobFailed)]
    assert bench.pool._jobs == {}


def test_trouble_with_one_answer_does_not_cost_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job_id in ("a", "b"):
        bench.deliver(job_id)
    keys = bench.keys
    error = {"code": "x", "message": "x", "retryable": False}
    bench.engine.answers = [{"op": "failed", "id": key, "error": error} for key in keys]
    settle = EnginePool._settle

    def lost(*_: Any) -> None:
        raise ConnectionError("Redis has gone")

    monkeypatch.setattr(EnginePool, "_settle", lost)
    with pytest.raises(ConnectionError):
        bench.pool._on_readable()
    monkeypatch.setattr(EnginePool, "_settle", settle)
    bench.pool._hub.soon[-1]()
    assert [job_id for job_id, _ in bench.outcomes] == ["b"]


def test_an_engine_that_hangs_is_ended_though_its_job_was_taken_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = bench.deliver("a", timeout=5.0)
    bench.pool._on_hard_timeout(unit, 5.0)
    bench.pool._watch()
    assert (bench.engine.sent[-1], bench.engine.killed) == ({"op": "stats"}, 0)
    now = time.monotonic() + pool_module.HANG_SECONDS + 1
    monkeypatch.setattr(pool_module.time, "monotonic", lambda: now)
    bench.pool._watch()
    assert bench.engine.killed == 1


def test_an_image_that_redis_does_not_give_is_asked_for_again(bench: Bench) -> None:
    bench.engine.answers = [{"op": "need_image", "sha256": "a" * 64}]
    bench.pool._on_readable()
    assert bench.engine.sent == []
    ((again, sha256),) = bench.pool._hub.later
    assert sha256 == "a" * 64
    bench.pool._hub.later.clear()
    again(sha256)
    assert len(bench.pool._hub.later) == 1
