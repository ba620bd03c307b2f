"""Each request has one last event, whatever happens to it."""

import asyncio
import time
from typing import Any

import pytest

from tests.workers.port.echo import Echo
from workers.port.desk import Desk


class Bench:
    def __init__(self, n_slots: int = 2) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.backend = Echo(n_slots)
        self.desk = Desk(self.backend, self.events.put_nowait)

    def submit(self, name: str, text: str, **request: Any) -> None:
        self.desk.submit({"id": name, "prompt": text} | request)

    async def next(self) -> tuple[str, str, str | None]:
        """The next event but `started`: its operation, id, and error's code."""
        while True:
            event = await asyncio.wait_for(self.events.get(), 60)
            if event["op"] != "started":
                return event["op"], event.get("id", ""), event.get("error", {}).get("code")


def test_an_exception_nobody_foresaw_fails_its_request_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        bench = Bench()
        bench.submit("a", "break")
        bench.submit("b", "fine")
        ends = {await bench.next(), await bench.next()}
        assert ends == {("failed", "a", "internal_error"), ("done", "b", None)}
        assert bench.desk.stats() == {"done": 1, "failed": 1, "running": 0, "waiting": 0, "echo": 1}

    asyncio.run(go())
    assert "ZeroDivisionError" in caplog.text


def test_a_cancel_is_heard_before_the_first_turn_in_line_and_inside() -> None:
    async def go() -> None:
        bench = Bench(n_slots=1)
        bench.submit("early", "hang")
        bench.desk.cancel("early")
        assert await bench.next() == ("failed", "early", "cancelled")
        bench.submit("inside", "hang")
        bench.submit("line", "fine")
        await asyncio.sleep(0)
        assert bench.desk.stats()["waiting"] == 1
        bench.desk.cancel("line")
        assert await bench.next() == ("failed", "line", "cancelled")
        bench.desk.cancel("inside")
        bench.desk.cancel("nobody")
        assert await bench.next() == ("failed", "inside", "cancelled")
        bench.submit("inside", "fine")  # the id is free again
        assert await bench.next() == ("done", "inside", None)

    asyncio.run(go())


def test_a_deadline_ends_who_waits_and_who_runs() -> None:
    async def go() -> None:
        bench = Bench(n_slots=1)
        soon = time.time() + 0.1
        bench.submit("inside", "hang", deadline=soon)
        bench.submit("line", "fine", deadline=soon - 0.05)
        bench.submit("late", "fine", deadline=1.0)
        assert await bench.next() == ("failed", "late", "deadline_exceeded")
        assert {(await bench.next())[1:] for _ in range(2)} == {
            ("line", "deadline_exceeded"),
            ("inside", "deadline_exceeded"),
        }
        bench.submit("far", "fine", deadline=1e15)
        assert await bench.next() == ("done", "far", None)

    asyncio.run(go())


def test_an_id_that_is_inside_is_rejected_and_a_wrong_request_fails() -> None:
    async def go() -> None:
        bench = Bench()
        bench.submit("a", "hang")
        bench.submit("a", "fine")
        assert await bench.next() == ("rejected", "a", "request_invalid")
        bench.desk.submit({"id": "b"})
        assert await bench.next() == ("failed", "b", "prompt_empty")
        bench.desk.submit(7)
        assert await bench.next() == ("failed", "", "request_invalid")
        await bench.desk.close()
        assert bench.events.empty()  # nobody listens any more

    asyncio.run(go())


def test_an_image_is_asked_for_once_by_all_who_wait_for_it() -> None:
    async def go() -> None:
        bench = Bench(n_slots=3)
        for name in "abc":
            bench.submit(name, "image 77")
        assert (await bench.next())[0] == "need_image"
        bench.desk.cancel("a")
        assert await bench.next() == ("failed", "a", "cancelled")
        bench.desk.images.take({"op": "image", "sha256": "77", "data": "cG5n"})
        assert {await bench.next(), await bench.next()} == {("done", "b", None), ("done", "c", None)}
        bench.desk.images.take({"op": "image", "sha256": "77", "data": "cG5n"})  # nobody waits for it
        for answer, code in [({"error": {"code": "image_missing"}}, "image_missing"), ({}, "image_corrupt")]:
            bench.submit("d", "image 78")
            assert (await bench.next())[0] == "need_image"
            bench.desk.images.take({"op": "image", "sha256": "78"} | answer)
            assert await bench.next() == ("failed", "d", code)

    asyncio.run(go())


def test_a_changed_capacity_is_told_once() -> None:
    async def go() -> None:
        bench = Bench()
        bench.backend.capacity = 1
        for name in "ab":
            bench.submit(name, "fine")
        assert [(await bench.next())[0] for _ in range(3)] == ["capacity", "done", "done"]

    asyncio.run(go())
