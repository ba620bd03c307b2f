"""The loop: many requests through one context, one step at a time.

A step expires, admits, schedules, decodes, samples and finishes. One thread calls everything here; nothing
blocks but the forward pass. It knows requests and events, not sockets. docs/engine.md draws the whole.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from workers.engine.admission import Admission
from workers.engine.arrivals import Arrivals, Arrived, Refused
from workers.engine.deadlines import Deadlines
from workers.engine.errors import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    DECODE_FAILED,
    REQUEST_INVALID,
    EngineError,
    memory_full,
    unforeseen,
)
from workers.engine.forward import Forward
from workers.engine.image_rows import DECODED, MEMORY_FULL
from workers.engine.loader import Runtime
from workers.engine.outcome import Progress, choice_completion, text_completion
from workers.engine.output_rows import OutputRow, read_rows
from workers.engine.pacing import Demand, Pacing
from workers.engine.plan import Burst, Joining, Plan, plan_step
from workers.engine.priors import Priors
from workers.engine.running import Running
from workers.engine.scoring import PathRunner
from workers.engine.sequence import Sequence
from workers.engine.waiting_line import WaitingLine

Event = dict[str, Any]
log = logging.getLogger(__name__)

MOST_FAILURES = 3
"""Failed decodes after which a job that had rows in each is given up, though it passed alone."""


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
        self._memory = runtime.memory
        self._known: dict[str, Sequence] = {}
        self._deadlines = Deadlines()
        self._waiting: WaitingLine[Sequence] = WaitingLine()
        self._running = Running()
        self._admission = Admission(
            self._waiting,
            self._running,
            runtime.memory,
            shares=runtime.shares_prefixes,
            n_cells=runtime.n_cells,
        )
        self._pacing = Pacing(runtime.settings, self._running, runtime.memory, unified=runtime.unified)
        self._paths = PathRunner(runtime.memory, runtime.choice_rows)
        self._forward = Forward(runtime, self._running, self._paths)
        self._priors = Priors()
        self._arrivals = Arrivals(runtime, self._pacing, self._priors, clock=clock, wall=wall)
        self._progress = Progress()
        self._events: list[Event] = []

    @property
    def idle(self) -> bool:
        """Whether a step would have nothing to do."""
        return not self._known and not self._arrivals.busy

    def rest(self) -> float | None:
        """Seconds until a step has something to do, if only a deadline; None where a message has to come."""
        if not self.idle:
            return 0.0
        deadline = self._arrivals.first_deadline
        return None if deadline is None else max(0.0, deadline - self._wall())

    # ---- between steps -------------------------------------------------------------------------------------

    def submit(self, frame: Any) -> None:
        """Take a request in; one that is wrong fails at once, through an event.

        An id that is in the engine already is `rejected`: `failed` would end the job that has it.
        """
        name = frame.get("id") if isinstance(frame, dict) else None
        name = name if isinstance(name, str) else ""
        if name in self._known or name in self._arrivals:
            why = EngineError(REQUEST_INVALID, f"the id {name!r} is already in the engine", field="id")
            self._events.append({"op": "rejected", "id": name, "error": why.to_frame()})
            return
        self._welcome(self._arrivals.submit(name, frame))

    def image(self, sha256: str, file: bytes | EngineError) -> None:
        """What a `need_image` event asked for: the file, or why there is none."""
        self._welcome(self._arrivals.image(sha256, file))

    def _welcome(self, arrivals: Iterable[Arrived | Refused]) -> None:
        for one in arrivals:
            if isinstance(one, Refused):
                self._report(one.name, one.error)
                continue
            request = one.sequence.request
            self._known[request.id] = one.sequence
            self._deadlines.note(request.id, request.deadline)
            self._enter(one.entering)

    def _enter(self, entering: list[Sequence]) -> None:
        for one in entering:
            self._known[one.request.id] = one
            self._waiting.push(one.request.id, one.request.priority, one)

    def cancel(self, name: str) -> None:
        """Take a request out before the next step; an unknown id is none of ours or already done."""
        self._end(name, EngineError(CANCELLED, "the job was cancelled"))

    def _end(self, name: str, error: EngineError) -> None:
        if name in self._known:
            self._fail(self._known[name], error)
        elif self._arrivals.drop(name):
            self._report(name, error)

    def stats(self) -> dict[str, Any]:
        """Counters since the start, and what is in the engine now."""
        counters = self._progress.frame() | self._arrivals.stats()
        return counters | {
            "running": len(self._running),
            "limit": self._pacing.limit,
            "waiting": len(self._waiting),
            "retreats": self._admission.retreats,
            "free_slots": self._memory.free_slots,
            "cells_used": self._memory.cells_used,
            "kept_cells": self._memory.kept_cells,
            "kept_branches": self._memory.kept_branches,
        }

    def events(self) -> list[Event]:
        """Port frames since the last call."""
        events, self._events = self._events, []
        return events + [{"op": "need_image", "sha256": sha256} for sha256 in self._arrivals.wanted()]

    # ---- the step ------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One forward pass for everybody, and before it one piece of work on images that are waited for."""
        self._expire()
        if self._arrivals.busy:
            hurried = any(one.interactive for one in self._running)
            self._welcome(self._arrivals.work(hurried=hurried))
        self._admit()
        plan = self._affordable(self._plan(self._pacing.bound(self._demand())))
        if plan is not None:
            self._sample(self._decode(plan))

    def _expire(self) -> None:
        now = self._wall()
        for name in self._deadlines.passed(now) + self._arrivals.expired(now):
            self._end(name, EngineError(DEADLINE_EXCEEDED, "the job's deadline passed before it was done"))

    def _admit(self) -> None:
        for one in self._admission.admit(self._pacing.limit):
            self._runtime.context.want_candidates(one.slot, one.candidates)
            if one.marks.started is None:
                self._guarded(one, self._begin)

    def _begin(self, one: Sequence) -> None:
        self._pacing.check_deadline(one, self._wall())
        one.marks.started = self._clock()
        reason = one.begin()
        if one.learns is None:
            self._events.append({"op": "started", "id": one.request.id})
        if reason is not None:
            self._finish(one, reason)

    def _plan(self, demand: Demand) -> Plan:
        return plan_step(
            tuple(sorted(one.slot for one in demand.decoding)),
            [burst for _, burst in demand.bursts],
            [each for _, each in demand.joining],
            budget=demand.budget,
            burst_rows=self._runtime.choice_rows,
        )

    def _demand(self) -> Demand:
        demand = Demand([], [], [], self._runtime.budget)
        scoring: list[Sequence] = []
        for one in self._alone() or self._running:
            if one.follows is not None:
                continue
            pending = one.pending
            if pending == 1 and one.tokens:
                demand.decoding.append(one)
            elif self._runtime.whole_images and one.at_image:
                demand.bursts.append((one, Burst(one.slot, one.run, of_image=True)))
            elif pending:
                rows = one.run if self._runtime.whole_images else pending
                joining = Joining(one.slot, one.request.priority, one.order, rows, one.passed)
                demand.joining.append((one, joining))
            elif one.scoring is not None:
                scoring.append(one)
        demand.bursts.extend(self._paths.bursts(scoring))
        return demand

    def _alone(self) -> list[Sequence]:
        """After a failed decode those who were in it run one at a time, until each has passed one."""
        return next(([one] for one in self._running if one.suspect), [])

    def _affordable(self, plan: Plan) -> Plan | None:
        """The plan within the free cells: beginnings that nobody uses make room, then chunks get shorter,
        then the youngest batch job gives way.
        """
        while plan.n_rows:
            if self._memory.make_room(plan.n_rows):
                return plan
            shorter = plan.shortened(self._memory.shortage(plan.n_rows))
            if shorter is not None and shorter.n_rows:
                return shorter
            self._shed()
            plan = self._plan(self._demand())
        return None

    def _shed(self) -> None:
        """The memory is full and no beginning is left to give up: one must leave its cells to the others."""
        victims = self._running.retreating(tired=True)
        if victims and len(self._running) > 1:
            self._admission.give_way(victims[0], keep=False)
        else:
            self._fail(max(self._running, key=lambda one: (one.request.priority, one.order)), memory_full())

    # ---- decode --------------------------------------------------------------------------------------------

    def _decode(self, plan: Plan | None) -> list[int]:
        """Run the plan; returns the sequence id of each row of logits."""
        while plan is not None:
            began = self._clock()
            code = self._forward.decode(plan)
            seconds = self._clock() - began
            self._progress.busy_s += seconds
            if code == DECODED:
                self._note(plan, seconds)
                return self._forward.advance(plan)
            if code != MEMORY_FULL:
                self._recover(plan, code)
                return []
            plan = self._smaller(plan)
        return []

    def _note(self, plan: Plan, seconds: float) -> None:
        """A plan is done: what is learned from it, and who had rows in it."""
        self._progress.count(plan)
        self._pacing.observe(plan, seconds)
        served = set(plan.slots)
        for slot in served:
            marks = self._running[slot].marks
            marks.steps += 1
            marks.sequences += len(served)
        for one in self._running:
            one.passed = 0 if one.slot in served or one.follows is not None else one.passed + 1

    def _smaller(self, plan: Plan) -> Plan | None:
        """llama.cpp found its memory full though our own count said that it fits: beginnings that nobody uses
        go, then the joining rows are halved, then one job gives way.
        """
        if self._memory.drop_kept():
            return plan
        shorter = plan.shortened(-(-(plan.n_rows - len(plan.decoding)) // 2))
        if shorter is not None and shorter != plan and shorter.n_rows:
            return shorter
        self._shed()
        return self._affordable(self._plan(self._demand()))

    def _recover(self, plan: Plan, code: int) -> None:
        """The decode failed and left the memory unknown: everybody is computed again in a new context. Those
        who were in it first prove alone that it was not they; who fails alone, or fails again and again,
        ends.
        """
        why = f"llama.cpp failed to decode the batch (code {code}): {self._runtime.context.last_errors()}"
        log.error("%s", why)
        inside = [self._running[slot] for slot in plan.slots]
        for one in inside:
            one.failures += 1
            one.suspect = True
            if len(inside) == 1 or one.failures >= MOST_FAILURES:
                self._fail(one, EngineError(DECODE_FAILED, why, remedy="try the job again"))
        self._admission.put_back()
        self._runtime.context.renew()
        self._progress.recovered += 1

    # ---- sample --------------------------------------------------------------------------------------------

    def _sample(self, ids: list[int]) -> None:
        if not ids:
            return
        for row, sequence_id in zip(read_rows(self._runtime.context, ids), ids, strict=True):
            if self._paths.takes(sequence_id):
                owner = self._running.get(self._paths.slot(sequence_id))
                if owner is not None:  # else it failed at an earlier row of this step
                    self._guarded(owner, self._paths.score, sequence_id, row)
                continue
            one = self._running[sequence_id]
            one.suspect = False
            self._guarded(one, self._take_row, row)
        for slot in self._paths.finish_step():
            self._guarded(self._running[slot], self._conclude)

    def _guarded(self, one: Sequence, part: Callable[..., None], *values: Any) -> None:
        """One sequence's part of a step: whatever goes wrong in it is that job's failure alone."""
        try:
            part(one, *values)
        except EngineError as error:
            self._fail(one, error)
        except Exception as error:
            log.exception("the job %r cannot go on", one.request.id)
            self._fail(one, unforeseen("the job cannot go on", error))

    def _take_row(self, one: Sequence, row: OutputRow) -> None:
        if one.marks.first_token is None:
            one.marks.first_token = self._clock()
        if one.scoring is not None:
            one.scoring.trie.score(0, row.logits, row.normaliser)
            # labels that all have one token are done with the prompt's own logits
            if not one.scoring.branches:
                self._conclude(one)
            return
        at = one.draw(row.logits, row.best, row.normaliser)
        token = row.token(at)
        if one.wants_top and token not in self._runtime.vocabulary.end_tokens:
            one.note_top(row.logits)
        reason = one.take(token, row.log_probability(at)) or one.jump()
        if reason is not None:
            self._finish(one, reason)

    # ---- finish --------------------------------------------------------------------------------------------

    def _conclude(self, one: Sequence) -> None:
        if one.learns is not None and one.scoring is not None:
            self._leave(one)
            self._enter(self._still_here(self._priors.learn(one.learns, one.scoring.trie.log_scores())))
            return
        completion = choice_completion(one, self._runtime.info, self._clock())
        self._leave(one)
        self._done(one, completion.to_frame())

    def _finish(self, one: Sequence, reason: str) -> None:
        completion = text_completion(one, reason, self._runtime.info, self._clock())
        self._admission.keep_history(one)
        self._leave(one)
        self._done(one, completion.to_frame())

    def _done(self, one: Sequence, completion: dict[str, Any]) -> None:
        if self._pacing.finished(one, completion["finish_reason"], self._clock()):
            self._events.append({"op": "capacity", "slots": self._pacing.limit})
        self._progress.done += 1
        self._progress.generated += len(one.tokens)
        self._progress.prompts += len(one.prompt)
        self._progress.cached += one.cached
        self._events.append({"op": "done", "id": one.request.id, "completion": completion})

    def _fail(self, one: Sequence, error: EngineError) -> None:
        if one.slot < 0:
            self._waiting.remove(one.request.id)
        self._leave(one)
        if one.learns is None:
            self._report(one.request.id, error)
            return
        for waiting in self._still_here(self._priors.give_up(one.learns)):
            self._fail(waiting, error)

    def _still_here(self, those: list[Sequence]) -> list[Sequence]:
        """Those who were neither cancelled nor expired meanwhile."""
        return [one for one in those if self._known.get(one.request.id) is one]

    def _report(self, name: str, error: EngineError) -> None:
        self._progress.failed += 1
        self._events.append({"op": "failed", "id": name, "error": error.to_frame()})

    def _leave(self, one: Sequence) -> None:
        del self._known[one.request.id]
        self._deadlines.drop(one.request.id)
        if one.slot >= 0:
            self._running.remove(one)
            self._paths.leave(one.slot)
            self._memory.release_slot(one.slot, one.known(one.computed))
