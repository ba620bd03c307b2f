"""The endpoint's child, as a process and without one, and a server that says what it is told."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.workers.child import ENDS, Child
from tests.workers.endpoints import KEY, entry
from tests.workers.remote.scripted import ScriptedServer
from workers.port.desk import Desk
from workers.remote.asker import Chances
from workers.remote.backend import RemoteBackend
from workers.remote.loader import load


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server whose answers the test writes."""
    with ScriptedServer() as server:
        yield server


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
        self.capacities: list[int] = []
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.desk = Desk(backend, self.events.put_nowait)

    def submit(self, name: str, **request: Any) -> None:
        """Submit a request for some text."""
        self.desk.submit({"id": name, "messages": [{"role": "user", "content": "板 A17"}]} | request)

    async def end(self) -> dict[str, Any]:
        """The next event that ends a request."""
        while True:
            event = await asyncio.wait_for(self.events.get(), 60)
            if event["op"] == "capacity":
                self.capacities.append(event["slots"])
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
    """The inside of a child for an endpoint. On its clock only pauses take time, and they take no other."""
    now, pauses = [0.0], []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)
        now[0] += seconds

    chances = Chances(clock=lambda: now[0], dice=lambda: 0.5, sleep=sleep)
    backend = await load(entry(api_base, **settings), {"FAR_KEY": KEY}, chances)
    desk = Inside(backend, now, pauses)
    try:
        yield desk
    finally:
        await desk.desk.close()
        await backend.close()
