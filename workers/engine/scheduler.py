"""Who runs next: the waiting line and the rows of one step. Pure: no clock, no model, no memory.

A step carries one row for every decoding sequence, then prompt chunks of the joining sequences under one
token budget, and a few rows for choices, so that a long prompt never stalls the running ones for longer
than the budget takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from workers.engine.request import LOWEST_PRIORITY

Item = TypeVar("Item")


class WaitingLine(Generic[Item]):
    """Requests without a slot: priority 0 first, first come first served within one priority."""

    def __init__(self) -> None:
        self._lines: list[deque[tuple[str, Item]]] = [deque() for _ in range(LOWEST_PRIORITY + 1)]

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines)

    def push(self, name: str, priority: int, item: Item) -> None:
        """Join at the end of one's priority."""
        self._lines[priority].append((name, item))

    def pop(self) -> Item:
        """The next one. Raises IndexError when nobody waits."""
        for line in self._lines:
            if line:
                return line.popleft()[1]
        raise IndexError("nobody waits")

    def remove(self, name: str) -> Item | None:
        """Take one out by name; None when it does not wait."""
        for line in self._lines:
            for at, (other, item) in enumerate(line):
                if other == name:
                    del line[at]
                    return item
        return None

    def items(self) -> Iterable[Item]:
        """Everybody, in the order in which they would be popped."""
        return (item for line in self._lines for _, item in line)


@dataclass(frozen=True, slots=True)
class Joining:
    """A sequence whose prompt is not wholly in memory: `rows` are left, fewer rows than that make a chunk."""

    slot: int
    priority: int
    order: int
    rows: int


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
    for one in sorted(joining, key=lambda item: (item.priority, item.order)):
        rows = min(one.rows, left)
        if rows <= 0:
            break
        chunks.append((one.slot, rows))
        left -= rows
    return Plan(decoding, tuple(chosen), tuple(chunks))
