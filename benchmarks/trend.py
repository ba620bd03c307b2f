"""Whether a reading grows without bound, or only moves: a line through the second half of its samples.

Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import linear_regression, mean

BLOCKS = 8
"""The second half is cut into so many blocks, and the line goes through their means: readings that follow
each other closely move together, and would make any line look certain."""
CERTAIN = 5.0
"""Slope over its standard error: with eight blocks, chance alone goes beyond it once in 800 readings, and
such a one must also grow by more than is allowed."""
SHARE_PER_HOUR = 0.05
ALLOWED_PER_HOUR = {
    "keys": 50.0,
    "elements": 50.0,
    "used memory": 1e6,
    "connections": 2.0,
    "memory": 4e6,
    "threads": 1.0,
    "descriptors": 2.0,
}
"""Growth an hour that no reading of a kind is blamed for, nor for `SHARE_PER_HOUR` of its level."""


@dataclass(frozen=True, slots=True)
class Trend:
    """One reading over the second half: its mean `level`, how much it grows `per_hour`, how `certain` that is
    (slope over standard error) and how much growth an hour is `allowed`."""

    name: str
    level: float
    per_hour: float
    certain: float
    allowed: float

    @property
    def grows(self) -> bool:
        """Whether it grows beyond what is noise."""
        return self.per_hour > self.allowed and self.certain > CERTAIN


def trend(name: str, times: Sequence[float], values: Sequence[float]) -> Trend:
    """The trend of `values` at `times` (seconds).

    Raises:
        ValueError: fewer samples in the second half than blocks.
    """
    half = len(times) // 2
    at, readings = _blocks(times[half:]), _blocks(values[half:])
    level = mean(readings)
    slope, begin = linear_regression(at, readings)
    rest = sum((y - begin - slope * x) ** 2 for x, y in zip(at, readings, strict=True))
    spread = sum((x - mean(at)) ** 2 for x in at)
    error = (rest / (len(at) - 2) / spread) ** 0.5
    # without the least error a reading of whole numbers that all lie on a line would divide by nothing
    certain = slope / max(error, 1e-9 * max(1.0, abs(level)) / (at[-1] - at[0]))
    return Trend(name, level, 3600 * slope, certain, allowed(name, level))


def allowed(name: str, level: float) -> float:
    """Growth an hour that is noise for a reading of this name and level."""
    kind = next(kind for kind in ALLOWED_PER_HOUR if name.startswith(kind))
    return max(ALLOWED_PER_HOUR[kind], SHARE_PER_HOUR * level)


def _blocks(values: Sequence[float]) -> list[float]:
    if len(values) < BLOCKS:
        raise ValueError(f"{len(values)} samples in the second half, at least {BLOCKS} are needed")
    cuts = [round(number * len(values) / BLOCKS) for number in range(BLOCKS + 1)]
    return [mean(values[begin:end]) for begin, end in pairwise(cuts)]
