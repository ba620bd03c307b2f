import numpy as np
import pytest

from router.threshold import choose_threshold, fit_temperature

SCOPE = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
OUTSIDE = np.array([False, False, False, True, False, True, True, True])
RIGHT = ~OUTSIDE


@pytest.mark.parametrize("refuse, at, kept", [(0.75, 0.401, 1.0), (1.0, 0.601, 0.75), (0.0, 0.001, 1.0)])
def test_the_lowest_threshold_that_refuses_enough(refuse, at, kept):
    chosen = choose_threshold(SCOPE, RIGHT, OUTSIDE, refuse)
    assert (chosen.at, chosen.kept) == (at, kept)
    assert chosen.refused is not None and chosen.refused >= refuse


def test_wrong_classes_are_not_kept():
    right = RIGHT.copy()
    right[0] = False
    assert choose_threshold(SCOPE, right, OUTSIDE, 0.75).kept == 0.75


def test_without_out_of_scope_rows_nearly_all_right_ones_are_accepted():
    scope = np.linspace(0, 1, 101)
    chosen = choose_threshold(scope, scope > 0.2, np.zeros(101, dtype=bool), 0.8)
    assert chosen.refused is None
    assert 0.94 <= (scope[scope > 0.2] >= chosen.at).mean() <= 0.97


def test_the_temperature_makes_overconfidence_honest():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 4000)
    honest = np.where(np.arange(2) == truth[:, None], 1.0, 0.0)
    wrong = rng.random(4000) < 0.27  # softmax([1, 0]) is right 73 times of 100
    honest[wrong] = honest[wrong][:, ::-1]
    assert fit_temperature(honest * 4, truth) == pytest.approx(4, rel=0.15)
    assert fit_temperature(honest, truth) == pytest.approx(1, rel=0.15)
