"""Images from attach to result: router, worker, engine and Redis are real, the model is tiny but sees."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from batchyard import names
from batchyard.client import Client
from batchyard.settings import Settings
from tests.engine.tiny_model import write_tiny_model
from tests.engine.tiny_vision import LLAVA_POSITIONS, picture, png_file, write_llava
from tests.workers.conftest import ROOT, start_worker, stop

CATALOGUE = """
model_list:
  - {model_name: seeing, model_path: seeing.gguf, mmproj_path: mmproj.gguf, tasks: [look], n_ctx: 256}
task_list:
  - {task: look, instruction: Look at the board., sampling: {max_tokens: 8, temperature: 0}}
"""
ROUTING = """
version: "1"
classifier: null
default: {task: look, model: seeing}
"""


@pytest.fixture
def seeing(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A yard of one model that sees."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/models.yaml").write_text(CATALOGUE)
    (tmp_path / "configs/routing.yaml").write_text(ROUTING)
    write_tiny_model(tmp_path / "seeing.gguf", half=False)
    write_llava(tmp_path / "mmproj.gguf")
    paths = {"models": tmp_path / "configs/models.yaml", "routing": tmp_path / "configs/routing.yaml"}
    ours = settings.model_copy(update=paths)
    router = subprocess.Popen(
        [sys.executable, "-m", "router", "worker"],
        cwd=ROOT,
        env=os.environ
        | {"BATCHYARD_REDIS_URL": settings.url}
        | {f"BATCHYARD_{name.upper()}": str(path) for name, path in paths.items()},
    )
    try:
        worker = start_worker(ours, "seeing", "--model", "seeing")
        yield ours
        stop(worker)
    finally:
        stop(router)


def test_pictures_from_attach_to_result(seeing: Settings, client: Client) -> None:
    board, other = client.attach(picture(1)), client.attach(picture(2))
    broken, lost = client.attach(png_file(56, 56, b"not zlib")), client.attach(picture(3))

    def ask(name: str, *parts: str) -> str:
        content = [
            {"type": "image", "sha256": part} if len(part) == 64 else {"type": "text", "text": part}
            for part in parts
        ]
        return client.submit(id=name, messages=[{"role": "user", "content": content}])

    with redis.Redis.from_url(seeing.url) as connection:
        for name, parts in {
            "one": (board, "What is it?"),
            "twin": (board, "What is it?"),
            "other": (other, "What is it?"),
            "two": (board, "or", other, "?"),
            "text": ("What is it?",),
            "broken": (broken, "What is it?"),
        }.items():
            ask(name, *parts)
        results = {name: client.result(name, timeout=60) for name in ("one", "twin", "other", "two", "text")}
        assert all(result.ok for result in results.values()), results
        tokens = {name: result.usage.prompt_tokens for name, result in results.items() if result.usage}
        assert tokens["one"] == tokens["other"] >= tokens["text"] + LLAVA_POSITIONS
        assert results["one"].text == results["twin"].text != results["other"].text
        assert results["one"].provenance and results["one"].provenance.mmproj_sha256

        failed = client.result("broken", timeout=60)
        assert failed.error and (failed.error.code, failed.error.field) == ("image_corrupt", "messages")
        # once the engine has a picture it is not fetched again; what it then fetches is checked
        connection.set(names.blob_key("default", board), b"other bytes")
        assert client.result(ask("cached", board, "And now?"), timeout=60).ok
        connection.set(names.blob_key("default", lost), b"other bytes")
        error = client.result(ask("lost", lost, "?"), timeout=60).error
        assert error and error.code == "image_corrupt" and "attach" in (error.remedy or "")
