"""An embedding model behind a real worker: vectors through Redis, many in one step, errors for the rest."""

import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import yaml
from celery import Celery
from celery.result import AsyncResult

from batchyard.client import Client
from batchyard.job import Job
from batchyard.output import EmbeddingOutput
from batchyard.settings import Settings
from batchyard.vector import read_vector
from tests.engine.tiny_encoder import WIDTH, write_tiny_encoder
from tests.workers.conftest import Publish, start_worker, stop

CATALOGUE = {
    "model_list": [
        {"model_name": "vectors", "model_path": "encoder.gguf", "tasks": ["embed"], "embedding": True,
         "n_slots": 8, "n_batch": 64, "n_ubatch": 64, "n_threads": 1},
    ],
    "task_list": [
        {"task": "embed", "output": {"type": "embedding"}},
        {"task": "query", "instruction": "pin ", "output": {"type": "embedding"}},
    ],
}  # fmt: skip


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "configs").mkdir()
    models = tmp_path / "configs" / "models.yaml"
    models.write_text(yaml.safe_dump(CATALOGUE), encoding="utf-8")
    write_tiny_encoder(tmp_path / "encoder.gguf")
    process = start_worker(settings.model_copy(update={"models": models}), "vectors", "--model", "vectors")
    yield process
    stop(process)


def test_jobs_become_vectors_and_what_cannot_fails_alone(
    settings: Settings, worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    texts = ["solder bridge at u12", "pin 3 open", "no finding", "solder bridge at u12"] * 4
    jobs = [Job(task="embed", prompt=text, batch="b") for text in texts]
    short = Job(prompt="pin 3", output=EmbeddingOutput(type="embedding", dimensions=8))
    long, talk = Job(prompt="pin " * 80), Job(prompt="pin 3", output={"type": "text"})  # type: ignore[arg-type]
    publish(*jobs, short, long, talk, model="vectors", task="embed")
    found = [client.result(job.id, timeout=60).value() for job in jobs]
    vectors = [result.embedding for result in found]
    for result, vector in zip(found, vectors, strict=True):
        assert vector is not None
        assert len(vector) == WIDTH
        assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)
        assert (result.text, result.finish_reason, result.confidence) == ("", "embedding", None)
    assert vectors[0] == pytest.approx(vectors[3], abs=1e-5)
    assert vectors[0] != pytest.approx(vectors[1], abs=0.1)
    cut = client.result(short.id, timeout=60).value().embedding
    assert cut is not None
    assert len(cut) == 8
    codes = [client.result(job.id, timeout=60).error for job in (long, talk)]
    assert [error.code for error in codes if error] == ["prompt_too_long", "output_not_supported"]
    plain = Celery(broker=settings.url, backend=settings.url, set_as_current=False)
    assert read_vector(AsyncResult(jobs[0].id, app=plain).get(timeout=10)["embedding"]) == vectors[0]
    with redis.Redis.from_url(settings.url) as connection:
        stored = json.loads(connection.get(f"celery-task-meta-{jobs[0].id}") or "")
    assert len(stored["result"]["embedding"]) == 4 * math.ceil(4 * WIDTH / 3)


def test_a_task_s_instruction_stands_before_the_text(
    worker: subprocess.Popen[bytes], publish: Publish, client: Client
) -> None:
    [plain] = publish(Job(prompt="pin 3 open"), model="vectors", task="embed")
    [led] = publish(Job(prompt="3 open"), model="vectors", task="query")
    first, second = (client.result(job_id, timeout=60).value() for job_id in (plain, led))
    assert first.embedding == pytest.approx(second.embedding, abs=1e-5)
