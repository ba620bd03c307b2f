"""What the janitor makes of what it has read: is Redis nearly full, how fast are the models. Pure."""

import math
from collections.abc import Mapping

FULL_SHARE, FREE_SHARE = 0.85, 0.80
"""Shares of Redis's memory: above the first new work is refused, below the second it is taken again."""
SMOOTHING_SECONDS = 10.0
LEAST_RATE = 1 / 3600
"""Jobs a second; below, a model is taken to do none."""


def nearly_full(used: int, limit: int, was: bool) -> bool:
    """Whether `used` bytes of `limit` (0: none) are too many for new work, given what was said before."""
    return limit > 0 and used > limit * (FREE_SHARE if was else FULL_SHARE)


def smoothed_rates(
    rates: Mapping[str, float],
    before: Mapping[str, int],
    done: Mapping[str, int],
    waiting: Mapping[str, int],
    seconds: float,
) -> dict[str, float]:
    """Jobs a second by model, `seconds` after `rates`, from the jobs done by then and before.

    A model for which nothing waits is not slow, it is idle: its rate may rise and does not fall.
    """
    weight = 1 - math.exp(-seconds / SMOOTHING_SECONDS)
    found = {}
    for model in {*rates, *done}:
        old = rates.get(model, 0.0)
        more = done.get(model, 0) - before.get(model, 0)
        now = max(0, more) / seconds  # fewer than before: Redis has begun anew
        rate = old + weight * (now - old)
        if now < old and waiting.get(model, 0) <= 0:
            rate = old
        if rate >= LEAST_RATE:
            found[model] = rate
    return found


def miscounted(waiting: Mapping[str, int], found_before: frozenset[str]) -> dict[str, bool]:
    """The models whose counter claims that jobs wait (or fewer than none), and whether nothing was found
    behind it a round ago, too."""
    return {model: model in found_before for model, count in waiting.items() if count != 0}
