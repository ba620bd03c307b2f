"""Who must be done by when: asked every step, so that nobody is looked at whose time has not come. Pure."""

from __future__ import annotations

import heapq


class Deadlines:
    """Names with their deadlines, in unix seconds."""

    def __init__(self) -> None:
        self._by_name: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def note(self, name: str, deadline: float | None) -> None:
        """From now on `name` has this deadline; None for none."""
        if deadline is not None:
            self._by_name[name] = deadline
            heapq.heappush(self._heap, (deadline, name))

    def drop(self, name: str) -> None:
        """`name` is done; one without a deadline may be dropped too."""
        self._by_name.pop(name, None)
        # those that are done lie in the heap until their time comes; too many are cleared away
        if len(self._heap) > 64 + 2 * len(self._by_name):
            self._heap = [(deadline, one) for one, deadline in self._by_name.items()]
            heapq.heapify(self._heap)

    def passed(self, now: float) -> list[str]:
        """Those whose deadline is not after `now`; they are not named again."""
        names = []
        while self._heap and self._heap[0][0] <= now:
            deadline, name = heapq.heappop(self._heap)
            if self._by_name.get(name) == deadline:
                del self._by_name[name]
                names.append(name)
        return names
