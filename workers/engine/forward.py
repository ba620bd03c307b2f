"""One plan through the model: its rows are written, decoded, and the sequences move on.

It knows rows and what they belong to, not why they were planned nor what becomes of a failed decode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from workers.engine.image_rows import DECODED, Ahead, ImageRows
from workers.engine.loader import Runtime
from workers.engine.plan import Plan
from workers.engine.rows import RowWriter
from workers.engine.running import Running
from workers.engine.scoring import PathRunner

NOTHING_AHEAD: Final = Ahead()


class Forward:
    """The forward pass over the running sequences."""

    def __init__(self, runtime: Runtime, running: Running, paths: PathRunner) -> None:
        self._runtime = runtime
        self._running = running
        self._paths = paths
        self._writer = RowWriter(runtime.context.batch)
        self._images: ImageRows | None = None
        if runtime.projector is not None:
            self._images = ImageRows(
                runtime.context,
                running,
                self._writer,
                width=runtime.projector.width,
                non_causal=runtime.projector.non_causal,
            )

    def decode(self, plan: Plan) -> int:
        """Run the plan: DECODED, MEMORY_FULL with everything as before, or a fatal code of llama.cpp.

        Rows of images, and of text before them, go first, in decodes of their own; see `ImageRows`.
        """
        ahead = NOTHING_AHEAD if self._images is None else self._images.decode(plan)
        if ahead.code != DECODED:
            return ahead.code
        self._write(plan, ahead.rows)
        # a step may have rows of images only
        code = self._runtime.context.decode(self._writer.n_rows) if self._writer.n_rows else DECODED
        if code != DECODED:
            self._paths.abandon()
            if self._images is not None:
                return self._images.undo(ahead, code)
        return code

    def advance(self, plan: Plan) -> list[int]:
        """Note what a decoded plan has computed; returns the sequence id of each row of logits."""
        memory = self._runtime.memory
        for slot, rows in plan.advances:
            one = self._running[slot]
            one.computed += rows
            memory.computed(slot, rows)
            if one.keep_at and one.computed >= one.keep_at:
                memory.keep(slot, one.known(one.keep_at))
                one.keep_at = 0
        return self._writer.output_sequences()

    def _write(self, plan: Plan, ahead: Mapping[int, int]) -> None:
        writer = self._writer
        writer.clear()
        decoding = [self._running[slot] for slot in plan.decoding]
        writer.add_decoding(
            np.array(plan.decoding, np.int32),
            np.array([one.tokens[-1] for one in decoding], np.int32),
            np.array([one.computed for one in decoding], np.int32),
        )
        for slot, rows in plan.chunks:
            one = self._running[slot]
            start, end = one.computed + ahead.get(slot, 0), one.computed + rows
            outputs = "last" if end == one.length else "none"
            writer.add_run(slot, one.known(end, start), start, outputs=outputs)
        for burst in plan.bursts:
            one = self._running[burst.slot]
            if one.scoring is not None and not burst.of_image:
                self._paths.write(burst.slot, len(one.prompt), one.scoring, burst.rows, writer)
        if (not self._runtime.unified and plan.chunks) or plan.bursts:
            writer.sort_by_sequence()
