"""Percentiles by nearest rank."""

import math

import pytest

from benchmarks.percentiles import percentile


@pytest.mark.parametrize(("share", "found"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.001, 1)])
def test_the_smallest_sample_that_enough_do_not_exceed(share: float, found: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == found


def test_one_sample_is_every_percentile() -> None:
    assert percentile([7.0], 0.01) == percentile([7.0], 0.99) == 7.0


def test_none_has_none() -> None:
    assert math.isnan(percentile([], 0.5))
