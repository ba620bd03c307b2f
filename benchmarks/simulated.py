"""A card that is only simulated: the engine and its scheduler are real, the forward pass is a clock.

`SimulatedContext` stands where llama.cpp's context does. A decode advances the clock by what a table says for
its rows, and every row of logits favours the same token, so that a job ends by its length. It knows no jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from workers.engine.images import Image
from workers.engine.llama.context import Batch, Context
from workers.engine.loader import Runtime, memory_over
from workers.engine.model import EngineModel
from workers.engine.prompt import Prompt, PromptBuilder
from workers.engine.request import EngineRequest
from workers.engine.shape import ContextShape, plan_shape

Tokens = npt.NDArray[np.int32]


@dataclass
class Clock:
    """Simulated seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class StepTable:
    """Seconds of a step by its rows, straight lines between the points and on beyond the last; `per_cell` is
    added for each cell that a row with logits attends to."""

    rows: tuple[float, ...]
    seconds: tuple[float, ...]
    per_cell: float = 0.0

    def __call__(self, rows: float, cells: float) -> float:
        if rows > self.rows[-1]:
            slope = (self.seconds[-1] - self.seconds[-2]) / (self.rows[-1] - self.rows[-2])
            return self.seconds[-1] + slope * (rows - self.rows[-1]) + self.per_cell * cells
        return float(np.interp(rows, self.rows, self.seconds)) + self.per_cell * cells

    def scaled(self, factor: float) -> StepTable:
        """The same card with a model that is `factor` times as large."""
        return replace(self, seconds=tuple(factor * one for one in self.seconds))


class SimulatedContext(Context):
    """A context without a model. `rows_per_token` is how many rows one with logits stands for: with
    jump-forward, itself and the forced tokens between it and the next one that is drawn."""

    def __init__(
        self,
        clock: Clock,
        table: StepTable,
        shape: ContextShape,
        *,
        n_vocab: int,
        favourite: int,
        rows_per_token: float,
    ) -> None:
        self._clock = clock
        self._table = table
        self._rows_per_token = rows_per_token
        self.steps = 0
        self.n_vocab = n_vocab
        self.cells_per_sequence = shape.n_cells
        self.n_outputs = shape.n_outputs
        self.batch = Batch(shape.n_batch)
        self._answer = np.zeros((shape.n_outputs, n_vocab), np.float32)
        self._answer[:, favourite] = 1.0

    def renew(self) -> None:
        """Nothing to make anew."""

    def decode(self, n_rows: int) -> int:
        """Takes as long as the table says, and succeeds."""
        drawn = self.batch.output[:n_rows] != 0
        n_drawn = int(drawn.sum())
        cells = float(self.batch.position[:n_rows][drawn].sum()) + n_drawn
        self._clock.now += self._table(n_rows + n_drawn * (self._rows_per_token - 1.0), cells)
        self.steps += 1
        return 0

    def last_errors(self) -> str:
        """None ever."""
        return ""

    def logits(self, n_outputs: int) -> npt.NDArray[np.float32]:
        """The same for every row."""
        return self._answer[:n_outputs]

    def remove(self, sequence: int, start: int = 0, end: int = -1) -> bool:
        """The engine keeps count of the cells itself."""
        return True

    def copy(self, source: int, target: int, start: int = 0, end: int = -1) -> None:
        """As `remove`."""

    def clear(self) -> None:
        """As `remove`."""

    def close(self) -> None:
        """Nothing to free."""


class SimulatedPrompts(PromptBuilder):
    """Prompts of so many tokens: the text "300 30 17" becomes 300 tokens that all jobs share and 30 of job
    17."""

    def __init__(self, usable: Sequence[int]) -> None:
        self._usable = np.array(usable, np.int32)

    def build(self, request: EngineRequest, images: Mapping[str, Image]) -> Prompt:
        """Raises ValueError for another text."""
        shared, unique, number = (int(word) for word in (request.prompt or "").split())
        own = np.random.default_rng([7, number]).choice(self._usable, unique)
        return Prompt(np.concatenate([np.resize(self._usable, shared), own]).astype(np.int32))


def simulated_runtime(
    real: Runtime, settings: EngineModel, clock: Clock, table: StepTable, *, rows_per_token: float = 1.0
) -> Runtime:
    """`real` with a simulated card of these settings in place of its context and memory; the vocabulary and
    all else that the engine asks of a model stay the real one's."""
    vocabulary = real.vocabulary
    usable = [
        token
        for token, piece in enumerate(vocabulary.pieces)
        if piece.isalpha() and token not in vocabulary.end_tokens
    ]
    shape, kept, forks = plan_shape(settings, 1, unified=True, shares=settings.prefix_cache)
    context = SimulatedContext(
        clock,
        table,
        shape,
        n_vocab=vocabulary.size,
        favourite=usable[0],
        rows_per_token=rows_per_token,
    )
    return replace(
        real,
        settings=settings,
        context=context,
        prompts=SimulatedPrompts(usable),
        memory=memory_over(context, settings, shape, kept, forks),
        capacity=settings.n_ctx,
        n_cells=shape.n_cells,
        unified=True,
        shares_prefixes=settings.prefix_cache,
        budget=shape.n_batch - real.choice_rows,
    )
