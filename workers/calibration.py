"""How sure a model should be: a temperature for its label scores, and how far off its confidence is. Pure.

Formulas: Guo et al. 2017, "On Calibration of Modern Neural Networks". It knows scores and labels as numbers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of a fitted temperature: rows that a model has all right (or all wrong) ask for none or any."""
BINS = 15


def probabilities(scores: Scores, temperature: float = 1.0) -> Scores:
    """Softmax of scores [rows, labels] over `temperature`."""
    tempered = (scores - scores.max(axis=1, keepdims=True)) / temperature
    weights = np.exp(tempered)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)


def negative_log_likelihood(scores: Scores, labels: Labels, temperature: float = 1.0) -> float:
    """Mean of −log p of the right label, in nats."""
    tempered = (scores - scores.max(axis=1, keepdims=True)) / temperature
    right = tempered[np.arange(len(labels)), labels]
    return float((np.log(np.exp(tempered).sum(axis=1)) - right).mean())


def fit_temperature(scores: Scores, labels: Labels) -> float:
    """The temperature from COLDEST to HOTTEST with the least negative log-likelihood on these rows.

    In 1/T the likelihood is concave, so the one root of its slope is found by halving the bracket.
    """
    scores = scores - scores.max(axis=1, keepdims=True)
    right = scores[np.arange(len(labels)), labels].sum()

    def slope(temperature: float) -> float:
        return float(right - (probabilities(scores, temperature) * scores).sum())

    low, high = COLDEST, HOTTEST
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        # more likelihood with a larger 1/T: the optimum is colder
        if slope(middle) > 0:
            high = middle
        else:
            low = middle
    return float(np.sqrt(low * high))


def calibration_error(chances: Scores, labels: Labels) -> float:
    """Expected calibration error (0 to 1) of probabilities [rows, labels]: the mean distance between the
    winner's probability and how often it is right, over BINS equal bins of the probability.
    """
    sure, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    off = [abs(float(sure[bins == one].sum() - right[bins == one].sum())) for one in range(BINS)]
    return sum(off) / len(labels)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What labelled rows say. `ece_after` and `nll_after` are of rows that the temperature was not fitted on:
    each half by the temperature of the other one.
    """

    rows: int
    accuracy: float
    temperature: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float

    @property
    def bounded(self) -> bool:
        """Whether the rows asked for a temperature beyond the bounds."""
        return not COLDEST * 1.01 < self.temperature < HOTTEST / 1.01


def calibrate(scores: Scores, labels: Labels) -> Calibration:
    """Fit on all rows, and judge by the halves of even and odd ones. Raises ValueError for under two rows."""
    if len(labels) < 2:
        raise ValueError("two rows at least are needed, one for each half")
    even = np.arange(len(labels)) % 2 == 0
    crossed = np.empty_like(scores)
    for fitted, judged in ((even, ~even), (~even, even)):
        crossed[judged] = scores[judged] / fit_temperature(scores[fitted], labels[fitted])
    return Calibration(
        rows=len(labels),
        accuracy=float((scores.argmax(axis=1) == labels).mean()),
        temperature=fit_temperature(scores, labels),
        nll_before=negative_log_likelihood(scores, labels),
        nll_after=negative_log_likelihood(crossed, labels),
        ece_before=calibration_error(probabilities(scores), labels),
        ece_after=calibration_error(probabilities(crossed), labels),
    )
