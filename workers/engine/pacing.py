"""Between the sequences and `Pace`: what they ask for in numbers, and what they get.

`Pace` knows rows, cells and seconds; the engine knows sequences. It keeps no sequence and reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from workers.engine.errors import DEADLINE_UNREACHABLE, EngineError
from workers.engine.length_guess import LengthGuess
from workers.engine.memory import Memory
from workers.engine.model import EngineModel
from workers.engine.pace import Pace
from workers.engine.plan import Burst, Joining, Plan
from workers.engine.running import Running
from workers.engine.sequence import STOP, Sequence

_OBSERVED: Final = 4
"""One in so many steps is learned from: it costs as much as a tenth of a small model's step."""
_MOST_PASSED: Final = 16
"""A choice's rows come together or not at all: one that was left out so often gets them."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the running sequences would have computed in one step, and the rows that all together may have."""

    decoding: list[Sequence]
    bursts: list[tuple[Sequence, Burst]]
    joining: list[tuple[Sequence, Joining]]
    budget: int

    @property
    def n_rows(self) -> int:
        """All rows asked for."""
        return (
            len(self.decoding)
            + sum(burst.rows for _, burst in self.bursts)
            + sum(each.rows for _, each in self.joining)
        )


class Pacing:
    """Decides for one engine how many rows a step has, and which deadlines are out of reach."""

    def __init__(self, settings: EngineModel, running: Running, memory: Memory, *, unified: bool) -> None:
        on = settings.step_control
        self._running = running
        self._memory = memory
        self._unified = unified
        self._on = on
        self._observed = 0
        self._n_batch = settings.n_batch
        self._lengths = LengthGuess()
        self._pace = Pace(
            settings.n_slots,
            target_step_s=_seconds(settings.target_step_ms) if on else None,
            target_p99_s=_seconds(settings.target_p99_ms) if on else None,
            slowdown=settings.interactive_slowdown if on else None,
        )

    @property
    def limit(self) -> int:
        """How many sequences may be in flight."""
        return self._pace.limit

    # ---- after the fact ------------------------------------------------------------------------------------

    def observe(self, plan: Plan, seconds: float) -> None:
        """Learn from a step that is done, before its sequences move on; from some of them once it has seen
        enough.
        """
        self._observed += 1
        if self._pace.step_time.confident and self._observed % _OBSERVED:
            return
        n_decoding = len(plan.decoding)
        if self._unified:
            cells = float(plan.n_rows * self._memory.cells_used)
        else:
            cells = self._cells([self._running[slot] for slot in plan.decoding])
            for slot, rows in plan.chunks:
                cells += rows * (self._running[slot].computed + rows / 2)
            for burst in plan.bursts:
                cells += burst.rows * self._running[burst.slot].computed
        self._pace.step_time.observe(n_decoding, plan.n_rows - n_decoding, cells, seconds)

    def finished(self, one: Sequence, reason: str, now: float) -> bool:
        """Learn from a job that is done; True when `limit` changed by it."""
        if reason == STOP:
            self._lengths.observe(one.kind, len(one.evidence.chosen))
        if one.gave_way or one.failures:
            return False
        return one.marks.started is not None and self._pace.finished(now - one.marks.started)

    # ---- before a step -------------------------------------------------------------------------------------

    def bound(self, demand: Demand) -> Demand:
        """What of a demand fits the targets: batch jobs give rows up for interactive ones, then chunks get
        shorter for those who decode, unless an interactive one would wait for batch jobs' tokens by that.
        """
        if self._on and any(one.interactive for one in self._running):
            demand = self._beside_interactive(demand)
        n_decoding = len(demand.decoding)
        budget = demand.budget
        hurried = any(one.interactive for one, _ in demand.joining)
        if demand.joining and n_decoding and (not hurried or any(one.interactive for one in demand.decoding)):
            cells = self._cells(demand.decoding)
            chunk = self._pace.chunk(n_decoding, cells, budget - n_decoding, context=self._context())
            budget = min(budget, n_decoding + chunk)
        return replace(demand, budget=budget)

    def _beside_interactive(self, demand: Demand) -> Demand:
        first = [one for one in demand.decoding if one.interactive]
        batch = [one for one in demand.decoding if not one.interactive]
        bursts = [each for each in demand.bursts if each[0].interactive]
        joining = [each for each in demand.joining if each[0].interactive]
        prefill = sum(burst.rows for _, burst in bursts) + sum(each.rows for _, each in joining)
        prefill = min(prefill, demand.budget - len(demand.decoding))
        left = self._pace.batch_rows(
            len(first),
            prefill,
            self._cells(first),
            decoding=len(batch),
            joining=max(0, min(demand.n_rows, demand.budget) - len(demand.decoding) - prefill),
            context=self._context(),
        )
        # those who were left out most often go first
        batch.sort(key=lambda one: (-one.passed, one.order))
        first += batch[:left]
        left = max(0, left - len(batch))
        for one, burst in demand.bursts:
            if one.interactive:
                continue
            if burst.rows <= left or one.passed >= _MOST_PASSED:
                bursts.append((one, burst))
                left = max(0, left - burst.rows)
        for one, each in demand.joining:
            rows = min(each.rows, left)
            if not one.interactive and rows:
                joining.append((one, replace(each, rows=rows)))
                left -= rows
        return replace(demand, decoding=first, bursts=bursts, joining=joining)

    def _context(self) -> float:
        """Cells that one more row reads beyond those of its own sequence."""
        return float(self._memory.cells_used) if self._unified else 0.0

    def _cells(self, decoding: list[Sequence]) -> float:
        """Cells that so many decoding rows read."""
        if self._unified:
            return float(len(decoding) * self._memory.cells_used)
        return float(sum(one.computed for one in decoding))

    # ---- deadlines -----------------------------------------------------------------------------------------

    def check_deadline(self, one: Sequence, now: float) -> None:
        """Raise EngineError (deadline_unreachable) for a job that cannot be done in time even if it gets its
        rows at once, and is spared what is in memory or on its way. `now` in unix seconds.
        """
        deadline = one.request.deadline
        if deadline is None or not self._on:
            return
        guess = self._lengths.guess(one.kind)
        steps = 1 if guess is None else min(guess.low, one.most_tokens)
        decoding = [other for other in self._running if other.decodes]
        spared = max(one.computed, self._memory.spared(one.known()), one.follows[1] if one.follows else 0)
        seconds = self._pace.finish_in(
            one.length - spared,
            steps,
            rows=len(decoding),
            cells=self._cells(decoding),
            context=self._context(),
            chunk=self._n_batch,
        )
        if self._pace.hopeless(seconds, deadline - now):
            raise EngineError(
                DEADLINE_UNREACHABLE,
                f"the job would take about {seconds:.2f} s and has {max(0.0, deadline - now):.2f} s left",
                field="deadline",
                remedy="give it more time or fewer tokens, or send it to a faster or less busy model",
            )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
