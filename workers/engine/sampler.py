"""Which token comes next, from one row of logits. Pure numpy: it knows no model and no grammar.

The order is llama.cpp's (penalties, top-k, typical, top-p, min-p, temperature, draw), and top-k runs before
everything that must sort: at a vocabulary of 128,000 sorting first costs twenty times as much. Each
sequence has its own random generator, so a seed gives the same draws whoever the neighbours are.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from workers.engine.request import Sampling

Logits = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]

MOST_CANDIDATES: Final = 64
"""The most tokens that are found on the device instead of here."""
_BLOCK: Final = 128
_GREEDY_BELOW: Final = 1e-6
"""Colder than this a difference of a hundred-thousandth decides wholly: the maximum, without a draw."""


def log_sum_exp(rows: Logits, best: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.float64]:
    """log Σ exp of each row [rows, vocabulary] in float32 with a float64 result, overflow-safe. `best` is
    where each row's largest entry stands, where that is known.
    """
    peak = rows.max(axis=1) if best is None else rows[np.arange(len(rows)), best]
    shifted = rows - peak[:, None]
    np.exp(shifted, out=shifted)
    return np.asarray(np.log(shifted.sum(axis=1, dtype=np.float64)) + peak, np.float64)


def top_tokens(row: Logits, k: int) -> Tokens:
    """The `k` largest tokens of a row, largest first; among equals the lower token first.

    The largest k lie within the k blocks that have the largest block maxima, so a large vocabulary is read
    once at full speed and only k blocks are partitioned.
    """
    size = len(row)
    k = min(k, size)
    candidates: Tokens | None = None
    whole = size // _BLOCK * _BLOCK
    if k * _BLOCK * 2 < size:
        peaks = row[:whole].reshape(-1, _BLOCK).max(axis=1)
        blocks = np.argpartition(-peaks, k - 1)[:k]
        inside = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
        candidates = np.concatenate([inside, np.arange(whole, size)])
    values = row if candidates is None else row[candidates]
    if k < len(values):
        best = np.argpartition(-values, k - 1)[:k]
        values = values[best]
        candidates = best if candidates is None else candidates[best]
    elif candidates is None:
        candidates = np.arange(size)
    order = np.lexsort((candidates, -values))
    return np.asarray(candidates[order], np.int64)


class Sampler:
    """One sequence's way of drawing tokens."""

    def __init__(self, sampling: Sampling, seed: int, prompt: npt.NDArray[np.int32]) -> None:
        self._sampling = sampling
        self.greedy = sampling.temperature < _GREEDY_BELOW
        """Whether the most likely token is always taken."""
        self.penalised = sampling.penalised
        """Whether tokens must be noted with `accept`."""
        self.plain = self.greedy and not self.penalised
        """Whether an argmax over the raw row is the whole answer."""
        self.candidates = self._candidate_count()
        """How many of the most likely tokens a draw looks at; 0 for the whole row."""
        # a generator costs 20 µs to make, and greedy sequences never draw
        self._random = None if self.greedy else np.random.Generator(np.random.PCG64(seed))
        self._counts: dict[int, int] = {}
        if self.penalised:
            # llama.cpp penalises the last 64 tokens, prompt included; placeholders of images are none
            self._window = prompt[prompt >= 0][-64:].tolist()
            for token in self._window:
                self._counts[token] = self._counts.get(token, 0) + 1

    def _candidate_count(self) -> int:
        if self.penalised:
            return 0
        if self.greedy:
            return 2  # the second one says how far the best was ahead
        # one number for all: changing it has its price, and most requests leave top_k at 40
        return MOST_CANDIDATES if 0 < self._sampling.top_k <= MOST_CANDIDATES else 0

    def accept(self, token: int) -> None:
        """Note a token that was taken, for the penalties."""
        if not self.penalised:
            return
        self._window.append(token)
        self._counts[token] = self._counts.get(token, 0) + 1
        if len(self._window) > 64:
            old = self._window.pop(0)
            self._counts[old] -= 1
            if not self._counts[old]:
                del self._counts[old]

    def penalise(self, row: Logits) -> Logits:
        """The row with repeat, frequency and presence penalties: a copy, or the row itself without
        penalties.
        """
        if not self.penalised or not self._counts:
            return row
        row = row.copy()
        tokens = np.fromiter(self._counts.keys(), np.int64, len(self._counts))
        counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
        values = row[tokens]
        values = np.where(
            values <= 0, values * self._sampling.repeat_penalty, values / self._sampling.repeat_penalty
        )
        row[tokens] = values - counts * self._sampling.frequency_penalty - self._sampling.presence_penalty
        return row

    def draw(self, row: Logits) -> int:
        """A token from a row already penalised. Entries of -inf are never drawn while another one is
        finite.
        """
        if self._random is None:
            return int(row.argmax())
        tokens, probabilities = self._candidates(row)
        cumulative = np.cumsum(probabilities)
        at = int(np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        return int(tokens[min(at, len(tokens) - 1)])

    def _candidates(self, row: Logits) -> tuple[Tokens, npt.NDArray[np.float64]]:
        """Tokens that survive the filters, most likely first, with their probabilities after temperature."""
        options = self._sampling
        k = options.top_k or self._enough(row)
        tokens = top_tokens(row, k)
        logits = row[tokens].astype(np.float64)
        finite = int(np.count_nonzero(np.isfinite(logits)))
        tokens, logits = tokens[:finite], logits[:finite]
        if options.typical_p < 1.0:
            tokens, logits = _typical(tokens, logits, options.typical_p)
        if options.top_p < 1.0:
            cumulative = np.cumsum(_softmax(logits))
            keep = int(np.searchsorted(cumulative, options.top_p, side="left")) + 1
            tokens, logits = tokens[:keep], logits[:keep]
        if options.min_p > 0.0:
            keep = max(1, int(np.count_nonzero(logits >= logits[0] + np.log(options.min_p))))
            tokens, logits = tokens[:keep], logits[:keep]
        return tokens, _softmax((logits - logits.max()) / options.temperature)

    def _enough(self, row: Logits) -> int:
        """How many tokens matter without top-k: all of them, unless min-p bounds them from above."""
        if self._sampling.min_p > 0.0 and self._sampling.typical_p >= 1.0:
            floor = row.max() + np.log(self._sampling.min_p)
            survivors = int(np.count_nonzero(row >= floor))
            # top-p looks at the whole distribution, so it may be answered by the survivors only when it is
            # off
            return survivors if self._sampling.top_p >= 1.0 else len(row)
        return len(row)


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum(), np.float64)


def _typical(
    tokens: Tokens, logits: npt.NDArray[np.float64], mass: float
) -> tuple[Tokens, npt.NDArray[np.float64]]:
    """Keep the tokens whose surprise is nearest to the entropy until `mass` is reached, most likely first
    again.
    """
    probabilities = _softmax(logits)
    surprise = -np.log(np.maximum(probabilities, 1e-300))
    distance = np.abs(surprise - float((probabilities * surprise).sum()))
    nearest = np.argsort(distance, kind="stable")
    keep = int(np.searchsorted(np.cumsum(probabilities[nearest]), mass, side="left")) + 1
    chosen = np.sort(nearest[:keep])
    return tokens[chosen], logits[chosen]
