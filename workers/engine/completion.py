"""What the engine answers: frozen values, and how the port writes them.

It knows no store and no caller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. `cached_tokens` of the prompt came from a shared prefix and were not computed again."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of each stage, the steps taken part in, and the mean number of sequences in those steps."""

    wait_s: float
    prefill_s: float
    decode_s: float
    total_s: float
    mean_batch: float
    steps: int


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A chosen token with its natural log-probability and the `top` most likely tokens beside it."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()

    @property
    def probability(self) -> float:
        """Of the chosen token, 0 to 1."""
        return math.exp(min(0.0, self.logprob))

    def to_frame(self) -> dict[str, Any]:
        """As the port writes it."""
        top = [{"token": token, "logprob": logprob} for token, logprob in self.top]
        return {"token": self.token, "logprob": self.logprob, "top": top}


@dataclass(frozen=True, slots=True)
class Confidence:
    """Probabilities (0 to 1), under the model's own distribution, of the tokens that it chose freely; of
    those in values where the text is JSON by a schema; of the winner for choices.

    `first_margin` is how far the best token was ahead of the second best where the first of them was chosen;
    for choices, the winner of the runner-up.
    """

    min: float
    mean: float
    q10: float
    first_margin: float | None = None

    @classmethod
    def of(cls, probabilities: Iterable[float], first_margin: float | None = None) -> Confidence | None:
        """Summed up, the 10 % quantile being the nearest lower value; None for none."""
        ordered = sorted(probabilities)
        if not ordered:
            return None
        return cls(
            min=ordered[0],
            mean=sum(ordered) / len(ordered),
            q10=ordered[(len(ordered) - 1) // 10],
            first_margin=first_margin,
        )

    @classmethod
    def of_choices(cls, probabilities: Iterable[float]) -> Confidence | None:
        """The winner's probability, and its lead over the next one; None for no label."""
        best, second = [*sorted(probabilities, reverse=True), 0.0, 0.0][:2]
        return cls.of([best], best - second) if best else None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What produced the text, enough to produce it again.

    What an engine cannot know is empty: `llama_build` without llama.cpp, the model's digest and quantisation
    behind an endpoint. `engine` names the library where it is not llama.cpp.
    """

    model_sha256: str
    quantisation: str
    llama_build: str
    prompt_sha256: str
    seed: int | None
    engine: str | None = None
    endpoint: str | None = None
    endpoint_model: str | None = None
    system_fingerprint: str | None = None
    mmproj_sha256: str | None = None
    """The image encoder's file, where the prompt had images."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one request. `parsed` is the JSON document of a schema output, None when it did not
    fit.
    """

    text: str
    finish_reason: str
    usage: Usage
    timings: Timings
    provenance: Provenance
    parsed: Any = None
    choice: str | None = None
    choice_probabilities: dict[str, float] | None = None
    choice_logprobs: dict[str, float] | None = None
    """Σ log p of each label as the model has it: no prior, no temperature."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    confidence: Confidence | None = None
    embedding: str | None = None
    """Base64 of little-endian float32."""

    def to_frame(self) -> dict[str, Any]:
        """As the port writes it."""
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "parsed": self.parsed,
            "choice": self.choice,
            "choice_probabilities": self.choice_probabilities,
            "choice_logprobs": self.choice_logprobs,
            "usage": _fields(self.usage),
            "timings": _fields(self.timings),
            "logprobs": None if self.logprobs is None else [item.to_frame() for item in self.logprobs],
            "confidence": None if self.confidence is None else _fields(self.confidence),
            "provenance": _fields(self.provenance),
            "embedding": self.embedding,
        }


def _fields(value: Usage | Timings | Confidence | Provenance) -> dict[str, Any]:
    """A flat value's fields; `asdict` would copy them deeply, at ten times the cost."""
    return {name: getattr(value, name) for name in value.__slots__}
