"""When jobs arrive that do not wait for answers: Poisson arrivals from a seeded generator. Pure."""

import random


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrival times in seconds from 0, `rate` a second on the mean, in ascending order, all below
    `seconds`. Raises ValueError for a rate that is not positive."""
    if rate <= 0:
        raise ValueError(f"the rate must be above 0, not {rate:g}")
    gaps, at, found = random.Random(seed), 0.0, []
    while (at := at + gaps.expovariate(rate)) < seconds:
        found.append(at)
    return found
