"""What a step may carry and what a job may hope for, decided from predicted step times.

    chunk        prompt rows beside decoding ones: within the inter-token target
    batch_rows   rows of batch jobs beside interactive ones: within a slow-down of those
    finish_in    seconds until a job would be done
    limit        sequences in flight: within the P99 target (slot_limit.py)

Nothing is held back before the step-time model has seen enough. It knows numbers only: no clock, no
sequences, no memory; the engine measures, asks and obeys.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

from workers.engine.slot_limit import SlotLimit
from workers.engine.step_time import StepTime

LEAST_CHUNK: Final = 16
"""Prompt rows that a step carries whatever the target says: below that a prompt costs a pass over the
weights for next to nothing, and the jobs behind it starve."""
SLOWDOWN: Final = 1.5
CREDIT_STEPS: Final = 4
"""Steps of interactive jobs whose unused allowance batch jobs may save up."""
MOST_SKIPPED: Final = 16
"""Steps in a row that batch jobs may be left out of."""
BENEFIT_OF_DOUBT: Final = 1.5
"""A deadline is given up only when the predicted time exceeds what is left by this factor."""


class Pace:
    """The decisions about rows and time of one engine. Times are seconds.

    `target_step_s` bounds the step while others decode, `target_p99_s` a job's time in its slot, `slowdown`
    how much longer steps of interactive jobs become by batch jobs, on average. None of a bound leaves it
    off.
    """

    def __init__(
        self,
        n_slots: int,
        *,
        target_step_s: float | None = None,
        target_p99_s: float | None = None,
        slowdown: float | None = SLOWDOWN,
    ) -> None:
        self.step_time = StepTime()
        self._slots = SlotLimit(n_slots, target_p99_s)
        self._target_step_s = target_step_s
        self._slowdown = slowdown
        self._credit = 0.0
        self._skipped = 0

    @property
    def limit(self) -> int:
        """How many sequences may be in flight, from 1 to the number of slots."""
        return self._slots.limit

    def finished(self, latency_s: float) -> bool:
        """Note a job that took `latency_s` seconds in its slot; True when `limit` changed by it.

        Not for jobs that failed, or that gave their slot up in between.
        """
        return self._slots.finished(latency_s)

    def chunk(self, rows: int, cells: float, budget: int, *, context: float = 0.0) -> int:
        """How many of `budget` prompt rows a step may carry beside `rows` decoding ones that read `cells`
        cells.

        `context` is what the first prompt row attends to: its own position, or all cells in use of a
        unified memory (then `cells` is `rows` times those). At least LEAST_CHUNK (or the budget, where that
        is less); all where nobody decodes, without a target, or before predictions can be trusted.
        """
        if self._target_step_s is None or rows == 0 or not self.step_time.confident:
            return budget
        predict = self.step_time.predict

        def seconds(chunk: int) -> float:
            return predict(rows, chunk, cells + chunk * (context + chunk / 2))

        return _largest(min(LEAST_CHUNK, budget), budget, self._target_step_s, seconds)

    def batch_rows(
        self,
        rows: int,
        prefill: int,
        cells: float,
        *,
        decoding: int,
        joining: int = 0,
        context: float = 0.0,
    ) -> int:
        """How many rows of batch jobs share a step with interactive jobs' `rows` decoding and `prefill`
        prompt rows, which read `cells` cells.

        Batch jobs ask for `decoding` rows and then `joining` prompt rows, that read `context` cells each.
        What an interactive step leaves of its allowance is saved for the next ones, so that batch jobs move
        on at the rate that the slow-down affords even where a single one is dear; and 0 is answered at most
        MOST_SKIPPED times in a row. Call it once a step: it remembers.
        """
        wanted = decoding + joining
        if self._slowdown is None or rows + prefill == 0 or not self.step_time.confident:
            return wanted
        predict = self.step_time.predict

        def seconds(more: int) -> float:
            decode = min(more, decoding)
            return predict(rows + decode, prefill + more - decode, cells + more * context)

        alone = seconds(0)
        allowed = self._slowdown * alone + self._credit
        found = _largest(0, wanted, allowed, seconds)
        if found == 0 and wanted and self._skipped >= MOST_SKIPPED:
            found = 1
        self._skipped = 0 if found or not wanted else self._skipped + 1
        most = CREDIT_STEPS * (self._slowdown - 1.0) * alone
        self._credit = min(most, max(0.0, allowed - seconds(found)))
        return found

    def finish_in(
        self,
        prompt_left: int,
        steps: float,
        *,
        rows: int = 0,
        cells: float = 0.0,
        context: float = 0.0,
        chunk: int = 512,
    ) -> float:
        """Seconds until a job would be done that is given its rows now; 0.0 before predictions can be
        trusted.

        `prompt_left` rows come in chunks of at most `chunk`, then `steps` steps of one row, all beside
        `rows` others that read `cells`; `context` as in `chunk`.
        """
        if not self.step_time.confident:
            return 0.0
        predict = self.step_time.predict
        n_chunks = ceil(prompt_left / chunk) if prompt_left > 0 else 0
        prefill = 0.0
        if n_chunks:
            each = ceil(prompt_left / n_chunks)
            prefill = n_chunks * predict(rows, each, cells + each * (context + prompt_left / 2))
        return prefill + steps * predict(rows + 1, 0, cells + context + prompt_left + steps / 2)

    @staticmethod
    def hopeless(seconds: float, left_s: float) -> bool:
        """Whether a job predicted to take `seconds` cannot meet a deadline that is `left_s` away.

        In doubt it may try: predictions err, and the load may ease.
        """
        return seconds > BENEFIT_OF_DOUBT * max(0.0, left_s)


def _largest(low: int, high: int, limit: float, seconds: Callable[[int], float]) -> int:
    """The largest n from `low` to `high` with seconds(n) within the limit, or `low`; seconds must not fall
    much."""
    if seconds(high) <= limit:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if seconds(middle) <= limit:
            low = middle
        else:
            high = middle
    return low
