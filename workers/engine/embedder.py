"""The loop of an embedding model: whole prompts packed into one forward pass, one vector of each.

It has the generating engine's port (submit, cancel, step, events, stats) and none of its memory: a prompt is
computed within one step, and nothing is kept between two. It knows requests and events, not sockets.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workers.engine.completion import Completion, Provenance, Timings, Usage
from workers.engine.embedding_intake import Embedding, EmbeddingIntake
from workers.engine.embedding_loader import EmbeddingRuntime
from workers.engine.errors import CANCELLED, DEADLINE_EXCEEDED, DECODE_FAILED, REQUEST_INVALID, EngineError
from workers.engine.llama.pooled import Vectors
from workers.engine.rows import RowWriter
from workers.engine.vectors import shaped, to_base64
from workers.engine.waiting_line import WaitingLine

Event = dict[str, Any]
EMBEDDED = "embedding"
"""The finish reason."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Counters:
    """Since the start; `sequences` and `rows` are summed over the steps."""

    steps: int = 0
    sequences: int = 0
    rows: int = 0
    busy_s: float = 0.0
    done: int = 0
    failed: int = 0

    def count(self, sequences: int, rows: int, seconds: float) -> None:
        """Note one pass."""
        self.steps += 1
        self.sequences += sequences
        self.rows += rows
        self.busy_s += seconds


class Embedder:
    """Runs requests to their vectors. `clock` gives seconds for timings, `wall` unix ones for deadlines."""

    def __init__(
        self,
        runtime: EmbeddingRuntime,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._runtime = runtime
        self._clock, self._wall = clock, wall
        self._intake = EmbeddingIntake(runtime)
        self._waiting: WaitingLine[Embedding] = WaitingLine()
        self._known: dict[str, Embedding] = {}
        self._deadlines: dict[str, float] = {}
        self._writer = RowWriter(runtime.context.batch)
        self._counters = _Counters()
        self._events: list[Event] = []

    @property
    def idle(self) -> bool:
        """Whether a step would have nothing to do."""
        return not self._known

    def rest(self) -> float | None:
        """Seconds until a step has something to do; None where only a message brings work."""
        return None if self.idle else 0.0

    def submit(self, frame: Any) -> None:
        """Take a request in; one that is wrong fails at once, through an event.

        An id that is in already is `rejected`: `failed` would end the job that has it.
        """
        name = frame.get("id") if isinstance(frame, dict) else None
        name = name if isinstance(name, str) else ""
        if name in self._known:
            why = EngineError(REQUEST_INVALID, f"the id {name!r} is already in the engine", field="id")
            self._events.append({"op": "rejected", "id": name, "error": why.to_frame()})
            return
        try:
            one = self._intake.prepare(frame, self._clock())
        except EngineError as error:
            self._report(name, error)
            return
        except Exception as error:
            log.exception("the request %r cannot be read", name)
            said = f"the request cannot be read: {type(error).__name__}: {str(error)[:300]}"
            self._report(name, EngineError(REQUEST_INVALID, said))
            return
        self._known[name] = one
        if one.request.deadline is not None:
            self._deadlines[name] = one.request.deadline
        self._waiting.push(name, one.request.priority, one)

    def cancel(self, name: str) -> None:
        """Take a request out before the next step; an unknown id is none of ours or already done."""
        if name in self._known:
            self._give_up(self._known[name], EngineError(CANCELLED, "the job was cancelled"))

    def stats(self) -> dict[str, Any]:
        """Counters since the start, and what is in the engine now."""
        return asdict(self._counters) | {"running": 0, "waiting": len(self._known)}

    def events(self) -> list[Event]:
        """Port frames since the last call."""
        events, self._events = self._events, []
        return events

    def step(self) -> None:
        """One forward pass over as many whole prompts as fit."""
        self._expire()
        packed = self._pack()
        if packed:
            self._events += [{"op": "started", "id": one.request.id} for one in packed]
            self._run(packed)

    def _expire(self) -> None:
        if not self._deadlines:
            return
        now = self._wall()
        for one in [self._known[name] for name, deadline in self._deadlines.items() if deadline <= now]:
            self._give_up(one, EngineError(DEADLINE_EXCEEDED, "the job's deadline passed before it was done"))

    def _pack(self) -> list[Embedding]:
        """The next prompts, best priority first, until one does not fit."""
        packed: list[Embedding] = []
        left = self._runtime.context.facts.rows
        while len(self._waiting) and len(packed) < self._runtime.settings.n_slots:
            name, one = self._waiting.choose()
            if len(one.tokens) > left:
                break
            self._waiting.take(name)
            packed.append(one)
            left -= len(one.tokens)
        return packed

    def _run(self, packed: list[Embedding]) -> None:
        """Compute and answer; where a pass of several fails each runs again alone, so that only its cause
        fails.
        """
        began = self._clock()
        self._writer.clear()
        for sequence, one in enumerate(packed):
            self._writer.add_run(sequence, one.tokens, 0, outputs="all")
        code = self._runtime.context.encode(self._writer.n_rows)
        seconds = self._clock() - began
        self._counters.count(len(packed), self._writer.n_rows, seconds)
        if code == 0:
            self._answer(packed, self._runtime.context.vectors(len(packed)), began, seconds)
        elif len(packed) > 1:
            for one in packed:
                self._run([one])
        else:
            why = f"llama.cpp failed to compute the text (code {code}): {self._runtime.context.last_errors()}"
            self._fail(packed[0], EngineError(DECODE_FAILED, why, remedy="try the job again"))

    def _answer(self, packed: list[Embedding], vectors: Vectors, began: float, seconds: float) -> None:
        for one, vector in zip(packed, vectors, strict=True):
            try:
                wanted = shaped(vector, normalize=one.output.normalize, dimensions=one.output.dimensions)
            except ValueError as error:
                self._fail(one, EngineError(DECODE_FAILED, str(error), remedy="check the model file"))
                continue
            timings = Timings(
                wait_s=began - one.arrived,
                prefill_s=seconds,
                decode_s=0.0,
                total_s=self._clock() - one.arrived,
                mean_batch=float(len(packed)),
                steps=1,
            )
            self._leave(one)
            self._counters.done += 1
            completion = self._completion(one, wanted, timings)
            self._events.append({"op": "done", "id": one.request.id, "completion": completion.to_frame()})

    def _completion(self, one: Embedding, vector: Any, timings: Timings) -> Completion:
        info = self._runtime.info
        return Completion(
            text="",
            finish_reason=EMBEDDED,
            usage=Usage(len(one.tokens), 0, 0),
            timings=timings,
            provenance=Provenance(
                model_sha256=info["model_sha256"],
                quantisation=info["quantisation"],
                llama_build=info["llama_build"],
                prompt_sha256=hashlib.sha256(np.ascontiguousarray(one.tokens).tobytes()).hexdigest(),
                seed=None,
            ),
            embedding=to_base64(vector),
        )

    def _give_up(self, one: Embedding, error: EngineError) -> None:
        """One that waits fails; between two steps all do."""
        self._waiting.remove(one.request.id)
        self._fail(one, error)

    def _fail(self, one: Embedding, error: EngineError) -> None:
        self._leave(one)
        self._report(one.request.id, error)

    def _report(self, name: str, error: EngineError) -> None:
        self._counters.failed += 1
        self._events.append({"op": "failed", "id": name, "error": error.to_frame()})

    def _leave(self, one: Embedding) -> None:
        name = one.request.id
        del self._known[name]
        self._deadlines.pop(name, None)
