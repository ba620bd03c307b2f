"""The classifier as it serves: probabilities of the classes for a chunk of texts, numpy only.

Knows nothing of policies, of models or of how it was trained.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.features import Floats, Rows, Vocabulary
from router.normalise import HEAD, TAIL

_PART_CHARACTERS = 200_000

Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Classifier:
    """A multinomial logistic regression over n-grams.

    `weights` has shape [n-grams, columns], `bias` [columns]: a column for each of `classes`, and with
    `rejects` one more for what is out of scope. Logits are divided by `temperature` before the softmax. A
    text whose `scope` is below `threshold` is out of scope. `version` names the artefact.
    """

    classes: tuple[str, ...]
    vocabulary: Vocabulary
    weights: Floats
    bias: Floats
    rejects: bool
    temperature: float
    threshold: float
    version: str

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """Probability of each class for each text: shape [texts, classes].

        What a row lacks to 1 is the probability of being out of scope (nothing without `rejects`). A text
        in which no word is known has zeros: letters alone say nothing about what it asks.
        """
        parts = [self._probabilities(self.vocabulary.rows(part)) for part in _parts(texts)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes)))

    def scope(self, probabilities: Probabilities) -> Probabilities:
        """How sure it is that each text is in scope at all, 0–1, from the rows of `probabilities`.

        With `rejects` what the classes have together, else what the best class has.
        """
        return np.asarray(probabilities.sum(axis=1) if self.rejects else probabilities.max(axis=1))

    def _probabilities(self, rows: Rows) -> Probabilities:
        found = softmax(self.logits(rows) / self.temperature)[:, : len(self.classes)]
        found[~rows.known] = 0.0
        return found

    def logits(self, rows: Rows) -> Probabilities:
        """Logits of rows, before the temperature: shape [rows, classes]."""
        sums = np.tile(self.bias.astype(np.float64), (len(rows.starts) - 1, 1))
        filled = rows.starts[:-1] < rows.starts[1:]  # reduceat would give an empty row its successor's value
        if filled.any():
            parts = rows.values[:, None] * self.weights[rows.columns]
            sums[filled] += np.add.reduceat(parts, rows.starts[:-1][filled], axis=0)
        return sums

    def evidence(self, text: str, label: str, most: int = 8) -> list[tuple[str, float]]:
        """The n-grams of `text` that spoke most for `label`, with the logit each adds over the mean class."""
        rows = self.vocabulary.rows([text])
        weights = self.weights[rows.columns]
        gain = rows.values * (weights[:, self.classes.index(label)] - weights.mean(axis=1))
        best = np.argsort(-gain)[:most]
        return [(self.vocabulary.name(int(rows.columns[i])), float(gain[i])) for i in best if gain[i] > 0]


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in parts of bounded size, so that a chunk of long ones does not take hundreds of MB."""
    start = size = 0
    for i, text in enumerate(texts):
        size += min(len(text), HEAD + TAIL)
        if size > _PART_CHARACTERS:
            yield texts[start : i + 1]
            start, size = i + 1, 0
    if start < len(texts):
        yield texts[start:]


def softmax(logits: Probabilities) -> Probabilities:
    """Probabilities of logits, by row."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
