"""Who may run: a bounded number of places, given by priority and then in order of arrival.

One event loop owns it. It knows no requests.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """`count` places. Priority 0 goes first."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0
        self.running = 0

    @asynccontextmanager
    async def one(self, priority: int) -> AsyncIterator[None]:
        """A place, for as long as the block lasts."""
        await self._enter(priority)
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._leave()

    async def _enter(self, priority: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._line, (priority, self._arrivals, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # the place may have been given in the same turn of the loop in which its taker was cancelled
            if turn.done() and not turn.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        while self._line:
            _, _, turn = heapq.heappop(self._line)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
