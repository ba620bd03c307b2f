"""A Celery worker whose engine is not llama.cpp: an endpoint, a classifier. Real Redis, real servers."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from batchyard.client import Client
from batchyard.job import Job
from batchyard.settings import Settings
from batchyard.states import State
from tests.workers.conftest import Publish, start_worker, stop
from tests.workers.endpoints import KEY, entry
from tests.workers.onnx.tiny_classifier import write_classifier
from tests.workers.remote.scripted import ScriptedServer, answer

TASKS = [{"task": "look", "instruction": "Look.", "sampling": {"max_tokens": 8, "temperature": 0}}]


@pytest.fixture
def serve(settings: Settings, tmp_path: Path) -> Iterator[Any]:
    """Start a worker for one catalogue entry."""
    workers: list[subprocess.Popen[bytes]] = []

    def start(model: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        catalogue = tmp_path / "configs" / "models.yaml"
        catalogue.parent.mkdir()
        catalogue.write_text(json.dumps({"model_list": [model], "task_list": TASKS}), encoding="utf-8")
        monkeypatch.setenv("BATCHYARD_MODELS", str(catalogue))
        monkeypatch.setenv("FAR_KEY", KEY)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        own = settings.model_copy(update={"models": catalogue})
        workers.append(start_worker(own, "other", "--model", model["model_name"]))

    yield start
    for process in workers:
        assert stop(process) == 0


def test_an_endpoint_answers_a_job_of_the_queue(
    llama_server: str,
    settings: Settings,
    serve: Any,
    publish: Publish,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve(entry(llama_server, tasks=["look"]), monkeypatch)
    schema = {
        "type": "object",
        "properties": {"verdict": {"enum": ["pass", "fail"]}},
        "required": ["verdict"],
    }
    output = {"type": "json_schema", "schema": schema}
    jobs = [
        Job.model_validate({"prompt": f"Board {at}", "output": output, "sampling": {"max_tokens": 60}})
        for at in range(6)
    ]
    publish(*jobs, model="far", task="look")
    for job in jobs:
        result = client.result(job.id, timeout=60).value()
        assert result.parsed["verdict"] in ("pass", "fail")
        assert result.provenance.endpoint == llama_server.split("/")[2]
        assert (result.provenance.endpoint_model, result.provenance.model_sha256) == ("inspector", "")
        assert result.confidence is not None
    with redis.Redis.from_url(settings.url) as connection:
        assert not [name for name in connection.scan_iter() if KEY.encode() in (connection.dump(name) or b"")]


def test_a_job_outlives_an_endpoint_that_fails_for_a_while(
    serve: Any, publish: Publish, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer() as server:
        server.script.extendleft([answer(503, "not yet")])
        # it opens at the first failure; Celery's retry comes when it lets one through again
        serve(entry(server.url, allowed_fails=1, cooldown_time=2, max_retries=0), monkeypatch)
        publish(Job(id="patient", prompt="Board"), model="far", task="look")
        result = client.result("patient", timeout=60)
    assert (result.value().text, result.attempt) == ("fine", 2)
    assert len(server.calls) == 2
    assert server.calls[0][2]["messages"][0] == {"role": "system", "content": "Look."}


def test_interactive_jobs_stay_in_the_queue_while_an_endpoint_is_not_asked(
    serve: Any, publish: Publish, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer() as server:
        server.script.extendleft([answer(503, "not yet")])
        serve(entry(server.url, allowed_fails=1, cooldown_time=3, max_retries=0), monkeypatch)
        publish(Job(id="first", prompt="Board"), model="far", task="look")
        while client.status("first") is not State.RETRY:
            pass
        publish(Job(id="waits", prompt="Board"), model="far", task="look")
        while client.status("waits") is not State.STARTED:
            pass
        urgent = publish(*(Job(prompt="Board", priority=0) for _ in range(3)), model="far", task="look")
        attempts = [client.result(job_id, timeout=60).attempt for job_id in ("waits", *urgent)]
    assert attempts == [1, 1, 1, 1]  # nobody was fetched to be turned away


def test_a_job_whose_next_attempt_would_come_after_its_deadline_has_expired(
    serve: Any, publish: Publish, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer() as server:
        server.script[0] = answer(503, "later", Retry_After="3600")
        serve(entry(server.url), monkeypatch)
        publish(Job(id="late", prompt="Board", deadline=time.time() + 1800), model="far", task="look")
        error = client.result("late", timeout=30).error
    assert error is not None
    assert error.code == "deadline_exceeded"
    assert len(server.calls) == 1


def test_a_classifier_answers_a_job_of_the_queue(
    tmp_path: Path, serve: Any, publish: Publish, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classifier(tmp_path / "models")
    serve({"engine": "onnx", "model_name": "kind", "model_path": "models/model.onnx"}, monkeypatch)
    publish(Job(id="one", prompt="bridge at board"), model="kind", task="look")
    result = client.result("one", timeout=60).value()
    assert result.choice == "soldering"
    assert sum(result.choice_probabilities.values()) == pytest.approx(1)
    assert result.provenance.engine.startswith("onnxruntime ")
