"""Requests through one endpoint: asked, asked again where that can help, summed up.

It knows neither the port's socket nor the SDK.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from batchyard.entry import OpenaiEntry
from workers.engine.completion import Completion, Confidence, Provenance, Timings, TokenLogprob
from workers.engine.document import read_document
from workers.engine.errors import CHOICES_INVALID, EngineError
from workers.engine.request import ChoicesOutput, EngineRequest, SchemaOutput
from workers.remote.backoff import pause, worth_waiting
from workers.remote.breaker import Breaker, Permit, State
from workers.remote.compose import Question, compose
from workers.remote.endpoint import Endpoint
from workers.remote.errors import ENDPOINT_UNAVAILABLE, EndpointError
from workers.remote.faults import Fault, no_answer
from workers.remote.labels import chances_of, label_logprobs, label_of
from workers.remote.reply import NoAnswer, Reply, read_reply

CHOICE: Final = "choice"
CUT: Final = "length"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chances:
    """What is not the same twice: a clock (seconds, any origin), dice (0 to 1), the time a pause takes."""

    clock: Callable[[], float] = time.monotonic
    dice: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class RemoteBackend:
    """One endpoint's model. `engine` is the library's name and version, for the provenance."""

    def __init__(
        self, entry: OpenaiEntry, endpoint: Endpoint, breaker: Breaker, engine: str, chances: Chances
    ) -> None:
        self._entry = entry
        self._chances = chances
        self._endpoint = endpoint
        self._breaker = breaker
        self._engine = engine
        self._counts: Counter[str] = Counter(calls=0, retries=0, turned_away=0)
        self._last = ""
        self._probe_over = asyncio.Event()
        self._next_waits = False

    @property
    def n_slots(self) -> int:
        """How many requests it answers at once."""
        return self._entry.n_slots

    @property
    def capacity(self) -> int:
        """One while the endpoint is not asked: the request that will try it out; the others are better off in
        the queue.
        """
        return self._entry.n_slots if self._breaker.state is State.CLOSED else 1

    @property
    def info(self) -> dict[str, Any]:
        """What answers, for the `ready` frame."""
        return {
            "model_name": self._entry.model_name,
            "engine": self._engine,
            "endpoint": self._endpoint.host,
            "endpoint_model": self._entry.model,
            "dialect": self._entry.dialect,
            "n_slots": self.n_slots,
            "breaker": self._breaker.state.value,
        }

    def stats(self) -> dict[str, Any]:
        """Calls made, those of them that were retries, requests turned away, and the breaker's state."""
        return {**self._counts, "breaker": self._breaker.state.value}

    async def close(self) -> None:
        """Close all connections."""
        await self._endpoint.close()

    async def answer(self, request: EngineRequest, waited: float) -> Completion:
        """The completion of a request. Raises EngineError."""
        question = compose(request, self._entry, secrets.randbits(31))
        began = time.monotonic()
        reply, seconds = await self._ask(question, request.deadline)
        total = waited + time.monotonic() - began
        timings = Timings(
            wait_s=total - seconds, prefill_s=0.0, decode_s=seconds, total_s=total, mean_batch=0.0, steps=0
        )
        return self._completion(request, question, reply, timings)

    async def _ask(self, question: Question, deadline: float | None) -> tuple[Reply, float]:
        """The reply, and the seconds of the call that brought it."""
        attempt = 0
        while True:
            began = time.monotonic()
            outcome = await self._attempt(question)
            if isinstance(outcome, Reply):
                return outcome, time.monotonic() - began
            self._last = outcome.error.message
            wait = pause(attempt, self._chances.dice(), outcome.retry_after)
            left = None if deadline is None else deadline - time.time()
            if not outcome.again or attempt >= self._entry.max_retries or not worth_waiting(wait, left):
                raise self._not_before(outcome.error)
            if self._breaker.left(self._chances.clock()) > wait:
                raise self._turned_away()
            log.warning("%s; asking again in %.1f s", outcome.error.message, wait)
            await self._chances.sleep(wait)
            attempt += 1
            self._counts["retries"] += 1

    async def _attempt(self, question: Question) -> Reply | Fault:
        permit = await self._enter()
        self._counts["calls"] += 1
        try:
            outcome = await self._call(question)
            self._note(permit, outcome)
        finally:
            self._breaker.abandon(permit)
            if not self._breaker.probing:
                self._probe_over.set()
        return outcome

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

    def _note(self, permit: Permit, outcome: Reply | Fault) -> None:
        before = self._breaker.state
        if isinstance(outcome, Fault) and outcome.trips:
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
        if isinstance(error, EndpointError) and error.retryable and seconds > (error.retry_after or 0.0):
            error.retry_after = seconds
        return error

    def _turned_away(self) -> EndpointError:
        self._counts["turned_away"] += 1
        seconds = self._breaker.left(self._chances.clock())
        last = f" (last: {self._last})" if self._last else ""
        return EndpointError(
            ENDPOINT_UNAVAILABLE,
            f"{self._endpoint.host} keeps failing and is not asked for {seconds:.1f} s more{last}",
            remedy=f"try again in {max(1.0, seconds):.0f} s",
            retry_after=seconds,
        )

    def _completion(
        self, request: EngineRequest, question: Question, reply: Reply, timings: Timings
    ) -> Completion:
        provenance = Provenance(
            model_sha256="",
            quantisation="",
            llama_build="",
            prompt_sha256=question.prompt_sha256,
            seed=question.seed,
            engine=self._engine,
            endpoint=self._endpoint.host,
            endpoint_model=reply.model,
            system_fingerprint=reply.fingerprint,
        )
        if isinstance(request.output, ChoicesOutput):
            return self._choice(request.output, question, reply, timings, provenance)
        return Completion(
            text=reply.text,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            timings=timings,
            provenance=provenance,
            parsed=_parsed(request, reply),
            logprobs=_logprobs(reply, request.sampling.logprobs),
            confidence=Confidence.of(token.probability for token in reply.tokens or ()),
        )

    def _choice(
        self,
        output: ChoicesOutput,
        question: Question,
        reply: Reply,
        timings: Timings,
        provenance: Provenance,
    ) -> Completion:
        labels = output.choices
        label = label_of(reply.text, labels, document=question.document)
        if label is None:
            raise EngineError(
                CHOICES_INVALID,
                f"{self._endpoint.host} was held to {len(labels)} labels and gave none of them",
                field="output.choices",
                remedy="name the endpoint's own dialect in the model catalogue",
            )
        logprobs = label_logprobs(reply.text, reply.tokens or (), labels, document=question.document)
        chances = None if logprobs is None else chances_of(logprobs, output.temperature)
        return Completion(
            text=label,
            finish_reason=reply.finish_reason if chances is None else CHOICE,
            usage=reply.usage,
            timings=timings,
            provenance=provenance,
            choice=label,
            choice_probabilities=chances,
            choice_logprobs=logprobs,
            confidence=None if chances is None else Confidence.of_choices(chances.values()),
        )


def _parsed(request: EngineRequest, reply: Reply) -> Any:
    """The document of a schema, read a second time: the endpoint's word for it is not enough.

    Raises:
        EngineError: schema_invalid.
    """
    if not isinstance(request.output, SchemaOutput) or reply.finish_reason == CUT:
        return None
    try:
        return read_document(reply.text, request.output.schema)
    except EngineError as error:
        error.remedy = (
            "does the endpoint hold answers to a schema? Else name its own dialect in the model catalogue"
        )
        raise


def _logprobs(reply: Reply, wanted: int | None) -> tuple[TokenLogprob, ...] | None:
    if wanted is None or reply.tokens is None:
        return None
    return tuple(TokenLogprob(one.token, one.logprob, one.top[:wanted]) for one in reply.tokens)
