"""One question to one endpoint until it is answered: the breaker before each call, the pauses between calls.

It knows neither requests nor the SDK.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from batchyard.entry import OpenaiEntry
from workers.breaker import Breaker, Permit, State
from workers.engine.errors import EngineError
from workers.remote.backoff import pause, worth_waiting
from workers.remote.compose import Question
from workers.remote.endpoint import Endpoint
from workers.remote.errors import ENDPOINT_UNAVAILABLE, EndpointError
from workers.remote.faults import Fault, no_answer
from workers.remote.reply import NoAnswer, Reply, read_reply

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chances:
    """What is not the same twice: a clock (seconds, any origin), dice (0 to 1), the time a pause takes."""

    clock: Callable[[], float] = time.monotonic
    dice: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Asker:
    """Asks one endpoint for many requests at once. `counts`: calls, those of them that were retries, and
    requests turned away.
    """

    def __init__(self, entry: OpenaiEntry, endpoint: Endpoint, breaker: Breaker, chances: Chances) -> None:
        self._entry = entry
        self._endpoint = endpoint
        self._breaker = breaker
        self._chances = chances
        self._last = ""
        self._probe_over = asyncio.Event()
        self._next_waits = False
        self.counts: Counter[str] = Counter(calls=0, retries=0, turned_away=0)

    @property
    def host(self) -> str:
        """What may be shown of the endpoint's address."""
        return self._endpoint.host

    @property
    def state(self) -> State:
        """Where the breaker stands."""
        return self._breaker.state

    async def close(self) -> None:
        """Close all connections."""
        await self._endpoint.close()

    async def ask(self, question: Question, deadline: float | None) -> tuple[Reply, float]:
        """The reply, and the seconds of the call that brought it; `deadline` in seconds since the epoch.

        Raises:
            EngineError: what the endpoint said, or that it is not asked now.
        """
        attempt, blamed = 0, False
        while True:
            outcome, seconds = await self._attempt(question, blamed=blamed)
            if isinstance(outcome, Reply):
                return outcome, seconds
            blamed = blamed or outcome.trips
            # no words of the endpoint's: they may quote this job, and go into logs and to other jobs
            self._last = outcome.error.code
            wait = pause(attempt, self._chances.dice(), outcome.retry_after)
            left = None if deadline is None else deadline - time.time()
            if not outcome.again or attempt >= self._entry.max_retries or not worth_waiting(wait, left):
                raise self._not_before(outcome.error)
            if self._breaker.left(self._chances.clock()) > wait:
                raise self._turned_away(outcome.error.message)
            log.warning("%s from %s; asking again in %.1f s", outcome.error.code, self.host, wait)
            await self._chances.sleep(wait)
            attempt += 1
            self.counts["retries"] += 1

    async def _attempt(self, question: Question, *, blamed: bool) -> tuple[Reply | Fault, float]:
        permit = await self._enter()
        self.counts["calls"] += 1
        began = time.monotonic()
        try:
            outcome = await self._call(question)
            self._note(permit, outcome, blamed=blamed)
        finally:
            self._breaker.abandon(permit)  # says nothing any more where something came of it
            if not self._breaker.probing:
                self._probe_over.set()
        return outcome, time.monotonic() - began

    async def _enter(self) -> Permit:
        """A permit to ask. While the breaker is open one request waits for the end of its cool-down, and the
        others are turned away: EndpointError.
        """
        while (permit := self._breaker.enter(self._chances.clock())) is None:
            if self._breaker.probing:
                # to be turned away now would cost a retry for what the next moment decides
                self._probe_over.clear()
                await self._probe_over.wait()
            elif self._next_waits:
                raise self._turned_away()
            else:
                self._next_waits = True
                try:
                    await self._chances.sleep(self._breaker.left(self._chances.clock()))
                finally:
                    self._next_waits = False
        return permit

    async def _call(self, question: Question) -> Reply | Fault:
        body = await self._endpoint.ask(question)
        if isinstance(body, Fault):
            return body
        try:
            return read_reply(body, chat=question.chat)
        except NoAnswer as error:
            return no_answer(self._endpoint.host, str(error))

    def _note(self, permit: Permit, outcome: Reply | Fault, *, blamed: bool) -> None:
        """Tell the breaker. A request that has `blamed` the endpoint before says nothing new by failing
        again, for that may be its own fault; unless it is the one that tries the endpoint out.
        """
        before = self._breaker.state
        if isinstance(outcome, Fault) and outcome.trips:
            if not blamed or before is State.HALF_OPEN:
                self._breaker.fail(permit, self._chances.clock())
        else:
            self._breaker.succeed(permit)
        if self._breaker.state is State.OPEN and before is not State.OPEN:
            seconds = self._breaker.left(self._chances.clock())
            log.error("%s is not asked for %.0f s: it keeps failing", self._endpoint.host, seconds)
        elif self._breaker.state is State.CLOSED and before is not State.CLOSED:
            log.warning("%s answers again", self._endpoint.host)

    def _not_before(self, error: EngineError) -> EngineError:
        """The error, with the breaker's time where that is later than the endpoint's own."""
        seconds = self._breaker.left(self._chances.clock())
        if isinstance(error, EndpointError) and seconds > (error.retry_after or 0.0):
            error.retry_after = seconds
        return error

    def _turned_away(self, told: str = "") -> EndpointError:
        """The error of a job that is not asked for; `told` is what the endpoint said to this very job."""
        self.counts["turned_away"] += 1
        seconds = self._breaker.left(self._chances.clock())
        last = told or self._last
        last = f" (last: {last})" if last else ""
        return EndpointError(
            ENDPOINT_UNAVAILABLE,
            f"{self._endpoint.host} keeps failing and is not asked for {seconds:.1f} s more{last}",
            remedy=f"try again in {max(1.0, seconds):.0f} s",
            retry_after=seconds,
        )
