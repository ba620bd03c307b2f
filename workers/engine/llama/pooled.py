"""A context that makes one vector of each sequence, for encoders and for decoders with pooling.

It keeps nothing between two passes. Which pooling a file asks for, and how many rows fit, is found here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

from workers.engine.errors import MODEL_FILE_INVALID, OUT_OF_MEMORY, EngineError
from workers.engine.llama.context import Batch
from workers.engine.llama.log import Log
from workers.engine.llama.model import Model
from workers.engine.model import CACHE_TYPES, POOLING_TYPES, EngineModel

Vectors = npt.NDArray[np.float32]

_UNSPECIFIED: Final = -1
_TRAINED: Final = "the length it was trained on"


@dataclass(frozen=True, slots=True)
class PooledFacts:
    """What a pooled context can do. `rows` is the most tokens of one pass, `prompt` of one sequence, set by
    the setting `bound`.
    """

    pooling: str
    width: int
    rows: int
    prompt: int
    bound: str

    @property
    def raisable(self) -> bool:
        """Whether `bound` is a setting that could be raised."""
        return self.bound != _TRAINED


class PooledContext:
    """The forward pass of an embedding model. One thread owns it."""

    def __init__(self, model: Model, settings: EngineModel, n_threads: int, log: Log) -> None:
        """Raises EngineError: out_of_memory, model_file_invalid for a file that names no pooling."""
        n_batch = max(settings.n_batch, settings.n_slots)
        params = c.llama_context_default_params()
        params.n_ctx = n_batch
        params.n_batch = n_batch
        params.n_ubatch = max(min(settings.n_ubatch, n_batch), settings.n_slots)
        params.n_seq_max = settings.n_slots
        params.n_threads = n_threads
        params.n_threads_batch = settings.n_threads_batch or n_threads
        params.flash_attn_type = -1 if settings.flash_attn == "auto" else int(settings.flash_attn)
        params.type_k = CACHE_TYPES[settings.type_k]
        params.type_v = CACHE_TYPES[settings.type_v]
        # separate memories would cut prompts of unequal length into pieces, and pieces cannot be pooled
        params.kv_unified = True
        params.embeddings = True
        pooling = settings.pooling_type
        params.pooling_type = _UNSPECIFIED if pooling is None else POOLING_TYPES[pooling]
        params.no_perf = True
        self._log = log
        self._pointer = c.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            raise EngineError(
                OUT_OF_MEMORY,
                f"llama.cpp could not create a context of {n_batch} rows: {log.last_errors()}",
                field="n_batch",
                remedy="lower n_batch or n_ubatch",
            )
        self._memory = c.llama_get_memory(self._pointer)
        try:
            self.facts = self._read_facts(model, settings, n_batch, int(params.n_ubatch))
        except EngineError:
            self.close()
            raise
        self.batch = Batch(self.facts.rows)

    def _read_facts(self, model: Model, settings: EngineModel, n_batch: int, n_ubatch: int) -> PooledFacts:
        number = int(c.llama_pooling_type(self._pointer))
        pooling = next((name for name, value in POOLING_TYPES.items() if value == number), None)
        if pooling is None:
            raise EngineError(
                MODEL_FILE_INVALID,
                f"{settings.model_path} does not say how to make one vector of a text"
                f" (its pooling type is {number})",
                field="pooling_type",
                remedy=f"set pooling_type in the model catalogue: one of {', '.join(POOLING_TYPES)}",
            )
        # a pooled vector is made within one physical batch; only the last of causal rows needs no other row
        splits = pooling == "last" and bool(self._memory) and c.llama_get_causal_attn(self._pointer)
        rows, bound = (n_batch, "n_batch") if splits else (n_ubatch, "n_ubatch")
        if n_batch <= rows:
            bound = "n_batch"
        prompt = rows
        if settings.n_ctx < prompt:
            prompt, bound = settings.n_ctx, "n_ctx"
        # an encoder has an embedding for each position it was trained on, and reading past them aborts
        trained = model.facts().n_ctx_train
        if not self._memory and trained < prompt:
            prompt, bound = trained, _TRAINED
        return PooledFacts(pooling, int(c.llama_model_n_embd_out(model.pointer)), rows, prompt, bound)

    def encode(self, n_rows: int) -> int:
        """Run the first `n_rows` rows of `batch`, with nothing in memory before. 0 is success.

        `n_rows` must be from 1 to the batch's capacity: llama.cpp asserts otherwise.
        """
        if not 1 <= n_rows <= self.batch.capacity:
            raise ValueError(f"{n_rows} rows do not fit a batch of {self.batch.capacity}")
        if self._memory:
            c.llama_memory_clear(self._memory, False)
            return int(c.llama_decode(self._pointer, self.batch.struct(n_rows)))
        return int(c.llama_encode(self._pointer, self.batch.struct(n_rows)))

    def vectors(self, n_sequences: int) -> Vectors:
        """Copies of the pooled vectors [n_sequences, width] of sequences 0, 1, … in the last good pass."""
        found = np.empty((n_sequences, self.facts.width), np.float32)
        for sequence in range(n_sequences):
            pointer = c.llama_get_embeddings_seq(self._pointer, sequence)
            found[sequence] = np.ctypeslib.as_array(pointer, (self.facts.width,))
        return found

    def last_errors(self) -> str:
        """What llama.cpp said about the last failures."""
        return self._log.last_errors()

    def close(self) -> None:
        """Free the C memory."""
        if self._pointer:
            c.llama_free(self._pointer)
            self._pointer = None
