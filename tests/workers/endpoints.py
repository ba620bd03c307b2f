"""An endpoint that others wrote, and the catalogue's entry for one."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from local.redis_server import free_ports

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-test-5fd2a7"
START_SECONDS = 60.0


def entry(api_base: str, **settings: Any) -> dict[str, Any]:
    """A catalogue entry, as it stands in a `load` frame."""
    return {
        "engine": "openai", "model_name": "far", "api_base": api_base, "model": "inspector", "n_slots": 4,
        "api_key": "os.environ/FAR_KEY", "dialect": "llama_cpp_python",
    } | settings  # fmt: skip


@contextmanager
def start_llama_server(log: Path) -> Iterator[str]:
    """llama-cpp-python's own server over a starter model; the root of its API."""
    [port] = free_ports(1)
    command = [
        sys.executable, "-m", "llama_cpp.server", "--model", "models/defect_detect.Q4_K_M.gguf",
        "--model_alias", "inspector", "--port", str(port), "--n_ctx", "512", "--n_threads", "1",
        "--api_key", KEY,
    ]  # fmt: skip
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:
        url = f"http://127.0.0.1:{port}/v1"
        _await(url, process, log)
        yield url
    finally:
        process.kill()
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    transport = httpx2.HTTPTransport(retries=12)  # with the client's own back-off between connects
    with httpx2.Client(transport=transport, timeout=START_SECONDS) as client:
        answer = client.get(f"{url}/models", headers={"Authorization": f"Bearer {KEY}"})
    assert process.poll() is None and answer.status_code == 200, log.read_text(encoding="utf-8")
