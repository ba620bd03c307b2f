"""Scores into probabilities: prior, length and temperature, each against its own definition."""

from __future__ import annotations

import numpy as np
import pytest

from workers.engine.distribution import adjusted, distribution

SCORES = np.log(np.array([0.5, 0.2, 0.1]))


def test_at_temperature_one_scores_are_normalised_over_the_labels() -> None:
    assert distribution(SCORES).tolist() == pytest.approx([5 / 8, 2 / 8, 1 / 8])


def test_temperature_softens_and_sharpens_without_another_winner() -> None:
    soft, sharp = distribution(SCORES, 4.0), distribution(SCORES, 0.25)
    assert soft.tolist() == pytest.approx((np.exp(SCORES / 4) / np.exp(SCORES / 4).sum()).tolist())
    assert soft.max() < distribution(SCORES).max() < sharp.max()
    assert soft.argmax() == sharp.argmax() == 0


def test_scores_that_no_probability_can_hold_stay_finite() -> None:
    assert distribution(np.array([-5000.0, -5001.0])).tolist() == pytest.approx(
        [0.731058, 0.268941], abs=1e-6
    )


def test_a_prior_divides_the_probabilities() -> None:
    prior = np.log(np.array([0.8, 0.1, 0.1]))
    fair = adjusted(SCORES, np.ones(3), prior=prior, mean=False)
    divided = np.array([0.5 / 0.8, 0.2 / 0.1, 0.1 / 0.1])
    assert distribution(fair).tolist() == pytest.approx((divided / divided.sum()).tolist())


def test_the_mean_is_of_a_token_after_the_prior() -> None:
    lengths, prior = np.array([1.0, 2.0, 4.0]), np.array([-1.0, -1.0, -1.0])
    assert adjusted(SCORES, lengths, prior=None, mean=True).tolist() == pytest.approx(
        (SCORES / lengths).tolist()
    )
    both = adjusted(SCORES, lengths, prior=prior, mean=True)
    assert both.tolist() == pytest.approx(((SCORES + 1.0) / lengths).tolist())
    assert adjusted(SCORES, lengths, prior=None, mean=False) is SCORES
