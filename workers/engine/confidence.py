"""How sure a model was of a text, from the tokens that it chose freely and that carry a value.

Where the text is JSON by a schema, names, brackets and whatever the schema forces say nothing: a document is
as sure as its values. It knows probabilities and bytes, not how tokens are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import exp
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.engine.completion import Confidence
from workers.engine.json_values import value_spans

Logits = npt.NDArray[np.float32]

_RUNNERS_UP: Final = 8
"""How many of the most likely tokens are asked for two that the grammar allows."""


def margin_of(row: Logits, normaliser: float, allows: Callable[[int], bool] | None = None) -> float:
    """Probability of the best token less that of the second best, among those that `allows` accepts.

    Each look is one pass over the row [vocabulary], which is as before when this returns. Where fewer than
    two of the most likely tokens are allowed, the last one looked at bounds what another could have.
    """
    found: list[float] = []
    looked: list[tuple[int, np.float32]] = []
    while len(found) < 2 and len(looked) < min(_RUNNERS_UP, len(row)):
        token = int(row.argmax())
        value = row[token]
        looked.append((token, value))
        row[token] = -np.inf
        if allows is None or allows(token):
            found.append(float(value))
    for token, value in looked:
        row[token] = value
    last = float(looked[-1][1])
    best, second = [*found, last, last][:2]
    return exp(best - normaliser) - exp(second - normaliser)


class Evidence:
    """The freely chosen tokens of one text as they come. `structured` texts are JSON."""

    def __init__(self, *, structured: bool) -> None:
        self._structured = structured
        self.chosen: list[int] = []
        """Positions of the chosen tokens among all of the text's."""
        self.margin: float | None = None
        """Of the first token that carries a value."""

    def choose(self, pieces: Sequence[bytes], margin: float | None) -> None:
        """The last of a text's tokens, whose bytes are `pieces`, was chosen with this margin."""
        self.chosen.append(len(pieces) - 1)
        if self.margin is None and margin is not None and self._last_carries(pieces):
            self.margin = margin

    def _last_carries(self, pieces: Sequence[bytes]) -> bool:
        if not self._structured:
            return True
        data = b"".join(pieces)
        spans = value_spans(data)
        return bool(spans) and spans[-1][1] > len(data) - len(pieces[-1])

    def confidence(self, pieces: Sequence[bytes], log_probabilities: Sequence[float]) -> Confidence | None:
        """What the chosen tokens that carry a value say; None where none does."""
        counted = self._carriers(pieces) if self._structured else self.chosen
        return Confidence.of((exp(log_probabilities[at]) for at in counted), self.margin)

    def _carriers(self, pieces: Sequence[bytes]) -> list[int]:
        """Positions of the chosen tokens that hold a part of a value."""
        # plain Python: a document has some dozens of tokens, for which arrays cost ten times as much
        offsets = [0, *accumulate(map(len, pieces))]
        carriers = []
        spans = iter(value_spans(b"".join(pieces)))
        span = next(spans, None)
        for at in self.chosen:
            start, end = offsets[at], offsets[at + 1]
            while span is not None and span[1] <= start:
                span = next(spans, None)
            if span is not None and span[0] < end and start < end:
                carriers.append(at)
        return carriers
