"""The sequences that have a slot, by slot. It knows which of them decode and which would give way first."""

from __future__ import annotations

from collections.abc import Container, Iterator

from workers.engine.sequence import Sequence


class Running:
    """Who has a slot."""

    def __init__(self) -> None:
        self._by_slot: dict[int, Sequence] = {}

    def __len__(self) -> int:
        return len(self._by_slot)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._by_slot.values())

    def __getitem__(self, slot: int) -> Sequence:
        return self._by_slot[slot]

    def get(self, slot: int) -> Sequence | None:
        """Who has this slot, if anybody."""
        return self._by_slot.get(slot)

    def add(self, one: Sequence) -> None:
        """One that was given its slot."""
        self._by_slot[one.slot] = one

    def remove(self, one: Sequence) -> None:
        """One that leaves its slot."""
        del self._by_slot[one.slot]

    def holds(self, one: Sequence) -> bool:
        """Whether this very sequence runs."""
        return self._by_slot.get(one.slot) is one

    def retreating(self, besides: Container[Sequence] = (), *, tired: bool = False) -> list[Sequence]:
        """The batch jobs that may give way, first the one to do so: of the worst priority, the last that
        came. With `tired`, even those that gave way too often since they last got on.
        """
        batch = [
            one for one in self if not one.interactive and (tired or not one.tired) and one not in besides
        ]
        return sorted(batch, key=lambda one: (one.request.priority, one.order), reverse=True)
