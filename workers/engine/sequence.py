"""One request on its way through a slot: its prompt, the tokens taken so far, and when it is finished.

What is in the context's memory of it is `computed`, what is not is `pending`; see docs/engine.md. It knows
how a row of logits becomes the next token under its own sampler and grammar. It does not know the other
sequences, the batch or the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from workers.engine.choices import Branches, LabelTrie
from workers.engine.completion import Confidence, TokenLogprob
from workers.engine.confidence import Evidence, margin_of
from workers.engine.constraint import Constraint
from workers.engine.content_free import Form
from workers.engine.document import read_document
from workers.engine.errors import GRAMMAR_INVALID, EngineError
from workers.engine.images import Embeddings, Image
from workers.engine.prompt import Prompt
from workers.engine.request import EngineRequest, SchemaOutput
from workers.engine.sampler import Logits, Sampler, log_sum_exp, top_tokens
from workers.engine.text import TextStream

Tokens = npt.NDArray[np.int32]

STOP: Final = "stop"
LENGTH: Final = "length"
CHOICE: Final = "choice"
MOST_RETREATS: Final = 3
GETS_ON: Final = 32
"""A job that gave way three times keeps its slot until it has this many more tokens."""
_FIRST_CANDIDATES: Final = 64


class Words(Protocol):
    """What a sequence needs of the vocabulary."""

    pieces: list[bytes]
    end_tokens: frozenset[int]


@dataclass(slots=True)
class Marks:
    """Seconds on the engine's clock, and the steps that had rows of this sequence, with the number of
    sequences in them summed up.
    """

    arrived: float
    started: float | None = None
    first_token: float | None = None
    steps: int = 0
    sequences: int = 0


@dataclass(slots=True)
class Scoring:
    """The state of a choices request: the labels' tree, and its branches that are still to compute."""

    labels: tuple[str, ...]
    trie: LabelTrie
    branches: Branches
    prior: npt.NDArray[np.float64] | None = None
    """What the labels score without content, where the request asks for it."""


