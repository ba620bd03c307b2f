"""Sums up a finished sequence into a completion, and the engine's work into counters.

It knows results and clock readings, not how they came about.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from workers.engine.completion import Completion, Confidence, Provenance, Timings, Usage
from workers.engine.distribution import adjusted, distribution
from workers.engine.plan import Plan
from workers.engine.request import ChoicesOutput
from workers.engine.sequence import CHOICE, Sequence


@dataclass(slots=True)
class Progress:
    """Counters since the start. `sequences` sums up how many sequences each step carried."""

    steps: int = 0
    sequences: int = 0
    rows: int = 0
    busy_s: float = 0.0
    done: int = 0
    failed: int = 0
    prompts: int = 0
    cached: int = 0
    generated: int = 0
    recovered: int = 0
    """How often the context was made anew after a failed decode."""

    def count(self, plan: Plan) -> None:
        """Note one step."""
        self.steps += 1
        self.sequences += len(plan.slots)
        self.rows += plan.n_rows

    def frame(self) -> dict[str, Any]:
        """The counters as the port writes them."""
        return asdict(self)


def text_completion(one: Sequence, reason: str, info: dict[str, Any], now: float) -> Completion:
    """The completion of a sequence that generated text."""
    return Completion(
        text=one.text(),
        finish_reason=reason,
        usage=Usage(len(one.prompt), one.cached, len(one.tokens)),
        timings=_timings(one, now),
        provenance=_provenance(one, info),
        parsed=one.parsed(reason),
        logprobs=one.logprobs(),
        confidence=one.confidence(),
    )


def choice_completion(one: Sequence, info: dict[str, Any], now: float) -> Completion:
    """The completion of a sequence that scored labels. Raises ValueError for one that did not."""
    if one.scoring is None:
        raise ValueError("the sequence has no choices")
    output, trie = one.request.output, one.scoring.trie
    if not isinstance(output, ChoicesOutput):
        raise ValueError("the request asks for no choices")
    scores = trie.log_scores()
    fair = adjusted(scores, trie.lengths(), prior=one.scoring.prior, mean=output.mean)
    probabilities = distribution(fair, output.temperature)
    winner = int(probabilities.argmax())
    label = one.scoring.labels[winner]
    return Completion(
        text=label,
        finish_reason=CHOICE,
        usage=Usage(len(one.prompt), one.cached, trie.n_tokens(winner)),
        timings=_timings(one, now),
        provenance=_provenance(one, info),
        choice=label,
        choice_probabilities=dict(zip(one.scoring.labels, probabilities.tolist(), strict=True)),
        choice_logprobs=dict(zip(one.scoring.labels, scores.tolist(), strict=True)),
        confidence=Confidence.of_choices(probabilities.tolist()),
    )


def _timings(one: Sequence, now: float) -> Timings:
    marks = one.marks
    started = now if marks.started is None else marks.started
    first = now if marks.first_token is None else marks.first_token
    return Timings(
        wait_s=started - marks.arrived,
        prefill_s=first - started,
        decode_s=now - first,
        total_s=now - marks.arrived,
        mean_batch=marks.sequences / marks.steps if marks.steps else 0.0,
        steps=marks.steps,
    )


def _provenance(one: Sequence, info: dict[str, Any]) -> Provenance:
    return Provenance(
        model_sha256=info["model_sha256"],
        quantisation=info["quantisation"],
        llama_build=info["llama_build"],
        prompt_sha256=hashlib.sha256(one.prompt.tobytes()).hexdigest(),
        seed=one.seed,
        mmproj_sha256=info["mmproj_sha256"] if one.has_images else None,
    )
