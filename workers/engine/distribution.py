"""From the labels' scores to a probability for each: prior, length, temperature. Pure: it knows no labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]


def adjusted(scores: Scores, lengths: Scores, *, prior: Scores | None, mean: bool) -> Scores:
    """Σ log p of each label [labels] less what it scores without content, a token's mean of it with `mean`.

    Subtracting the prior is the diagonal correction of Zhao et al. 2021, "Calibrate Before Use", in log
    space. `lengths` counts each label's tokens, its end where it has a price.
    """
    if prior is not None:
        scores = scores - prior
    return scores / lengths if mean else scores


def distribution(scores: Scores, temperature: float = 1.0) -> Scores:
    """Scores over `temperature`, normalised over the labels [labels], summing to one."""
    tempered = (scores - scores.max()) / temperature
    weights = np.exp(tempered)
    return np.asarray(weights / weights.sum(), np.float64)
