"""Whether the engine may be given jobs, and whether a job is rightly blamed for its death. Pure: the clock
(seconds, any origin) is passed in.

An engine that dies and dies, or fails every pass, is no place for jobs: they would all be blamed, or use up
their attempts. A breaker opens then, and a short job of our own, the *test*, tries the engine out. The same
test comes before a verdict: a job under which the engine died alone is to blame only if the next engine
answers the test. It knows neither the engine nor what the test is.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from workers.breaker import Breaker, Permit, State
from workers.pool_job import PoolJob

DEATHS_IN_A_ROW: Final = 3
"""Deaths without an answer in between after which no job is given."""
COOLDOWN_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 60.0
"""A worker holds jobs meanwhile: they must not wait for as long as an endpoint may be left alone."""


class May(Enum):
    """What the engine may be given."""

    JOBS = "jobs"
    TEST = "test"
    NOTHING = "nothing"


class Health:
    """One engine's. `fails_in_a_row`: jobs that its failed passes may cost before it counts as broken; a
    single pass can fail every job that was running."""

    def __init__(self, fails_in_a_row: int) -> None:
        self._breaker = Breaker(fails_in_a_row, COOLDOWN_SECONDS, LONGEST_SECONDS)
        self._deaths = 0
        self._test: Permit | None = None
        self.accused: PoolJob | None = None
        """The job that waits for its verdict."""

    @property
    def good(self) -> bool:
        """Whether nothing speaks against taking more jobs."""
        return self._breaker.state is State.CLOSED

    def next(self, now: float) -> May:
        """What the engine may be given now; where that is the test, it counts as given."""
        if self._test is not None:
            return May.NOTHING
        if self.good and self.accused is None:
            return May.JOBS
        self._test = self._breaker.enter(now)
        return May.NOTHING if self._test is None else May.TEST

    def left(self, now: float) -> float:
        """Seconds until the test may be given; 0 if that is no question of time."""
        return self._breaker.left(now)

    def answered(self, now: float, *, broken: bool) -> None:
        """A job has been answered; `broken` if what the answer says speaks against the engine. While it is
        being tried out, only the test counts."""
        if self.good:
            self._count(self._breaker.enter(now), now, broken=broken)

    def tested(self, now: float, *, broken: bool) -> PoolJob | None:
        """The test has been answered. Returns who was accused: to blame, unless the engine is `broken`."""
        self._count(self._test, now, broken=broken)
        self._test = None
        accused, self.accused = self.accused, None
        return accused

    def _count(self, permit: Permit | None, now: float, *, broken: bool) -> None:
        self._deaths = 0
        if permit is None:
            return
        if broken:
            self._breaker.fail(permit, now)
        else:
            self._breaker.succeed(permit)

    def died(self, now: float, accused: PoolJob | None) -> PoolJob | None:
        """The engine has died, and `accused` may be to blame. Returns whom the last death was laid to without
        reason: the engine has died of the test."""
        cleared = self.accused if self._test is not None else None
        self._deaths += 1
        if self._test is not None and self._breaker.state is State.HALF_OPEN:
            self._breaker.fail(self._test, now)
        elif self.good and self._deaths >= DEATHS_IN_A_ROW:
            self._breaker.open(now)
        self._test = None
        if accused is not None or cleared is not None:
            self.accused = accused
        return cleared

    def withdraw(self, unit: PoolJob) -> None:
        """A job is gone for some other reason: it needs no verdict."""
        if self.accused is unit:
            self.accused = None
