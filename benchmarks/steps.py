"""Timed steps through a model's context, without the engine's loop: what the device itself can do.

Importing it loads llama.cpp, so the environment (which GPU, how long threads spin) must be settled before.
"""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.gpu_figures import Case, Decoding, Figures, cases, in_turns
from benchmarks.power import PowerMeter
from workers.engine.errors import DECODE_FAILED, EngineError
from workers.engine.gguf_file import read_header
from workers.engine.llama.context import Context
from workers.engine.llama.device_sampler import Tokens
from workers.engine.llama.log import Log
from workers.engine.llama.model import Model
from workers.engine.model import EngineModel
from workers.engine.notebook import Notebook
from workers.engine.output_rows import read_rows
from workers.engine.rows import RowWriter
from workers.engine.shape import ContextShape
from workers.engine.smoke import SMOKE_OK, prove
from workers.gpu import Gpu, memory_held

CHUNKS = (32, 64, 128, 256, 512)
BEGINNING = 64
"""Tokens in memory of each sequence before it decodes."""


class Bench:
    """The model, loaded once, and how often each step is repeated."""

    def __init__(self, path: Path, gpu: Gpu | None, threads: int, repeats: int) -> None:
        self.settings = EngineModel("bench", str(path), n_gpu_layers=-1 if gpu else 0)
        self.gpu = gpu
        self.threads = threads
        self.repeats = repeats
        read_header(path)  # a file that is none gets its error here
        proved = prove(self.settings, threads, Notebook(), on_gpu=gpu is not None)
        self._log = Log(verbose=False)
        self._model = Model(self.settings, use_extra_bufts=proved == SMOKE_OK, log=self._log)
        self._random = np.random.default_rng(7)

    @contextmanager
    def stepper(self, case: Case, slots: int, cells: int, batch: int) -> "Iterator[Stepper]":
        """A context for `slots` sequences that share `cells`, with steps of at most `batch` rows."""
        settings = replace(
            self.settings, flash_attn=case.flash_attn, type_k=case.cache,
            type_v=case.cache if case.flash_attn else "f16",
        )  # fmt: skip
        shape = ContextShape(cells, batch, batch, slots, slots, self.threads, self.threads, unified=True)
        device_slots = slots if case.in_graph else 0
        context = Context(self._model, settings, shape, self._log, device_slots=device_slots)
        try:
            yield Stepper(context)
        finally:
            context.close()

    def tokens(self, count: int) -> Tokens:
        """Tokens that mean nothing."""
        return self._random.integers(0, self._model.vocabulary.size, count, dtype=np.int32)

    def row_times(self, case: Case, rows: Sequence[int]) -> dict[int, tuple[float, ...]]:
        """Milliseconds of a step that carries this many rows of one prompt, from its beginning."""
        times: dict[int, tuple[float, ...]] = {}
        with self.stepper(case, 1, max(rows), max(rows)) as stepper:
            for count in rows:
                one_size = []
                for _ in range(self.repeats + 1):
                    stepper.context.clear()
                    one_size.append(stepper.prompt(0, self.tokens(count), 0))
                times[count] = tuple(one_size[1:])  # the first builds the graph of this size
        return times

    def chunk_rates(self, case: Case, chunks: Sequence[int], length: int) -> dict[int, float]:
        """Tokens/s of a prompt of `length` tokens, computed in chunks of this many."""
        rates = {}
        with self.stepper(case, 1, length, max(chunks)) as stepper:
            for chunk in chunks:
                seconds = []
                for _ in range(self.repeats + 1):
                    stepper.context.clear()
                    parts = [
                        stepper.prompt(0, self.tokens(min(chunk, length - start)), start)
                        for start in range(0, length, chunk)
                    ]
                    seconds.append(sum(parts) / 1000)
                rates[chunk] = length / statistics.median(seconds[1:])
        return rates

    def decoding(self, case: Case, slots: int, steps: int) -> Decoding:
        """`steps` steps of one row for each of `slots` sequences, each behind a beginning of its own."""
        cells = slots * (BEGINNING + steps + 1)
        with self.stepper(case, slots, cells, max(slots, BEGINNING)) as stepper:
            for slot in range(slots):
                stepper.prompt(slot, self.tokens(BEGINNING), 0)
            stepper.decode(slots, self.tokens(slots), BEGINNING)
            with PowerMeter(self.gpu) as meter:
                times = [
                    stepper.decode(slots, self.tokens(slots), BEGINNING + 1 + step) for step in range(steps)
                ]
            memory = memory_held(os.getpid(), self.gpu).size if self.gpu is not None else None
        joules = None if meter.joules is None else meter.joules / (slots * steps)
        return Decoding(case, slots, tuple(times), joules, memory)


class Stepper:
    """Steps through a context, timed until their rows can be read."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._writer = RowWriter(context.batch)

    def prompt(self, slot: int, tokens: Tokens, start: int) -> float:
        """Milliseconds of a chunk of a prompt."""
        self._writer.clear()
        self._writer.add_run(slot, tokens, start, outputs="last")
        return self._run([slot])

    def decode(self, slots: int, tokens: Tokens, position: int) -> float:
        """Milliseconds of one row for each slot."""
        self._writer.clear()
        every = np.arange(slots, dtype=np.int32)
        self._writer.add_decoding(every, tokens, np.full(slots, position, np.int32))
        return self._run(every.tolist())

    def _run(self, sequences: list[int]) -> float:
        began = time.perf_counter()
        code = self.context.decode(self._writer.n_rows)
        if code != 0:
            raise EngineError(DECODE_FAILED, f"a decode returned {code}: {self.context.last_errors()}")
        read_rows(self.context, sequences)
        return (time.perf_counter() - began) * 1000


def measure(bench: Bench, rows: Sequence[int], slots: Sequence[int], steps: int, prompt: int) -> Figures:
    """Everything: the usual case in full, the others by number of slots alone."""
    usual = cases()[0]
    decoding = [one for count in slots for one in in_turns(count, steps, bench.decoding)]
    chunks = [chunk for chunk in CHUNKS if chunk <= prompt]
    return Figures(bench.row_times(usual, rows), bench.chunk_rates(usual, chunks, prompt), tuple(decoding))
