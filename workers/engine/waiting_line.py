"""Who waits for a slot, and who goes next: by priority, then whoever finds its beginning in memory. Pure.

It knows priorities and names, not what a request is; how warm one is, the caller says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, TypeVar

from workers.engine.request import LOWEST_PRIORITY

Item = TypeVar("Item")

AGING: Final = 8
"""How often one is passed over for each step that its priority rises."""
WINDOW: Final = 32
"""How many at the head of a priority are compared for their warmth."""


def rank(priority: int, passed: int) -> int:
    """The priority of one who was passed over `passed` times: each AGING times lift it by one."""
    return max(0, priority - passed // AGING)


@dataclass(slots=True)
class _Waiting(Generic[Item]):
    name: str
    item: Item
    passed: int = 0


class WaitingLine(Generic[Item]):
    """Requests without a slot: priority 0 first; within one, warm ones before cold ones, else first come.

    A priority that others are preferred to rises step by step until one of it is taken, so that a steady
    stream of better ones slows it down (to one in AGING for each priority between them) but never stops it.
    Likewise the head of a priority is passed over by warmer ones at most AGING times.
    """

    def __init__(self) -> None:
        self._lines: list[OrderedDict[str, _Waiting[Item]]] = [
            OrderedDict() for _ in range(LOWEST_PRIORITY + 1)
        ]
        self._priorities: dict[str, int] = {}
        self._passed = [0] * len(self._lines)

    def __len__(self) -> int:
        return len(self._priorities)

    def __contains__(self, name: str) -> bool:
        return name in self._priorities

    def push(self, name: str, priority: int, item: Item) -> None:
        """Join at the end of one's priority."""
        if not self._lines[priority]:
            self._passed[priority] = 0
        self._lines[priority][name] = _Waiting(name, item)
        self._priorities[name] = priority

    def push_back(self, name: str, priority: int, item: Item) -> None:
        """Return to the head of one's priority, after having been taken."""
        self.push(name, priority, item)
        self._lines[priority].move_to_end(name, last=False)

    def best(self, worst: int = LOWEST_PRIORITY) -> int | None:
        """The priority whose turn it is, of those up to `worst`; None when nobody of them waits."""
        waiting = [priority for priority, line in enumerate(self._lines[: worst + 1]) if line]
        if not waiting:
            return None
        return min(waiting, key=lambda one: (rank(one, self._passed[one]), -self._passed[one], one))

    def choose(
        self, warmth: Callable[[Item], int] | None = None, worst: int = LOWEST_PRIORITY
    ) -> tuple[str, Item]:
        """Who goes next, of the priorities up to `worst`; it stays in line until `take`. Raises IndexError
        when nobody of them waits.

        `warmth` is how many tokens of an item need not be computed; it is asked of the head first, and of
        others only where the head is cold.
        """
        chosen = self.best(worst)
        if chosen is None:
            raise IndexError("nobody waits")
        line = self._lines[chosen]
        head = next(iter(line.values()))
        if warmth is None or len(line) == 1 or head.passed >= AGING or warmth(head.item):
            return head.name, head.item
        warmest = max(islice(line.values(), WINDOW), key=lambda one: warmth(one.item))
        return warmest.name, warmest.item

    def take(self, name: str) -> Item:
        """One that `choose` has named leaves the line. Raises KeyError for a name that does not wait."""
        chosen = self._priorities.pop(name)
        line = self._lines[chosen]
        head = next(iter(line.values()))
        if head.name != name:
            head.passed += 1
        item = line.pop(name).item
        for priority, others in enumerate(self._lines):
            self._passed[priority] += bool(others) or priority == chosen
        self._passed[chosen] = 0
        return item

    def remove(self, name: str) -> Item | None:
        """Take one out by name; None when it does not wait."""
        priority = self._priorities.pop(name, None)
        return None if priority is None else self._lines[priority].pop(name).item

    def items(self) -> Iterable[Item]:
        """Everybody, by priority, then in the order in which they came."""
        return (one.item for line in self._lines for one in line.values())
