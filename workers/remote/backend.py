"""Requests through one endpoint: what is asked, and what the answer is taken for.

It knows neither the port's socket nor the SDK.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any, Final

from batchyard.entry import OpenaiEntry
from workers.breaker import State
from workers.engine.completion import Completion, Confidence, Provenance, Timings, TokenLogprob
from workers.engine.document import read_document
from workers.engine.errors import CHOICES_INVALID, EngineError
from workers.engine.request import ChoicesOutput, EngineRequest, SchemaOutput
from workers.port.images import ImageSource
from workers.remote.asker import Asker
from workers.remote.certainty import confidence_of
from workers.remote.compose import Question, compose
from workers.remote.labels import chances_of, label_logprobs, label_of
from workers.remote.reply import Reply

CHOICE: Final = "choice"
CUT: Final = "length"


class RemoteBackend:
    """One endpoint's model. `engine` is the library's name and version, for the provenance."""

    def __init__(self, entry: OpenaiEntry, asker: Asker, engine: str) -> None:
        self._entry = entry
        self._asker = asker
        self._engine = engine

    @property
    def n_slots(self) -> int:
        """How many requests it answers at once."""
        return self._entry.n_slots

    @property
    def capacity(self) -> int:
        """One while the endpoint is not asked: the request that will try it out; the others are better off in
        the queue.
        """
        return self._entry.n_slots if self._asker.state is State.CLOSED else 1

    @property
    def sees(self) -> bool:
        """Whether the entry says that the endpoint's model does."""
        return self._entry.images

    @property
    def info(self) -> dict[str, Any]:
        """What answers, for the `ready` frame."""
        return {
            "model_name": self._entry.model_name,
            "engine": self._engine,
            "endpoint": self._asker.host,
            "endpoint_model": self._entry.model,
            "dialect": self._entry.dialect,
            "n_slots": self.n_slots,
            "breaker": self._asker.state.value,
        }

    def stats(self) -> dict[str, Any]:
        """Calls made, those of them that were retries, requests turned away, and the breaker's state."""
        return {**self._asker.counts, "breaker": self._asker.state.value}

    async def close(self) -> None:
        """Close all connections."""
        await self._asker.close()

    async def answer(self, request: EngineRequest, waited: float, images: ImageSource) -> Completion:
        """The completion of a request. Raises EngineError."""
        began = time.monotonic()
        files = await self._files(request, images)
        question = compose(request, self._entry, secrets.randbits(31), files)
        reply, seconds = await self._asker.ask(question, request.deadline)
        total = waited + time.monotonic() - began
        timings = Timings(
            wait_s=total - seconds, prefill_s=0.0, decode_s=seconds, total_s=total, mean_batch=0.0, steps=0
        )
        return self._completion(request, question, reply, timings)

    async def _files(self, request: EngineRequest, images: ImageSource) -> dict[str, bytes]:
        """The files of a request's images, by hash."""
        hashes = {image.sha256 for image in request.images}
        files = await asyncio.gather(*(images.get(sha256) for sha256 in hashes))
        return dict(zip(hashes, files, strict=True))

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
            endpoint=self._asker.host,
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
            confidence=confidence_of(reply.tokens or (), structured=isinstance(request.output, SchemaOutput)),
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
                f"{self._asker.host} was held to {len(labels)} labels and gave none of them",
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
