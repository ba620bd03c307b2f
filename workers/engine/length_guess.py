"""How long answers turn out to be, by the kind of answer: what an output form has taken so far.

It knows keys and numbers, not what a key stands for; the engine makes one of an output form and its sampling.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

REMEMBERED: Final = 64
"""Answers of one key that the quantile is taken from."""
LOW_SHARE: Final = 0.1
_GAIN: Final = 0.1


@dataclass(frozen=True, slots=True)
class Guess:
    """Drawn tokens of an answer: their running mean, and what nine in ten answers reach; `seen` answers
    tell so."""

    mean: float
    low: int
    seen: int


class _Seen:
    __slots__ = ("count", "mean", "recent")

    def __init__(self, first: int) -> None:
        self.mean = float(first)
        self.recent: deque[int] = deque(maxlen=REMEMBERED)
        self.count = 0

    def add(self, length: int) -> None:
        self.count += 1
        # a plain mean at first, then one that forgets
        self.mean += max(_GAIN, 1.0 / self.count) * (length - self.mean)
        self.recent.append(length)


class LengthGuess:
    """Expected lengths of answers for at most `max_keys` keys; the one not seen for longest goes."""

    def __init__(self, max_keys: int = 256) -> None:
        self._max_keys = max_keys
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def observe(self, key: Hashable, length: int) -> None:
        """Note an answer that ended by itself after `length` drawn tokens.

        Forced tokens cost no step of their own and are not counted; an answer cut by `max_tokens` or
        cancelled says nothing about its kind.
        """
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(length)
            if len(self._seen) > self._max_keys:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        seen.add(length)

    def guess(self, key: Hashable) -> Guess | None:
        """What to expect of a key; None for one that is not known."""
        seen = self._seen.get(key)
        if seen is None:
            return None
        ordered = sorted(seen.recent)
        return Guess(seen.mean, ordered[int(LOW_SHARE * (len(ordered) - 1))], seen.count)
