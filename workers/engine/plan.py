"""The rows of one step. Pure: no clock, no model, no memory.

A step carries one row for every decoding sequence, then chunks of the joining sequences under one token
budget, and a few rows for choices, so that a long prompt never stalls the running ones for longer than the
budget takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from workers.engine.waiting_line import rank


@dataclass(frozen=True, slots=True)
class Joining:
    """A sequence of which more than its last token is missing in memory: `rows` are left, fewer make a chunk.

    `passed` is the number of steps that had no row for it.
    """

    slot: int
    priority: int
    order: int
    rows: int
    passed: int = 0


@dataclass(frozen=True, slots=True)
class Burst:
    """A sequence that needs `rows` rows in one step or none, as the labels of a choice do, or an image whose
    rows see each other both ways.
    """

    slot: int
    rows: int
    of_image: bool = False


@dataclass(frozen=True)
class Plan:
    """The rows of one step: decoding slots (one row each), bursts, and (slot, rows) chunks."""

    decoding: tuple[int, ...] = ()
    bursts: tuple[Burst, ...] = ()
    chunks: tuple[tuple[int, int], ...] = ()

    @cached_property
    def n_rows(self) -> int:
        """All rows together."""
        return len(self.decoding) + self.n_joining + sum(burst.rows for burst in self.bursts)

    @cached_property
    def n_joining(self) -> int:
        """The rows of all chunks."""
        return sum(rows for _, rows in self.chunks)

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """Everybody who has a row."""
        return (*self.decoding, *(burst.slot for burst in self.bursts), *(slot for slot, _ in self.chunks))

    @cached_property
    def advances(self) -> tuple[tuple[int, int], ...]:
        """(slot, rows) that stay in memory: all but the labels of choices."""
        images = ((burst.slot, burst.rows) for burst in self.bursts if burst.of_image)
        return (*((slot, 1) for slot in self.decoding), *images, *self.chunks)

    def shortened(self, cells: int) -> Plan | None:
        """This plan with `cells` fewer rows, taken from the last chunks, then the last bursts; None where
        they have not so many.
        """
        chunks, bursts = list(self.chunks), list(self.bursts)
        while cells > 0 and chunks:
            slot, rows = chunks.pop()
            if rows > cells:
                chunks.append((slot, rows - cells))
            cells -= rows
        while cells > 0 and bursts:
            cells -= bursts.pop().rows
        return replace(self, chunks=tuple(chunks), bursts=tuple(bursts)) if cells <= 0 else None


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
    among many decoding slots they would otherwise never find enough of them at once. One of them may be an
    image's, which is decoded apart.
    """
    left = budget - len(decoding)
    if left < 0:
        raise ValueError(f"a budget of {budget} rows cannot carry {len(decoding)} decoding sequences")
    chosen: list[Burst] = []
    for burst in bursts:
        if burst.of_image:
            if not any(one.of_image for one in chosen):
                chosen.append(burst)
        elif burst.rows <= burst_rows:
            chosen.append(burst)
            burst_rows -= burst.rows
    chunks: list[tuple[int, int]] = []
    for one in sorted(joining, key=lambda item: (rank(item.priority, item.passed), item.order)):
        rows = min(one.rows, left)
        if rows <= 0:
            break
        chunks.append((one.slot, rows))
        left -= rows
    return Plan(decoding, tuple(chosen), tuple(chunks))
