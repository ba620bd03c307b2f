"""Arrivals that wait for nobody."""

import pytest

from benchmarks.arrivals import poisson


def test_arrivals_are_the_same_for_a_seed_and_in_order() -> None:
    times = poisson(50.0, 20.0, seed=3)
    assert times == poisson(50.0, 20.0, seed=3) != poisson(50.0, 20.0, seed=4)
    assert times == sorted(times) and times[-1] < 20.0
    assert 850 < len(times) < 1150  # 1,000 on the mean, within five standard deviations


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="above 0"):
        poisson(0.0, 1.0, seed=1)
