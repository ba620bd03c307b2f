"""Micro-batches: what waits when a run ends is the next run.

One event loop owns it; runs happen one at a time in a thread of their own. It knows no model.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

Item = TypeVar("Item")
Row = TypeVar("Row")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ran(Generic[Row]):
    """What came of one item: its `row`, how many items shared the run, its seconds in line and in the run."""

    row: Row
    batch: int
    waited_s: float
    run_s: float


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, Row]):
    item: Item
    done: asyncio.Future[Ran[Row]]
    since: float


class Batcher(Generic[Item, Row]):
    """Runs at most `limit` items at a time through `run`, which returns a row for each.

    A run that fails is repeated item by item, so that only who causes it fails. One that takes longer than
    `seconds` cannot be broken off: `hung` is called, which is to end the process. Else nobody would notice:
    the event loop goes on answering.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Row]],
        limit: int,
        *,
        seconds: float,
        hung: Callable[[], NoReturn],
    ) -> None:
        self._run = run
        self._limit = limit
        self._seconds = seconds
        self._hung = hung
        self._line: deque[_Waiting[Item, Row]] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "onnx")
        self.runs = 0
        self.items = 0

    async def put(self, item: Item) -> Ran[Row]:
        """What comes of an item; raises what its run raised.

        One that is cancelled while it waits is left out; a run is not broken off.
        """
        done: asyncio.Future[Ran[Row]] = asyncio.get_running_loop().create_future()
        self._line.append(_Waiting(item, done, time.monotonic()))
        if self._pump is None or self._pump.done():
            # a task, so that what arrived in the same turn of the loop shares the first run
            self._pump = asyncio.get_running_loop().create_task(self._work())
        return await done

    async def close(self) -> None:
        """Wait for the run under way, and end the thread."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self._thread.shutdown()

    async def _work(self) -> None:
        while batch := self._next():
            error = await self._run_all(batch)
            if error is None:
                continue
            for one in batch:
                alone = error if len(batch) == 1 else await self._run_all([one])
                if alone is not None and not one.done.done():
                    one.done.set_exception(alone)

    def _next(self) -> list[_Waiting[Item, Row]]:
        batch: list[_Waiting[Item, Row]] = []
        while self._line and len(batch) < self._limit:
            one = self._line.popleft()
            if not one.done.done():
                batch.append(one)
        return batch

    async def _run_all(self, batch: Sequence[_Waiting[Item, Row]]) -> BaseException | None:
        """Run a batch and hand out its rows; what the run raised, None if it went well."""
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        run = loop.run_in_executor(self._thread, self._run, [one.item for one in batch])
        await asyncio.wait([run], timeout=self._seconds)
        if not run.done():
            log.critical("a run of %d has not ended within %g s; giving up", len(batch), self._seconds)
            self._hung()
        error = run.exception()
        if error is not None:
            return error
        self.runs += 1
        self.items += len(batch)
        seconds = time.monotonic() - began
        for one, row in zip(batch, run.result(), strict=True):
            if not one.done.done():
                one.done.set_result(Ran(row, len(batch), began - one.since, seconds))
        return None
