"""Percentiles of samples. Pure."""

from collections.abc import Sequence


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (0 to 1] of all samples do not exceed (nearest rank); NaN of
    none. From all samples, never from averages of windows."""
    if not samples:
        return float("nan")
    ordered = sorted(samples)
    rank = -(-share * len(ordered) // 1)
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]
