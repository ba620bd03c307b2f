"""Requests through one classifier: the text to tokens, its run, its labels' probabilities.

It knows neither the port's socket nor ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from batchyard.entry import OnnxEntry
from workers.engine.completion import Completion, Confidence, Provenance, Timings, Usage
from workers.engine.errors import (
    CHOICES_INVALID,
    DECODE_FAILED,
    PROMPT_EMPTY,
    REQUEST_INVALID,
    EngineError,
)
from workers.engine.lifeline import give_up
from workers.engine.request import ChoicesOutput, EngineRequest, TextOutput
from workers.onnx.batcher import Batcher
from workers.onnx.classifier import RUNTIME_ERRORS, Classifier, Encoded, Logits
from workers.port.images import ImageSource

CHOICE: Final = "choice"


class OnnxBackend:
    """One classifier's model; `identity` is what the provenance and the `ready` frame say of it."""

    def __init__(self, entry: OnnxEntry, classifier: Classifier, identity: dict[str, str]) -> None:
        self._entry = entry
        self._classifier = classifier
        self._identity = identity
        limit = min(entry.n_slots, classifier.rows or entry.n_slots)
        self._batcher: Batcher[Encoded, Logits] = Batcher(
            self._run, limit, seconds=entry.timeout, hung=give_up
        )

    @property
    def n_slots(self) -> int:
        """How many requests it answers at once."""
        return self._entry.n_slots

    @property
    def capacity(self) -> int:
        """All of them, always."""
        return self._entry.n_slots

    @property
    def sees(self) -> bool:
        """It reads texts."""
        return False

    @property
    def info(self) -> dict[str, Any]:
        """What the model and the library are, for the `ready` frame."""
        return {
            "model_name": self._entry.model_name,
            "model_path": self._entry.model_path,
            "n_slots": self.n_slots,
            "labels": list(self._classifier.labels),
            "max_length": self._classifier.max_length,
            "execution_providers": list(self._classifier.providers),
            **self._identity,
        }

    def stats(self) -> dict[str, Any]:
        """Runs, and the texts in them."""
        return {"runs": self._batcher.runs, "texts": self._batcher.items}

    async def close(self) -> None:
        """Wait for the run under way."""
        await self._batcher.close()

    async def answer(self, request: EngineRequest, waited: float, images: ImageSource) -> Completion:
        """The completion of a request. Raises EngineError."""
        began = time.monotonic()
        wanted = wanted_labels(request, self._classifier.labels)
        text = self._classifier.encode(text_of(request))
        try:
            ran = await self._batcher.put(text)
        except RUNTIME_ERRORS as error:
            raise EngineError(DECODE_FAILED, f"the run failed: {str(error).strip()[:300]}") from None
        total = waited + time.monotonic() - began
        logprobs = log_probabilities(ran.row, self._classifier.labels)
        temperature = request.output.temperature if isinstance(request.output, ChoicesOutput) else 1.0
        chances = probabilities({label: logprobs[label] for label in wanted}, temperature)
        label = max(chances, key=chances.__getitem__)
        return Completion(
            text=label,
            finish_reason=CHOICE,
            usage=Usage(len(text.ids), 0, 0),
            timings=Timings(
                wait_s=waited + ran.waited_s,
                prefill_s=ran.run_s,
                decode_s=0.0,
                total_s=total,
                mean_batch=float(ran.batch),
                steps=1,
            ),
            provenance=Provenance(
                model_sha256=self._identity["model_sha256"],
                quantisation=self._identity["quantisation"],
                llama_build="",
                prompt_sha256=hashlib.sha256(text.ids.astype(np.int32).tobytes()).hexdigest(),
                seed=None,
                engine=self._identity["engine"],
            ),
            choice=label,
            choice_probabilities=chances,
            choice_logprobs={label: logprobs[label] for label in wanted},
            confidence=Confidence.of_choices(chances.values()),
        )

    def _run(self, texts: Sequence[Encoded]) -> Sequence[Logits]:
        return list(self._classifier.run(texts))


def text_of(request: EngineRequest) -> str:
    """What the user wrote: an instruction is for models that read it. Raises EngineError (prompt_empty)."""
    if request.messages is None:
        return request.prompt or ""
    text = "\n".join(one.content for one in request.messages if one.role != "system")
    if not text.strip():
        raise EngineError(
            PROMPT_EMPTY,
            "no message but the system's has any text",
            field="messages",
            remedy="send some text",
        )
    return text


def wanted_labels(request: EngineRequest, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that a request lets the model choose from: its choices, else all.

    Raises:
        EngineError: choices_invalid for one that the model has not or an option that it cannot mean,
            request_invalid for another form or token log-probabilities.
    """
    if request.sampling.logprobs is not None:
        raise _beyond(REQUEST_INVALID, "a classifier writes no tokens", "sampling.logprobs")
    if isinstance(request.output, TextOutput):
        return tuple(labels)
    if not isinstance(request.output, ChoicesOutput):
        raise EngineError(
            REQUEST_INVALID,
            "this model is a classifier: it gives a label and nothing else",
            field="output.type",
            remedy="ask for choices, or send the job to a model that generates",
        )
    for asked, field, why in (
        (request.output.prior, "output.prior", "a classifier has no prior to take off"),
        (request.output.mean, "output.length_normalization", "a classifier's labels have no length"),
    ):
        if asked:
            raise _beyond(CHOICES_INVALID, why, field)
    foreign = [label for label in request.output.choices if label not in labels]
    if foreign:
        raise EngineError(
            CHOICES_INVALID,
            f"the model has no label {foreign[0]!r}; it has {', '.join(labels)}"[:600],
            field="output.choices",
            remedy="choose among these",
        )
    return request.output.choices


def _beyond(code: str, why: str, field: str) -> EngineError:
    remedy = "leave it out, or send the job to a model that llama.cpp runs"
    return EngineError(code, why, field=field, remedy=remedy)


def log_probabilities(row: Logits, labels: Sequence[str]) -> dict[str, float]:
    """Log-softmax of the logits [labels]. Raises EngineError where they are no numbers."""
    scores = row.astype(np.float64)
    if not np.isfinite(scores).all():
        raise EngineError(DECODE_FAILED, "the model's output holds what is no number")
    scores -= np.logaddexp.reduce(scores)
    return dict(zip(labels, scores.tolist(), strict=True))


def probabilities(logprobs: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Chances over these labels alone, softened (temperature above 1) or sharpened, summing to one."""
    scores = np.array(list(logprobs.values())) / temperature
    weights = np.exp(scores - np.logaddexp.reduce(scores))
    return dict(zip(logprobs, weights.tolist(), strict=True))
