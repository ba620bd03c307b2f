"""What a step says about the next token of each sequence: a whole row of logits, or candidates found on the
device. It knows rows, not what becomes of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.engine.llama.context import Context
from workers.engine.llama.device_sampler import Tokens
from workers.engine.sampler import Logits, log_sum_exp


@dataclass(frozen=True, slots=True)
class OutputRow:
    """Logits of the whole vocabulary, or of `tokens` alone, most likely first. `best` is where the largest
    logit stands; a logit less `normaliser` is the log probability over the whole vocabulary.
    """

    logits: Logits
    best: int
    normaliser: float
    tokens: Tokens | None = None

    def token(self, at: int) -> int:
        """The token whose logit stands at `at`."""
        return at if self.tokens is None else int(self.tokens[at])

    def log_probability(self, at: int) -> float:
        """Of the token whose logit stands at `at`."""
        return float(self.logits[at]) - self.normaliser


def read_rows(context: Context, sequences: list[int]) -> list[OutputRow]:
    """The output rows of the last decode, whose sequence ids these are, in batch order. Whole rows are views
    on C memory, which the next decode overwrites.
    """
    shortlists = context.candidates(sequences)
    whole = [row for row, shortlist in enumerate(shortlists) if shortlist is None]
    by_row: dict[int, OutputRow] = {}
    if whole:
        logits = context.logits(len(sequences))
        chosen = logits if len(whole) == len(sequences) else logits[whole]
        peaks = chosen.argmax(axis=1)
        normalisers, best = log_sum_exp(chosen, peaks).tolist(), peaks.tolist()
        by_row = {row: OutputRow(chosen[at], best[at], normalisers[at]) for at, row in enumerate(whole)}
    return [
        by_row[row] if one is None else OutputRow(one.logits, 0, one.normaliser, one.tokens)
        for row, one in enumerate(shortlists)
    ]
