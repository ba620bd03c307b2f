"""When a job whose attempt failed in passing is tried again. Pure: the dice (0 to 1) are passed in.

    attempt failed ──► budget left? ──yes──► exponential delay with jitter, one token spent
                                    ──no───► the longest delay
    attempt succeeded ──► a tenth of a token earned

A retry is worth its work while others succeed. When everything fails, retries are most of what a worker does,
and they keep down what they wait for: without tokens they come at the longest delay only. A tenth of a token
for each success bounds them to one in ten of the work in the long run, as gRPC's retry throttling does.
It knows no job and no queue.
"""

from __future__ import annotations

from typing import Final

BASE_SECONDS: Final = 0.5
CAP_SECONDS: Final = 60.0
EARNED: Final = 0.1
"""Of a token, by a success."""


def retry_delay(retries: int, jitter: float) -> float:
    """Seconds before attempt `retries` + 2: exponential from 0.5 to 60, scaled by `jitter` (0–1) to
    between half and whole, so that jobs that failed together do not come back together."""
    return float(min(CAP_SECONDS, BASE_SECONDS * 2 ** min(retries, 16)) * (0.5 + jitter / 2))


class RetryBudget:
    """What one worker may spend on retries; full at first. `most`: retries that may come soon, at once."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._tokens = self._most

    @property
    def spent(self) -> bool:
        """Whether the next retry has to wait for the longest."""
        return self._tokens < 1.0

    def earn(self) -> None:
        """An attempt succeeded."""
        self._tokens = min(self._most, self._tokens + EARNED)

    def delay(self, retries: int, jitter: float) -> float:
        """Seconds before attempt `retries` + 2, which is made now and spends a token if there is one."""
        if self.spent:
            return CAP_SECONDS * (0.5 + jitter / 2)
        self._tokens -= 1.0
        return retry_delay(retries, jitter)
