"""A fitted temperature finds what made the rows; the calibration error is its definition."""

import numpy as np
import pytest

from workers.calibration import (
    BINS,
    COLDEST,
    calibrate,
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
)

RANDOM = np.random.default_rng(3)


def rows(true_temperature: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Scores of five labels, and labels drawn as often as the scores over `true_temperature` say."""
    scores = RANDOM.standard_normal((count, 5)) * 4
    chances = probabilities(scores, true_temperature).cumsum(axis=1)
    return scores, (RANDOM.random((count, 1)) > chances).sum(axis=1).clip(0, 4)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_rows_is_found(temperature: float) -> None:
    scores, labels = rows(temperature)
    fitted = fit_temperature(scores, labels)
    assert fitted == pytest.approx(temperature, rel=0.1)
    best = negative_log_likelihood(scores, labels, fitted)
    for other in (fitted * 0.9, fitted * 1.1):
        assert negative_log_likelihood(scores, labels, other) > best


def test_calibration_halves_the_error_of_rows_that_it_was_not_fitted_on() -> None:
    scores, labels = rows(3.0)
    found = calibrate(scores, labels)
    assert found.rows == len(labels)
    assert found.accuracy == pytest.approx((scores.argmax(axis=1) == labels).mean())
    assert found.ece_after < 0.03 < found.ece_before / 2
    assert found.nll_after < found.nll_before
    assert not found.bounded


def test_rows_that_are_all_right_end_at_the_bound_and_say_so() -> None:
    scores, _ = rows(1.0, 100)
    found = calibrate(scores, scores.argmax(axis=1))
    assert found.temperature == pytest.approx(COLDEST, rel=1e-3)
    assert found.bounded


def test_the_calibration_error_is_the_mean_distance_over_equal_bins() -> None:
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [1.0, 0.0]])
    labels = np.array([0, 1, 1, 0])
    # two of 0.9 with one right, one of 0.6 that is wrong, one of 1.0 that is right
    assert BINS == 15
    assert calibration_error(chances, labels) == pytest.approx((abs(1.8 - 1) + 0.6 + 0) / 4)


def test_scores_far_below_any_probability_are_no_trouble() -> None:
    scores = np.array([[-5000.0, -5010.0], [-3000.0, -2990.0]])
    assert np.isfinite(negative_log_likelihood(scores, np.array([0, 0])))
    assert COLDEST <= fit_temperature(scores, np.array([0, 0])) <= 20.0


def test_one_row_has_no_halves() -> None:
    with pytest.raises(ValueError, match="two rows"):
        calibrate(np.zeros((1, 2)), np.array([0]))
