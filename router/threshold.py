"""From logits of wordings that a model has not seen to its temperature and its threshold. Pure numpy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.classifier import Probabilities, softmax


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold on the probability of being in scope, and what it did on the rows it was chosen by: the
    share of in-scope rows that were accepted with the right class, and of out-of-scope rows refused (None
    without such rows)."""

    at: float
    kept: float
    refused: float | None


def fit_temperature(logits: Probabilities, truth: NDArray[np.int64]) -> float:
    """The temperature (0.3–5) at which the probabilities of the true columns fit best: least log loss."""
    rows = np.arange(len(truth))
    grid = np.geomspace(0.3, 5.0, 60)
    losses = [-np.log(softmax(logits / at)[rows, truth] + 1e-12).mean() for at in grid]
    return round(float(grid[int(np.argmin(losses))]), 3)


def choose_threshold(
    scope: Probabilities, right: NDArray[np.bool_], outside: NDArray[np.bool_], refuse: float
) -> Threshold:
    """Choose the threshold on `scope`, the probability of being in scope.

    With out-of-scope rows (`outside`): the lowest that refuses the share `refuse` of them. Without such rows:
    the one that accepts 95 % of the rows whose class is `right`.
    """
    if not outside.any():
        at = float(np.floor(np.quantile(scope[right], 0.05) * 1000) / 1000) if right.any() else 0.0
        return Threshold(at, _share(right & (scope >= at)), None)
    grid = np.arange(1, 1000) / 1000
    refused = np.array([_share(scope[outside] < at) for at in grid])
    enough = np.flatnonzero(refused >= refuse)
    best = int(enough[0]) if len(enough) else len(grid) - 1
    at = float(grid[best])
    return Threshold(at, _share((right & (scope >= at))[~outside]), float(refused[best]))


def _share(chosen: NDArray[np.bool_]) -> float:
    return float(chosen.mean()) if len(chosen) else 0.0
