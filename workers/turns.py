"""Whose turn it is in the engine. Pure: it asks nobody and sends nothing.

    arrival ──► held ─────────────────────────► inside ──► answered
                  │ lost by two consumers         │ the engine dies
                  └────────► suspects ◄───────────┘
                                └── one at a time ──► inside, alone

A suspect runs alone: if the engine dies then, the culprit is known. While there are suspects, they and the
others take turns: one suspect, then all that are held, then the next suspect. So an interactive job waits for
one suspect, not for all of them; and it joins the others as long as one of those is inside that were there
when the doors were closed, which is no longer than the suspect has to wait anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from workers.pool_job import PoolJob


class Turns:
    """The jobs of one engine: who is inside, who waits, who may enter."""

    def __init__(self) -> None:
        self._held: deque[PoolJob] = deque()
        self._suspects: list[PoolJob] = []
        self._inside: dict[str, PoolJob] = {}
        self._alone: PoolJob | None = None
        self._others_next = False
        self._at_closing: frozenset[str] = frozenset()
        """Those who were inside when the doors were closed, by key; empty while they are open."""

    @property
    def suspects(self) -> int:
        """How many are to run alone, or do."""
        return len(self._suspects) + (self._alone is not None)

    @property
    def inside(self) -> list[PoolJob]:
        """Those whom the engine has."""
        return list(self._inside.values())

    def arrive(self, unit: PoolJob) -> None:
        """A job that waits from now on."""
        if unit.suspect:
            self._suspects.append(unit)
        else:
            self._held.append(unit)

    def enter(self) -> list[PoolJob]:
        """Those who may go in now, in order; they count as inside."""
        if self._alone is not None:
            return []
        if not self._suspects:
            self._at_closing = frozenset()
            return self._admit(self._held)
        if self._inside:
            self._at_closing = self._at_closing or frozenset(self._inside)
            open_to_urgent = not self._at_closing.isdisjoint(self._inside)
            return self._admit(unit for unit in self._held if unit.interactive) if open_to_urgent else []
        self._at_closing = frozenset()
        if self._others_next and self._held:
            self._others_next = False
            return self._admit(self._held)
        self._others_next = True
        self._alone = min(self._suspects, key=lambda unit: unit.job.priority)
        self._suspects.remove(self._alone)
        return self._admit([self._alone])

    def _admit(self, units: Iterable[PoolJob]) -> list[PoolJob]:
        entering = list(units)
        self._inside |= {unit.key: unit for unit in entering}
        self._held = deque(unit for unit in self._held if unit.key not in self._inside)
        return entering

    def leave(self, key: str) -> PoolJob | None:
        """Who was inside under that key, and is no more."""
        unit = self._inside.pop(key, None)
        if unit is not None and unit is self._alone:
            self._alone = None
        return unit

    def died(self) -> PoolJob | None:
        """The engine has died. Those inside are suspects from now on, but for one under which an engine died
        a second time, now alone: it is returned."""
        inside, self._inside, self._alone = self.inside, {}, None
        for unit in inside:
            unit.deaths += 1
        if len(inside) == 1 and inside[0].deaths > 1:
            return inside[0]
        self._suspects += inside
        return None

    def withdraw(self, unit: PoolJob) -> bool:
        """Forget a job, wherever it is; whether it was inside."""
        if unit in self._suspects:
            self._suspects.remove(unit)
        elif unit in self._held:
            self._held.remove(unit)
        return self.leave(unit.key) is not None
