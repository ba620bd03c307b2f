"""Every request of a child from its `submit` to its one last event: ids, slots, deadlines, cancels.

It knows requests and completions, neither the socket nor how an answer comes about.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from workers.engine.completion import Completion
from workers.engine.errors import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    REQUEST_INVALID,
    EngineError,
)
from workers.engine.request import EngineRequest
from workers.port.backend import Backend
from workers.port.images import ImageSource
from workers.port.slots import Slots

Event = dict[str, Any]
FOREVER: Final = 7 * 86400.0
"""Seconds; an event loop cannot wait for a deadline thousands of years away."""
log = logging.getLogger(__name__)


class Desk:
    """The requests of one backend. `emit` takes the port's events: started, done, failed, rejected,
    need_image, and capacity where the backend's has changed.
    """

    def __init__(
        self, backend: Backend, emit: Callable[[Event], None], *, wall: Callable[[], float] = time.time
    ) -> None:
        self._backend = backend
        self._emit = emit
        self._wall = wall
        self._slots = Slots(backend.n_slots)
        self.images = ImageSource(emit)
        self._inside: dict[str, asyncio.Task[Completion]] = {}
        self._done = 0
        self._failed = 0
        self._closed = False
        self._told = backend.n_slots
        self._tell_capacity()

    def submit(self, frame: Any) -> None:
        """Take a request in; one that is wrong fails at once. An id that is inside already is `rejected`:
        `failed` would end the request that has it.
        """
        name = frame.get("id") if isinstance(frame, dict) else None
        name = name if isinstance(name, str) else ""
        if name in self._inside:
            why = EngineError(REQUEST_INVALID, f"the id {name!r} is already in the engine", field="id")
            self._emit({"op": "rejected", "id": name, "error": why.to_frame()})
            return
        try:
            request = EngineRequest.parse(frame, images=self._backend.sees)
        except EngineError as error:
            self._fail(name, error)
            return
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self._inside[name] = task
        # not the task's own code: one that is cancelled before its first turn runs none of it
        task.add_done_callback(partial(self._finish, name))

    def cancel(self, name: str) -> None:
        """Take a request out; an unknown id is none of ours or already done."""
        task = self._inside.get(name)
        if task is not None:
            task.cancel()

    def stats(self) -> dict[str, Any]:
        """Counters since the start, and what is inside now."""
        own = {
            "done": self._done,
            "failed": self._failed,
            "running": self._slots.running,
            "waiting": len(self._inside) - self._slots.running,
        }
        return own | self._backend.stats()

    async def close(self) -> None:
        """End what is inside, without events: nobody listens any more."""
        self._closed = True
        tasks = list(self._inside.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, request: EngineRequest) -> Completion:
        began = time.monotonic()
        left = FOREVER if request.deadline is None else min(FOREVER, request.deadline - self._wall())
        if left <= 0:
            raise _too_late()
        try:
            async with asyncio.timeout(left) as limit, self._slots.one(request.priority):
                self._emit({"op": "started", "id": request.id})
                return await self._backend.answer(request, time.monotonic() - began, self.images)
        except TimeoutError:
            if not limit.expired():
                raise
            raise _too_late() from None

    def _finish(self, name: str, task: asyncio.Task[Completion]) -> None:
        del self._inside[name]
        if self._closed:
            return
        self._tell_capacity()
        if task.cancelled():
            self._fail(name, EngineError(CANCELLED, "the job was cancelled"))
            return
        error = task.exception()
        if error is None:
            self._done += 1
            self._emit({"op": "done", "id": name, "completion": task.result().to_frame()})
        elif isinstance(error, EngineError):
            self._fail(name, error)
        else:
            log.error("the request %r failed in an unforeseen way", name, exc_info=error)
            self._fail(name, _unforeseen(error))

    def _tell_capacity(self) -> None:
        capacity = self._backend.capacity
        if capacity != self._told:
            self._told = capacity
            self._emit({"op": "capacity", "slots": capacity})

    def _fail(self, name: str, error: EngineError) -> None:
        self._failed += 1
        self._emit({"op": "failed", "id": name, "error": error.to_frame()})


def _too_late() -> EngineError:
    return EngineError(DEADLINE_EXCEEDED, "the job's deadline passed before it was done")


def _unforeseen(error: BaseException) -> EngineError:
    # without the error's own text: an SDK's may hold a secret
    return EngineError(
        INTERNAL_ERROR,
        f"the engine failed at this request: {type(error).__name__}",
        remedy="this is a bug: keep the job's input and the engine's log for a report",
    )
