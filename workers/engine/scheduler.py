"""Who runs next: the waiting line and the rows of one step. Pure: no clock, no model, no memory.

A step carries one row for every decoding sequence, then prompt chunks of the joining sequences under one
token budget, and a few rows for choices, so that a long prompt never stalls the running ones for longer
than the budget takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from workers.engine.request import LOWEST_PRIORITY

Item = TypeVar("Item")

AGING: Final = 8
"""How often one is passed over for each step that its priority rises."""


def _rank(priority: int, passed: int) -> int:
    """The priority of one who was passed over `passed` times: each AGING times lift it by one."""
    return max(0, priority - passed // AGING)


class WaitingLine(Generic[Item]):
    """Requests without a slot: priority 0 first, first come first served within one priority.

    A priority that others are preferred to rises step by step until one of it is taken, so that a steady
    stream of better ones slows it down (to one in AGING for each priority between them) but never stops it.
    """

    def __init__(self) -> None:
        self._lines: list[deque[tuple[str, Item]]] = [deque() for _ in range(LOWEST_PRIORITY + 1)]
        self._passed = [0] * len(self._lines)

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines)

    def push(self, name: str, priority: int, item: Item) -> None:
        """Join at the end of one's priority."""
        if not self._lines[priority]:
            self._passed[priority] = 0
        self._lines[priority].append((name, item))

    def pop(self) -> Item:
        """The next one. Raises IndexError when nobody waits."""
        waiting = [priority for priority, line in enumerate(self._lines) if line]
        if not waiting:
            raise IndexError("nobody waits")
        chosen = min(waiting, key=lambda one: (_rank(one, self._passed[one]), -self._passed[one], one))
        for priority in waiting:
            self._passed[priority] += 1
        self._passed[chosen] = 0
        return self._lines[chosen].popleft()[1]

    def remove(self, name: str) -> Item | None:
        """Take one out by name; None when it does not wait."""
        for line in self._lines:
            for at, (other, item) in enumerate(line):
                if other == name:
                    del line[at]
                    return item
        return None

    def items(self) -> Iterable[Item]:
        """Everybody, by priority, then in the order in which they came."""
        return (item for line in self._lines for _, item in line)


@dataclass(frozen=True, slots=True)
class Joining:
    """A sequence whose prompt is not wholly in memory: `rows` are left, fewer rows than that make a chunk.

    `passed` is the number of steps that had no row for it.
    """

    slot: int
    priority: int
    order: int
    rows: int
    passed: int = 0


@dataclass(frozen=True, slots=True)
class Burst:
    """A sequence that needs `rows` rows in one step or none, as the labels of a choice do."""

    slot: int
    rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of one step: decoding slots (one row each), bursts, and (slot, rows) chunks of prompts."""

    decoding: tuple[int, ...]
    bursts: tuple[int, ...]
    chunks: tuple[tuple[int, int], ...]


def plan_step(
    decoding: tuple[int, ...],
    bursts: Iterable[Burst],
    joining: Iterable[Joining],
    *,
    budget: int,
    burst_rows: int,
) -> Plan:
    """Fill `budget` rows with decoding slots and chunks, and up to `burst_rows` more with bursts.

    Decoding slots always run, so the budget must be at least their number. Bursts have rows of their own:
    among many decoding slots they would otherwise never find enough of them at once.
    """
    left = budget - len(decoding)
    if left < 0:
        raise ValueError(f"a budget of {budget} rows cannot carry {len(decoding)} decoding sequences")
    chosen: list[int] = []
    for burst in bursts:
        if burst.rows <= burst_rows:
            chosen.append(burst.slot)
            burst_rows -= burst.rows
    chunks: list[tuple[int, int]] = []
    for one in sorted(joining, key=lambda item: (_rank(item.priority, item.passed), item.order)):
        rows = min(one.rows, left)
        if rows <= 0:
            break
        chunks.append((one.slot, rows))
        left -= rows
    return Plan(decoding, tuple(chosen), tuple(chunks))
