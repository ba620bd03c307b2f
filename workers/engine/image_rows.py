"""What of a plan must be decoded before its last batch of tokens: rows of images, and of texts before them.

    chunk of one sequence:   text  image  text  image  text
    decoded in:              1st   2nd    3rd   4th    the plan's own batch, with everybody else's tokens

Tokens and embeddings cannot share a batch; those of several sequences do, kind by kind. It knows rows and the
sequences they belong to, not why they were planned nor what becomes of a failed decode.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from workers.engine.images import Embeddings, Tokens
from workers.engine.llama.context import Context, EmbeddingBatch
from workers.engine.plan import Plan
from workers.engine.rows import RowWriter
from workers.engine.running import Running

DECODED: Final = 0
MEMORY_FULL: Final = 1
_UNKNOWN: Final = -1
"""Not a code of llama.cpp: the memory could not be put back as it was."""

Head = tuple[int, Tokens | Embeddings]


@dataclass(slots=True)
class Ahead:
    """How many rows of each slot are decoded already, and the code of the last decode."""

    code: int = DECODED
    rows: dict[int, int] = field(default_factory=dict)


class ImageRows:
    """The decodes ahead of a plan's own. With `non_causal` an image's rows see each other both ways."""

    def __init__(
        self, context: Context, running: Running, writer: RowWriter, *, width: int, non_causal: bool
    ) -> None:
        self._context = context
        self._running = running
        self._writer = writer
        self._batch = EmbeddingBatch(context.batch.capacity, width)
        self._causal = not non_causal

    def decode(self, plan: Plan) -> Ahead:
        """Decode what comes before the plan's last tokens. Where that fails, the memory is as before."""
        ahead = Ahead()
        left = self._left(plan)
        while left:
            for of_images in (True, False):
                heads = [
                    (slot, runs.popleft())
                    for slot, runs in sorted(left.items())
                    if runs and (runs[0].ndim == 2) == of_images
                ]
                if not heads:
                    continue
                ahead.code = self._embeddings(heads, ahead) if of_images else self._tokens(heads, ahead)
                if ahead.code != DECODED:
                    ahead.code = self.undo(ahead, ahead.code)
                    return ahead
                for slot, run in heads:
                    ahead.rows[slot] = ahead.rows.get(slot, 0) + len(run)
            left = {slot: runs for slot, runs in left.items() if runs}
        return ahead

    def _left(self, plan: Plan) -> dict[int, deque[Tokens | Embeddings]]:
        """Each slot's runs of one kind, without a last one of tokens: that is for the plan's own batch."""
        left: dict[int, deque[Tokens | Embeddings]] = {}
        for slot, rows in plan.advances[len(plan.decoding) :]:
            one = self._running[slot]
            if one.has_images:
                runs = deque(one.next_rows(rows))
                if runs[-1].ndim == 1:
                    runs.pop()
                left[slot] = runs
        return {slot: runs for slot, runs in left.items() if runs}

    def _embeddings(self, heads: list[Head], ahead: Ahead) -> int:
        at = 0
        for slot, run in heads:
            here = slice(at, at + len(run))
            start = self._running[slot].computed + ahead.rows.get(slot, 0)
            self._batch.embedding[here] = run
            self._batch.position[here] = np.arange(start, start + len(run), dtype=np.int32)
            self._batch.sequence[here] = slot
            at += len(run)
        return self._context.decode_embeddings(self._batch, at, causal=self._causal)

    def _tokens(self, heads: list[Head], ahead: Ahead) -> int:
        self._writer.clear()
        for slot, run in heads:
            start = self._running[slot].computed + ahead.rows.get(slot, 0)
            self._writer.add_run(slot, run, start, outputs="none")
        return self._context.decode(self._writer.n_rows)

    def undo(self, ahead: Ahead, code: int) -> int:
        """After a decode failed with `code`: take out what was decoded ahead. Returns the code to report."""
        if code != MEMORY_FULL:
            return code
        removed = [self._context.remove(slot, self._running[slot].computed) for slot in ahead.rows]
        return code if all(removed) else _UNKNOWN
