"""A circuit breaker: whether an engine or an endpoint may be asked. Pure: the clock (seconds, any origin) is
passed in.

             allowed_fails failures in a row             cooldown passed
    CLOSED ────────────────────────────────────► OPEN ────────────────────► HALF OPEN
       ▲                                          ▲ ▲                           │
       │                   failure: twice as long │ └───────────────────────────┤
       └────────────────────────────────────────────────────────────────────────┘ success

It knows nobody that is asked, and no reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

LONGEST_SECONDS: Final = 300.0


class State(Enum):
    """Where the breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to ask once. What comes of it counts only while the breaker is where it was then."""

    era: int


class Breaker:
    """The breaker of whoever is asked. Every permit is given back by one of `succeed`, `fail` and `abandon`.
    Times are seconds: the first cool-down, and the longest that failed probes make of it."""

    def __init__(self, allowed_fails: int, cooldown: float, longest: float = LONGEST_SECONDS) -> None:
        self._allowed = allowed_fails
        self._first = cooldown
        self._longest = longest
        self._cooldown = cooldown
        self._fails = 0
        self._until = 0.0
        self._era = 0
        self.probing = False
        """Whether the one request that is let through after a cool-down is under way."""
        self.state = State.CLOSED

    def enter(self, now: float) -> Permit | None:
        """A permit, or None: not now."""
        if self.state is State.OPEN and now >= self._until:
            self._move(State.HALF_OPEN)
        if self.state is State.OPEN or self.probing:
            return None
        self.probing = self.state is State.HALF_OPEN
        return Permit(self._era)

    def left(self, now: float) -> float:
        """Seconds until anybody is let through; 0 while it is not open."""
        return max(0.0, self._until - now) if self.state is State.OPEN else 0.0

    def succeed(self, permit: Permit) -> None:
        """There was an answer."""
        if permit.era != self._era:
            return
        self._fails = 0
        if self.state is State.HALF_OPEN:
            self._cooldown = self._first
            self._move(State.CLOSED)

    def fail(self, permit: Permit, now: float) -> None:
        """There was none, or nonsense."""
        if permit.era != self._era:
            return
        self._fails += 1
        if self.state is State.HALF_OPEN:
            self._cooldown = min(self._longest, 2 * self._cooldown)
            self.open(now)
        elif self._fails >= self._allowed:
            self.open(now)

    def abandon(self, permit: Permit) -> None:
        """The request was given up before anything came of it."""
        if permit.era == self._era:
            self.probing = False

    def open(self, now: float) -> None:
        """Let nobody ask for the cool-down."""
        self._until = now + self._cooldown
        self._move(State.OPEN)

    def _move(self, state: State) -> None:
        self.state = state
        self._era += 1
        self.probing = False
        self._fails = 0
