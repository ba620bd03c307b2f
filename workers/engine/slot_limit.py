"""How many sequences may be in flight, so that jobs finish within the model's P99 target.

Additive increase, multiplicative decrease (Chiu and Jain 1989), one decision for each window of as many
finished jobs as may be in flight, by the last jobs: one more sequence while they keep the target, 0.7 times
as many where they do not. The jobs in flight when the limit falls were slowed by the old one; as many as that
are not judged. Nor are the first, as many as there are slots: they (and the worker's warm-up, which is among
them) pay for first touches.

It knows numbers only: no clock, no jobs.
"""

from __future__ import annotations

from collections import deque
from typing import Final

DECREASE: Final = 0.7
JUDGED: Final = 200
"""Of so many of the last jobs the late ones are counted."""
LATE_SHARE: Final = 0.01
"""A P99 target is kept while no more than this share of the jobs is late."""


class SlotLimit:
    """A bound between 1 and `n_slots`. Without a target it stays at `n_slots`."""

    def __init__(self, n_slots: int, target_p99_s: float | None = None) -> None:
        self._n_slots = n_slots
        self._target = target_p99_s
        self._count = 0
        self._recent: deque[bool] = deque(maxlen=JUDGED)
        self._settling = n_slots
        self.limit = n_slots

    def finished(self, latency_s: float) -> bool:
        """Note a job that took `latency_s` seconds from its slot to its end; True when the limit changed by
        it.

        Time in the waiting line is no reason for fewer sequences (it would grow by that), so it is not part
        of `latency_s`; nor does a job count that gave its slot up in between.
        """
        if self._target is None:
            return False
        if self._settling:
            self._settling -= 1
            return False
        self._count += 1
        self._recent.append(latency_s > self._target)
        if self._count < self.limit:
            return False
        before, self._count = self.limit, 0
        late, judged = sum(self._recent), len(self._recent)
        # a single late one among less than a hundred says nothing about 99 %, unless there is no other
        if late > max(1, LATE_SHARE * judged) or late == judged:
            self.limit = max(1, int(DECREASE * before))
            self._settling = before
            self._recent.clear()
        else:
            self.limit = min(self._n_slots, before + 1)
        return self.limit != before