class Sequence:
    """A running request. `max_tokens` is already clamped to what fits behind the prompt."""

    def __init__(
        self,
        request: EngineRequest,
        prompt: Prompt,
        words: Words,
        *,
        seed: int,
        max_tokens: int,
        order: int,
        arrived: float,
        kind: int = 0,
        constrain: Callable[[], Constraint] | None = None,
        scoring: Scoring | None = None,
        jumps: bool = True,
    ) -> None:
        """`constrain` makes the constraint when the request begins to run, see `begin`. Where it `jumps`,
        tokens that the constraint forces are appended without being drawn.
        """
        self.request = request
        self.learns: Form | None = None
        """The form of prompt whose prior it finds out, for others: nobody sees its own answer."""
        self.images: Mapping[str, Image] = {}
        """Those of its prompt, by hash, for who is made after it."""
        self.prompt = prompt.tokens
        self._spans = prompt.spans
        self.seed = seed
        self.order = order
        self.scoring = scoring
        self.sampler = Sampler(request.sampling, seed, prompt.tokens)
        self.wants_top = request.sampling.logprobs or 0
        self.tokens: list[int] = []
        self.log_probabilities: list[float] = []
        """Of its tokens; a forced one is certain: 0."""
        self.evidence = Evidence(structured=isinstance(request.output, SchemaOutput))
        self.kind = kind
        """Requests of one kind have answers of like length."""
        self.interactive = request.interactive
        """Whether somebody waits for its answer."""
        self.slot = -1
        """-1 while it waits."""
        self.computed = 0
        """How many of its tokens, prompt first, are in memory."""
        self.cached = 0
        """How many of its prompt were in memory when it first began to run."""
        self.passed = 0
        """Steps since it last had a row."""
        self.keep_at = 0
        """Length of a beginning to keep once it is computed; 0 for none."""
        self.follows: tuple[Sequence, int] | None = None
        """Whose beginning of which length it waits for, instead of computing it too."""
        self.seen = 0
        """How many of its leading tokens an earlier prompt had; known once it has had a slot."""
        self.gave_way = 0
        """How often it gave up its slot to another one."""
        self._retreats = 0
        self._retreat_length = 0
        self.failures = 0
        """How many failed decodes had rows of it."""
        self.suspect = False
        """Whether it must pass a decode alone before it may share one again."""
        self.marks = Marks(arrived)
        self._words = words
        self._constrain = constrain
        self._constraint: Constraint | None = None
        self.most_tokens = max_tokens
        self._jumps = jumps
        self._stream = TextStream(request.sampling.stop) if request.sampling.stop else None
        self._top: list[tuple[tuple[str, float], ...]] = []
        self._pieces: list[bytes] = []
        self._margin: float | None = None

    @property
    def length(self) -> int:
        """All its tokens: the prompt's and those taken."""
        return len(self.prompt) + len(self.tokens)

    @property
    def pending(self) -> int:
        """How many of its tokens are not in memory."""
        return self.length - self.computed

    @property
    def run(self) -> int:
        """How many of its pending tokens are of one kind, from the first on: of text, or of one image."""
        for span in self._spans:
            if self.computed < span.end:
                return (span.start if self.computed < span.start else span.end) - self.computed
        return self.pending

    @property
    def has_images(self) -> bool:
        """Whether its prompt has any."""
        return bool(self._spans)

    @property
    def at_image(self) -> bool:
        """Whether an image's rows come next."""
        return any(span.start <= self.computed < span.end for span in self._spans)

    def next_rows(self, count: int) -> list[Tokens | Embeddings]:
        """Its next `count` pending tokens in runs of one kind: tokens [n], or rows of an image [n, width]."""
        start, stop = self.computed, self.computed + count
        runs: list[Tokens | Embeddings] = []
        for span in self._spans:
            if start < min(span.start, stop):
                runs.append(self.known(min(span.start, stop), start))
                start = min(span.start, stop)
            if span.start <= start < min(span.end, stop):
                runs.append(span.rows[start - span.start : stop - span.start])
                start = min(span.end, stop)
        if start < stop:
            runs.append(self.known(stop, start))
        return runs

    @property
    def most_cells(self) -> int:
        """Cells it can come to use."""
        return len(self.prompt) + self.most_tokens

    @property
    def decodes(self) -> bool:
        """Whether only the token that it took last is pending."""
        return self.pending == 1 and bool(self.tokens)

    @property
    def candidates(self) -> int:
        """How many of the most likely tokens are all that its draws look at; 0 where they need whole rows."""
        if self.scoring is not None or self._constrain is not None or self.wants_top:
            return 0
        return self.sampler.candidates

    def known(self, end: int | None = None, start: int = 0) -> Tokens:
        """Its tokens from `start` to `end`, prompt first."""
        end = self.length if end is None else end
        size = len(self.prompt)
        if end <= size:
            return self.prompt[start:end]
        taken = np.array(self.tokens[max(0, start - size) : end - size], np.int32)
        return taken if start >= size else np.concatenate([self.prompt[start:], taken])

    @property
    def tired(self) -> bool:
        """Whether it gave way so often since it last got on that it keeps its slot for now."""
        return self._retreats >= MOST_RETREATS and self.length - self._retreat_length < GETS_ON

    def retreat(self) -> None:
        """It gives way to another one."""
        if self.length - self._retreat_length >= GETS_ON:
            self._retreats = 0
        self.gave_way += 1
        self._retreats += 1
        self._retreat_length = self.length

    def leave_slot(self) -> None:
        """Nothing of it is in memory any more."""
        self.slot, self.computed, self.keep_at, self.follows = -1, 0, 0, None
        if self.scoring is not None:
            self.scoring.branches.reset()

    def begin(self) -> str | None:
        """Get ready to draw, behind what the grammar forces at the start; returns the finish reason when
        that is the whole text. Those who wait hold no constraint, its grammar may be dropped meanwhile.
        """
        if self._constrain is None:
            return None
        self._constraint = self._constrain()
        return self.jump()

    def draw(self, row: Logits, best: int, normaliser: float) -> int:
        """The next token from its row [vocabulary], whose largest entry is `best`; `normaliser` is the row's
        log Σ exp. Raises EngineError where the grammar leaves no token.
        """
        # before the grammar moves on, and only until the first value has shown itself
        if self.evidence.margin is None:
            allows = None if self._constraint is None else self._constraint.allows
            self._margin = margin_of(row, normaliser, allows)
        if self.sampler.plain:
            token = best
        else:
            row = self.sampler.penalise(row)
            token = self.sampler.draw(row)
        if self._constraint is not None:
            if not self._constraint.allows(token):
                token = self._draw_allowed(self._constraint, row)
            if token not in self._words.end_tokens:
                self._constraint.accept(token)
        if self.sampler.penalised:
            self.sampler.accept(token)
        return token

    def _draw_allowed(self, constraint: Constraint, row: Logits) -> int:
        """The free candidate was refused: the few most likely tokens decide, or the whole vocabulary."""
        if self.sampler.greedy:
            for token in top_tokens(row, _FIRST_CANDIDATES).tolist():
                if constraint.allows(token):
                    return int(token)
        mask = constraint.mask()
        if not mask.any():
            raise EngineError(
                GRAMMAR_INVALID,
                f"no token of this model can continue the grammar after {self.text()!r}",
                field="output",
                remedy="allow other characters in the grammar or schema",
            )
        return self.sampler.draw(np.where(mask, row, np.float32(-np.inf)))

    def note_top(self, row: Logits) -> None:
        """Remember the alternatives of the coming token."""
        best = top_tokens(row, self.wants_top)
        scores = row[best] - log_sum_exp(row[None, :])[0]
        self._top.append(tuple((self._name(int(t)), float(s)) for t, s in zip(best, scores, strict=True)))

    def take(self, token: int, log_probability: float) -> str | None:
        """Append a drawn token; returns the finish reason when the text is over."""
        if token in self._words.end_tokens:
            return STOP
        reason = self._append(token, log_probability)
        self.evidence.choose(self._pieces, self._margin)
        return reason

    def jump(self) -> str | None:
        """Append the tokens that the grammar forces next, as one run to be computed together; returns the
        finish reason when the text is over, or reaches its length within the run.
        """
        if self._constraint is None or not self._jumps:
            return None
        for token in self._constraint.forced():
            self._constraint.accept(token)
            self.sampler.accept(token)
            if self.wants_top:
                self._top.append(())
            reason = self._append(token, 0.0)
            if reason is not None:
                return reason
        return None

    def _append(self, token: int, log_probability: float) -> str | None:
        self.tokens.append(token)
        self._pieces.append(self._words.pieces[token])
        self.log_probabilities.append(log_probability)
        if self._stream is not None:
            self._stream.push(self._words.pieces[token])
            if self._stream.stopped:
                return STOP
        if self._constraint is not None and self._constraint.complete:
            return STOP
        return LENGTH if len(self.tokens) >= self.most_tokens else None

    def text(self) -> str:
        """The text so far, cut before a stop string."""
        if self._stream is not None and self._stream.stopped:
            return self._stream.text
        return b"".join(self._pieces).decode("utf-8", "replace")

    def parsed(self, finish_reason: str) -> Any:
        """The JSON document of a schema output, None when it did not fit into max_tokens.

        Raises EngineError (schema_invalid) for a finished text that violates its schema.
        """
        if not isinstance(self.request.output, SchemaOutput) or finish_reason != STOP:
            return None
        return read_document(self.text(), self.request.output.schema)

    def logprobs(self) -> tuple[TokenLogprob, ...] | None:
        """What the request asked to know about each token."""
        if self.request.sampling.logprobs is None:
            return None
        top = self._top or [()] * len(self.tokens)
        return tuple(
            TokenLogprob(self._name(token), score, alternatives)
            for token, score, alternatives in zip(self.tokens, self.log_probabilities, top, strict=False)
        )

    def confidence(self) -> Confidence | None:
        """How sure the model was of what it chose freely; None without any such token."""
        return self.evidence.confidence(self._pieces, self.log_probabilities)

    def _name(self, token: int) -> str:
        return self._words.pieces[token].decode("utf-8", "replace")
