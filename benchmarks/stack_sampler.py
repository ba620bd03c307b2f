"""Where a Python thread's time goes, looked up a few hundred times a second: by the calls it is in.

The look comes between two bytecodes. Time inside one C call therefore counts for the line that made the call,
and looks that came due during it count as one: shares hold among Python's own parts, not against C calls that
are longer than the interval.
"""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

INTERVAL_S: Final = 0.001


class StackSampler:
    """`seen` counts, by the names of the functions from `below` (not included) down to the innermost."""

    def __init__(self, below: str, interval_s: float = INTERVAL_S) -> None:
        self._below = below
        self._interval_s = interval_s
        self.seen: Counter[tuple[str, ...]] = Counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look while the block runs; in the main thread alone, whose SIGALRM it takes."""
        before = signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, self._interval_s, self._interval_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        names: list[str] = []
        while frame is not None and frame.f_code.co_name != self._below:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        self.seen[() if frame is None else tuple(reversed(names))] += 1
