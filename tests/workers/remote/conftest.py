"""Servers for the endpoint's child: a real one that others wrote, and one that says what it is told."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local.redis_server import free_ports
from tests.workers.child import ENDS, Child
from tests.workers.remote.scripted import ScriptedServer
from workers.port.desk import Desk
from workers.remote.backend import Chances, RemoteBackend
from workers.remote.loader import load

ROOT = Path(__file__).resolve().parents[3]
KEY = "sk-test-5fd2a7"
START_SECONDS = 60.0


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama-cpp-python's own server over a starter model; the root of its API."""
    [port] = free_ports(1)
    log = tmp_path_factory.mktemp("server") / "server.log"
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


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server whose answers the test writes."""
    with ScriptedServer() as server:
        yield server


def entry(api_base: str, **settings: Any) -> dict[str, Any]:
    """A catalogue entry, as it stands in a `load` frame."""
    return {
        "engine": "openai", "model_name": "far", "api_base": api_base, "model": "inspector", "n_slots": 4,
        "api_key": "os.environ/FAR_KEY", "dialect": "llama_cpp_python",
    } | settings  # fmt: skip


def remote_child(api_base: str, environ: Mapping[str, str] | None = None, **settings: Any) -> Child:
    """A child for an endpoint, not yet ready."""
    own = {"FAR_KEY": KEY, "OPENAI_ORG_ID": "not-for-this-one"} | dict(environ or {})
    return Child("workers.remote", entry(api_base, **settings), own)


class Inside:
    """The child's inside without its process: the desk over a real endpoint, in the test's own loop."""

    def __init__(self, backend: RemoteBackend, now: list[float], pauses: list[float]) -> None:
        self.backend = backend
        self.now = now
        self.pauses = pauses
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.desk = Desk(backend, self.events.put_nowait)

    def submit(self, name: str, **request: Any) -> None:
        """Submit a request for some text."""
        self.desk.submit({"id": name, "messages": [{"role": "user", "content": "板 A17"}]} | request)

    async def end(self) -> dict[str, Any]:
        """The next event that ends a request."""
        while True:
            event = await asyncio.wait_for(self.events.get(), 60)
            if event["op"] in ENDS:
                return event

    async def ask(self, **request: Any) -> dict[str, Any]:
        """The completion of one request, or its error."""
        self.submit("one", **request)
        event = await self.end()
        found: dict[str, Any] = event.get("completion") or event["error"]
        return found


@asynccontextmanager
async def inside(api_base: str, **settings: Any) -> AsyncIterator[Inside]:
    """The inside of a child for an endpoint. Its pauses take no time, and its clock stands still."""
    now, pauses = [0.0], []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    chances = Chances(clock=lambda: now[0], dice=lambda: 0.5, sleep=sleep)
    backend = await load(entry(api_base, **settings), {"FAR_KEY": KEY}, chances)
    desk = Inside(backend, now, pauses)
    try:
        yield desk
    finally:
        await desk.desk.close()
        await backend.close()
