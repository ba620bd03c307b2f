"""Writes one step's rows into the batch arrays that llama.cpp reads.

It knows slots, positions and tokens as numbers, not the requests behind them.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]


class BatchArrays(Protocol):
    """The columns of a batch."""

    token: Ints
    position: Ints
    sequence: Ints
    output: npt.NDArray[np.int8]


class RowWriter:
    """Collects rows; `n_rows` of them are ready for one decode."""

    def __init__(self, batch: BatchArrays) -> None:
        self._batch = batch
        self._outputs: list[int] = []
        self.n_rows = 0

    def clear(self) -> None:
        """Begin a new step."""
        self._outputs = []
        self.n_rows = 0

    def add_decoding(self, sequences: Ints, tokens: Ints, positions: Ints) -> None:
        """One row with logits for each decoding sequence."""
        end = self.n_rows + len(sequences)
        here = slice(self.n_rows, end)
        self._batch.token[here] = tokens
        self._batch.position[here] = positions
        self._batch.sequence[here] = sequences
        self._batch.output[here] = 1
        self._outputs.extend(sequences.tolist())
        self.n_rows = end

    def add_run(self, sequence: int, tokens: Any, start: int, *, outputs: str) -> None:
        """Consecutive rows of one sequence from position `start`, with logits for "none", the "last" or
        "all".
        """
        end = self.n_rows + len(tokens)
        here = slice(self.n_rows, end)
        self._batch.token[here] = tokens
        self._batch.position[here] = np.arange(start, start + len(tokens), dtype=np.int32)
        self._batch.sequence[here] = sequence
        self._batch.output[here] = outputs == "all"
        if outputs == "last":
            self._batch.output[end - 1] = 1
        if outputs != "none":
            self._outputs.extend([sequence] * (len(tokens) if outputs == "all" else 1))
        self.n_rows = end

    def sort_by_sequence(self) -> None:
        """Put neighbouring sequence ids together, as a memory that is not unified wants them in one pass."""
        order = np.argsort(self._batch.sequence[: self.n_rows], kind="stable")
        for column in (self._batch.token, self._batch.position, self._batch.sequence, self._batch.output):
            column[: self.n_rows] = column[: self.n_rows][order]
        self._outputs.sort()

    def output_sequences(self) -> list[int]:
        """The sequence id of every row with logits, in the order of the logits."""
        return self._outputs
