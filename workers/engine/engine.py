"""The loop: many requests through one context, one step at a time.

A step admits, schedules, decodes, samples and finishes. One thread calls everything here; nothing blocks
but the forward pass. It knows requests and events, not sockets.
"""

from __future__ import annotations

import logging
import time
from bisect import insort
from collections.abc import Callable
from typing import Any

import numpy as np

from workers.engine.errors import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    DECODE_FAILED,
    REQUEST_INVALID,
    EngineError,
)
from workers.engine.intake import Intake
from workers.engine.loader import Runtime
from workers.engine.outcome import Progress, choice_completion, text_completion
from workers.engine.prefix import RecentPrompts, common_length
from workers.engine.rows import RowWriter
from workers.engine.sampler import Logits, log_sum_exp
from workers.engine.scheduler import Burst, Joining, Plan, WaitingLine, plan_step
from workers.engine.scoring import PathRunner
from workers.engine.sequence import Sequence

Event = dict[str, Any]
log = logging.getLogger(__name__)


class Engine:
    """Runs requests to their end. `clock` gives seconds for timings, `wall` unix seconds for deadlines."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._runtime = runtime
        self._clock, self._wall = clock, wall
        n_slots = runtime.settings.n_slots
        self._memory = runtime.memory
        self._intake = Intake(runtime)
        self._waiting: WaitingLine[Sequence] = WaitingLine()
        self._known: dict[str, Sequence] = {}
        self._deadlines: dict[str, float] = {}
        self._running: dict[int, Sequence] = {}
        self._decoding: list[int] = []
        self._sources: dict[int, tuple[Sequence, int]] = {}
        self._keep: dict[int, int] = {}
        self._recent = RecentPrompts()
        self._next = np.zeros(n_slots, np.int32)
        self._past = np.zeros(n_slots, np.int32)
        self._writer = RowWriter(runtime.context.batch)
        self._paths = PathRunner(runtime.memory, runtime.choice_rows)
        self._progress = Progress()
        self._events: list[Event] = []

    @property
    def idle(self) -> bool:
        """Whether a step would have nothing to do."""
        return not self._known

    # ---- between steps -------------------------------------------------------------------------------------

    def submit(self, frame: Any) -> None:
        """Take a request in; one that is wrong fails at once, through an event.

        An id that is in the engine already is `rejected`: `failed` would end the job that has it.
        """
        name = frame.get("id") if isinstance(frame, dict) else None
        name = name if isinstance(name, str) else ""
        if name in self._known:
            why = EngineError(REQUEST_INVALID, f"the id {name!r} is already in the engine", field="id")
            self._events.append({"op": "rejected", "id": name, "error": why.to_frame()})
            return
        try:
            sequence = self._intake.prepare(frame, self._clock())
        except EngineError as error:
            self._report(name, error)
            return
        except Exception as error:
            log.exception("the request %r cannot be read", name)
            self._report(name, _unforeseen("the request cannot be read", error))
            return
        self._known[name] = sequence
        if sequence.request.deadline is not None:
            self._deadlines[name] = sequence.request.deadline
        self._waiting.push(name, sequence.request.priority, sequence)

    def cancel(self, name: str) -> None:
        """Take a request out before the next step; an unknown id is none of ours or already done."""
        if name in self._known:
            self._fail(self._known[name], EngineError(CANCELLED, "the job was cancelled"))

    def stats(self) -> dict[str, Any]:
        """Counters since the start, and what is in the engine now."""
        return self._progress.frame() | {"running": len(self._running), "waiting": len(self._waiting)}

    def events(self) -> list[Event]:
        """Port frames since the last call."""
        events, self._events = self._events, []
        return events

    # ---- the step ------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One forward pass for everybody."""
        self._expire()
        self._admit()
        plan = self._schedule()
        if plan is None:
            return
        ids = self._decode(plan)
        if ids:
            self._sample(ids)

    def _expire(self) -> None:
        if not self._deadlines:
            return
        now = self._wall()
        for one in [self._known[name] for name, deadline in self._deadlines.items() if deadline <= now]:
            self._fail(one, EngineError(DEADLINE_EXCEEDED, "the job's deadline passed before it was done"))

    def _admit(self) -> None:
        while len(self._waiting) and self._memory.free_slots:
            one = self._waiting.pop()
            one.slot = self._memory.take_slot()
            self._past[one.slot] = 0
            one.marks.started = self._clock()
            one.marks.steps, one.marks.rows = self._progress.steps, self._progress.sequences
            self._guarded(one, self._start)
        for slot in list(self._sources):
            self._follow(slot)

    def _start(self, one: Sequence) -> None:
        self._running[one.slot] = one
        one.begin()
        self._attach(one)
        self._events.append({"op": "started", "id": one.request.id})

    def _attach(self, one: Sequence) -> None:
        """Give a new sequence the longest beginning in memory, or let it wait for one being computed."""
        if not self._runtime.shares_prefixes:
            return
        match = self._memory.match(one.prompt)
        known = 0 if match is None else match.length
        source, length = self._best_source(one)
        if source is not None and length - known >= self._memory.min_shared:
            self._sources[one.slot] = (source, length)
            if self._past[source.slot] < length:
                self._keep[source.slot] = max(self._keep.get(source.slot, 0), length)
        elif match is not None:
            self._reuse(one, match.sequence, match.length)
        recent = self._recent.shared_length(one.prompt)
        if source is None and self._memory.worth_keeping(recent, match):
            self._keep[one.slot] = recent
        self._recent.add(one.prompt)

    def _best_source(self, one: Sequence) -> tuple[Sequence | None, int]:
        best: Sequence | None = None
        longest = 0
        for other in self._running.values():
            # one that itself waits for a beginning would only make the line longer
            if other is one or other.slot in self._sources:
                continue
            length = min(common_length(other.prompt, one.prompt), len(one.prompt) - 1)
            # a worse priority may share what it has, but is not waited for
            if other.request.priority > one.request.priority:
                length = min(length, int(self._past[other.slot]))
            if length > longest:
                best, longest = other, length
        return best, longest

    def _follow(self, slot: int) -> None:
        """A sequence waits for another one's prompt: copy it as soon as it is computed."""
        one = self._running[slot]
        source, length = self._sources[slot]
        if self._running.get(source.slot) is not source:
            del self._sources[slot]
            match = self._memory.match(one.prompt)
            if match is not None:
                self._reuse(one, match.sequence, match.length)
        elif self._past[source.slot] >= length:
            del self._sources[slot]
            self._reuse(one, source.slot, length)

    def _reuse(self, one: Sequence, sequence: int, length: int) -> None:
        self._memory.reuse(sequence, one.slot, length)
        one.cached = length
        self._past[one.slot] = length

    def _schedule(self) -> Plan | None:
        joining, bursts = [], []
        if len(self._decoding) < len(self._running):
            for slot, one in self._running.items():
                left = len(one.prompt) - int(self._past[slot])
                if slot in self._sources or slot in self._decoding:
                    continue
                if left > 0:
                    joining.append(Joining(slot, one.request.priority, one.order, left, one.passed))
                elif one.scoring is not None:
                    bursts.append(Burst(slot, self._paths.rows_wanted(one.scoring)))
        plan = plan_step(
            tuple(self._decoding),
            bursts,
            joining,
            budget=self._runtime.budget,
            burst_rows=self._runtime.choice_rows,
        )
        served = {slot for slot, _ in plan.chunks}
        for each in joining:
            self._running[each.slot].passed += each.slot not in served
        return plan if plan.decoding or plan.bursts or plan.chunks else None

    # ---- decode --------------------------------------------------------------------------------------------

    def _decode(self, plan: Plan) -> list[int]:
        """Run the plan; returns the sequence id of each row of logits. Sheds what cannot be run."""
        while True:
            self._write(plan)
            began = self._clock()
            code = self._runtime.context.decode(self._writer.n_rows)
            self._progress.busy_s += self._clock() - began
            if code == 0:
                return self._advance(plan)
            self._paths.abandon()
            # 1 is a full memory, restored; anything else leaves the memory in an unknown state
            if code != 1:
                self._give_up(code)
                return []
            smaller = self._smaller(plan)
            if smaller is None:
                return []
            plan = smaller

    def _write(self, plan: Plan) -> None:
        writer = self._writer
        writer.clear()
        slots = np.array(plan.decoding, np.int32)
        writer.add_decoding(slots, self._next[slots], self._past[slots])
        for slot, rows in plan.chunks:
            prompt, past = self._running[slot].prompt, int(self._past[slot])
            done = past + rows == len(prompt)
            writer.add_run(slot, prompt[past : past + rows], past, outputs="last" if done else "none")
        for slot in plan.bursts:
            one = self._running[slot]
            if one.scoring is not None:
                self._paths.write(slot, len(one.prompt), one.scoring, writer)
        if not self._runtime.unified and len(plan.chunks) + len(plan.bursts) > 0:
            writer.sort_by_sequence()

    def _advance(self, plan: Plan) -> list[int]:
        slots = np.array(plan.decoding, np.int32)
        self._past[slots] += 1
        for slot, rows in plan.chunks:
            self._past[slot] += rows
            if self._past[slot] >= self._keep.get(slot, 1 << 30):
                self._memory.keep(slot, self._running[slot].prompt[: self._keep.pop(slot)])
        self._progress.count(len(plan.decoding), len(plan.chunks), len(plan.bursts), self._writer.n_rows)
        return self._writer.output_sequences()

    def _smaller(self, plan: Plan) -> Plan | None:
        """The memory is full: give up kept beginnings, then this step's prompts, then one sequence."""
        if self._memory.drop_kept():
            return plan
        if plan.decoding and (plan.chunks or plan.bursts):
            return Plan(plan.decoding, (), ())
        slots = (*plan.decoding, *plan.bursts, *(slot for slot, _ in plan.chunks))
        victim = max(
            (self._running[slot] for slot in slots), key=lambda one: (one.request.priority, one.order)
        )
        self._fail(victim, _memory_full())
        return self._schedule()

    def _give_up(self, code: int) -> None:
        """The context failed in a way that leaves its memory unknown: everybody in it must be tried again."""
        why = f"llama.cpp failed to decode the batch (code {code}): {self._runtime.context.last_errors()}"
        for one in list(self._running.values()):
            self._fail(one, EngineError(DECODE_FAILED, why, remedy="try the job again"))
        self._memory.clear()

    # ---- sample --------------------------------------------------------------------------------------------

    def _sample(self, ids: list[int]) -> None:
        logits = self._runtime.context.logits(len(ids))
        best = logits.argmax(axis=1).tolist()
        normalisers = log_sum_exp(logits).tolist()
        for row, sequence_id in enumerate(ids):
            if self._paths.takes(sequence_id):
                self._paths.score(sequence_id, logits[row])
                continue
            self._guarded(
                self._running[sequence_id], self._take_row, logits[row], best[row], normalisers[row]
            )
        for slot in self._paths.finish_step():
            self._guarded(self._running[slot], self._conclude)
        self._conclude_scored(ids)

    def _guarded(self, one: Sequence, part: Callable[..., None], *values: Any) -> None:
        """One sequence's part of a step: whatever goes wrong in it is that job's failure alone."""
        try:
            part(one, *values)
        except EngineError as error:
            self._fail(one, error)
        except Exception as error:
            log.exception("the job %r cannot go on", one.request.id)
            self._fail(one, _unforeseen("the job cannot go on", error))

    def _take_row(self, one: Sequence, row: Logits, best: int, normaliser: float) -> None:
        if one.scoring is not None:
            one.marks.first_token = self._clock()
            one.scoring.trie.score(0, row)
            return
        token = one.draw(row, best)
        if one.wants_top and token not in self._runtime.vocabulary.end_tokens:
            one.note_top(row)
        reason = one.take(token, float(row[token]) - normaliser)
        if reason is not None:
            self._finish(one, reason)
            return
        self._next[one.slot] = token
        if not one.marks.first_token:
            one.marks.first_token = self._clock()
            insort(self._decoding, one.slot)

    def _conclude_scored(self, ids: list[int]) -> None:
        """Choices whose labels all have one token are done with the prompt's own logits."""
        for slot in ids:
            one = self._running.get(slot)
            if one is not None and one.scoring is not None and not one.scoring.paths:
                self._guarded(one, self._conclude)

    # ---- finish --------------------------------------------------------------------------------------------

    def _conclude(self, one: Sequence) -> None:
        completion = choice_completion(one, self._runtime.info, self._progress, self._clock())
        self._leave(one)
        self._done(one, completion.to_frame())

    def _finish(self, one: Sequence, reason: str) -> None:
        completion = text_completion(one, reason, self._runtime.info, self._progress, self._clock())
        self._leave(one)
        self._done(one, completion.to_frame())

    def _done(self, one: Sequence, completion: dict[str, Any]) -> None:
        self._progress.done += 1
        self._progress.generated += len(one.tokens)
        self._progress.prompts += len(one.prompt)
        self._progress.cached += one.cached
        self._events.append({"op": "done", "id": one.request.id, "completion": completion})

    def _fail(self, one: Sequence, error: EngineError) -> None:
        if one.slot < 0:
            self._waiting.remove(one.request.id)
        self._leave(one)
        self._report(one.request.id, error)

    def _report(self, name: str, error: EngineError) -> None:
        self._progress.failed += 1
        self._events.append({"op": "failed", "id": name, "error": error.to_frame()})

    def _leave(self, one: Sequence) -> None:
        del self._known[one.request.id]
        self._deadlines.pop(one.request.id, None)
        one.close()
        if one.slot < 0:
            return
        slot = one.slot
        del self._running[slot]
        self._sources.pop(slot, None)
        self._keep.pop(slot, None)
        if slot in self._decoding:
            self._decoding.remove(slot)
        self._memory.release_slot(slot)


def _unforeseen(what: str, error: Exception) -> EngineError:
    return EngineError(REQUEST_INVALID, f"{what}: {type(error).__name__}: {str(error)[:300]}")


def _memory_full() -> EngineError:
    return EngineError(
        DECODE_FAILED,
        "the model's memory is full, and this job was the last to join",
        remedy="try again, or lower n_slots or n_ctx in the model catalogue",
    )
