"""The memory and the forward pass over one model, and the rows that go into it."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

from workers.engine.errors import OUT_OF_MEMORY, EngineError
from workers.engine.llama.device_sampler import DeviceSampler, Shortlist
from workers.engine.llama.log import Log
from workers.engine.llama.model import Model, encoder_alone
from workers.engine.model import CACHE_TYPES, EngineModel
from workers.engine.shape import ContextShape

Logits = npt.NDArray[np.float32]


class Batch:
    """Rows of one decode as numpy arrays that llama.cpp reads in place (0.005 µs a field instead of 0.79)."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.token = np.zeros(capacity, np.int32)
        self.position = np.zeros(capacity, np.int32)
        self.sequence = np.zeros(capacity, np.int32)
        self.output = np.zeros(capacity, np.int8)
        self._one = np.ones(capacity, np.int32)
        # row i's list of sequence ids is the one cell self.sequence[i]
        self._pointers = self.sequence.ctypes.data + 4 * np.arange(capacity, dtype=np.uint64)
        self._struct = c.llama_batch()
        self._struct.token = self._view(self.token, ctypes.c_int32)
        self._struct.pos = self._view(self.position, ctypes.c_int32)
        self._struct.n_seq_id = self._view(self._one, ctypes.c_int32)
        self._struct.seq_id = self._view(self._pointers, ctypes.POINTER(ctypes.c_int32))
        self._struct.logits = self._view(self.output, ctypes.c_int8)

    @staticmethod
    def _view(array: npt.NDArray[Any], kind: Any) -> Any:
        return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))

    def struct(self, n_rows: int) -> Any:
        """The C struct of the first `n_rows` rows."""
        self._struct.n_tokens = n_rows
        return self._struct


class EmbeddingBatch(Batch):
    """Rows that bring embeddings [capacity, width] instead of tokens."""

    def __init__(self, capacity: int, width: int) -> None:
        super().__init__(capacity)
        self.embedding = np.zeros((capacity, width), np.float32)
        self._struct.token = None
        self._struct.embd = self._view(self.embedding, ctypes.c_float)


class Context:
    """The memory and the forward pass. One thread owns it."""

    _device: DeviceSampler | None = None

    def __init__(
        self, model: Model, settings: EngineModel, shape: ContextShape, log: Log, *, device_slots: int = 0
    ) -> None:
        """The first `device_slots` sequence ids can have their candidates found on the device."""
        params = c.llama_context_default_params()
        params.n_ctx = shape.n_cells
        params.n_batch = shape.n_batch
        params.n_ubatch = min(shape.n_ubatch, shape.n_batch)
        params.n_seq_max = shape.n_sequences
        params.n_outputs_max = shape.n_outputs
        params.n_threads = shape.n_threads
        params.n_threads_batch = shape.n_threads_batch
        params.flash_attn_type = -1 if settings.flash_attn == "auto" else int(settings.flash_attn)
        params.type_k = CACHE_TYPES[settings.type_k]
        params.type_v = CACHE_TYPES[settings.type_v]
        params.kv_unified = shape.unified
        params.offload_kqv = settings.offload_kqv
        params.op_offload = settings.op_offload
        params.swa_full = settings.swa_full
        params.no_perf = True
        self._params = params
        self._model = model
        self._settings = settings
        self._shape = shape
        self._log = log
        if device_slots:
            self._device = DeviceSampler(device_slots, model.vocabulary.size)
        self._pointer: Any = None
        self.renew()
        self.n_vocab = model.vocabulary.size
        self.cells_per_sequence = int(c.llama_n_ctx_seq(self._pointer))
        self.n_ubatch = int(c.llama_n_ubatch(self._pointer))
        self.n_outputs = shape.n_outputs
        self.batch = Batch(shape.n_batch)
        self._logits_view: Logits = np.empty((0, 0), np.float32)

    def renew(self) -> None:
        """Make the C context anew, empty, after a failure that left it unknown. Raises EngineError
        (out_of_memory).
        """
        self.close()
        if self._device is not None:
            self._device.configure(self._params)
        self._pointer = c.llama_init_from_model(self._model.pointer, self._params)
        if not self._pointer:
            raise EngineError(
                OUT_OF_MEMORY,
                f"llama.cpp could not create a context of {self._shape.n_cells} cells: {self.last_errors()}",
                field="n_ctx",
                remedy="lower n_ctx or n_slots, or quantise the cache (type_k, type_v)",
            )
        self._memory = c.llama_get_memory(self._pointer)
        if not self._memory:
            self.close()
            raise encoder_alone(self._settings.model_path)
        self._logits_address = 0

    def decode(self, n_rows: int) -> int:
        """Run the first `n_rows` rows of `batch`. 0 is success, 1 means the memory is full, negative is
        fatal.

        `n_rows` must be from 1 to the batch's capacity: llama.cpp asserts otherwise.
        """
        if not 1 <= n_rows <= self.batch.capacity:
            raise ValueError(f"{n_rows} rows do not fit a batch of {self.batch.capacity}")
        return self._run(self.batch, n_rows)

    def decode_embeddings(self, batch: EmbeddingBatch, n_rows: int, *, causal: bool) -> int:
        """Run the first `n_rows` rows of embeddings, with the codes of `decode`.

        Without `causal` the rows of a sequence see each other both ways; `n_rows` must then be at most
        `n_ubatch`: llama.cpp asserts otherwise.
        """
        if not 1 <= n_rows <= (batch.capacity if causal else min(batch.capacity, self.n_ubatch)):
            raise ValueError(f"{n_rows} rows of embeddings do not fit one decode")
        if causal:
            return self._run(batch, n_rows)
        c.llama_set_causal_attn(self._pointer, False)
        try:
            return self._run(batch, n_rows)
        finally:
            c.llama_set_causal_attn(self._pointer, True)

    def _run(self, batch: Batch, n_rows: int) -> int:
        code = int(c.llama_decode(self._pointer, batch.struct(n_rows)))
        # a GPU may still be at it: who measures a decode measures all of it
        c.llama_synchronize(self._pointer)
        return code

    def last_errors(self) -> str:
        """What llama.cpp said about the last failures."""
        return self._log.last_errors()

    def logits(self, n_outputs: int) -> Logits:
        """Logits [n_outputs, n_vocab] of the rows flagged in the last successful decode, in batch order.

        A view on C memory: the next decode overwrites it.
        """
        pointer = c.llama_get_logits(self._pointer)
        address = ctypes.cast(pointer, ctypes.c_void_p).value or 0
        if address != self._logits_address or n_outputs > len(self._logits_view):
            self._logits_address = address
            # the C buffer holds at least this many rows, and building the view costs more than slicing it
            array = (ctypes.c_float * (n_outputs * self.n_vocab)).from_address(address)
            self._logits_view = np.ctypeslib.as_array(array).reshape(n_outputs, self.n_vocab)
        return self._logits_view[:n_outputs]

    def want_candidates(self, sequence: int, count: int) -> None:
        """A job begins in `sequence` that looks at `count` candidates, or at whole rows with 0. Its rows may
        still have more than that, or be whole. Without device slots they always are.
        """
        if self._device is not None:
            self._device.want(self._pointer, sequence, count)

    def candidates(self, sequences: list[int]) -> list[Shortlist | None]:
        """The candidates of the output rows of the last successful decode, whose sequence ids these are, in
        batch order; None for a whole row.
        """
        return (
            [None] * len(sequences) if self._device is None else self._device.read(self._pointer, sequences)
        )

    def remove(self, sequence: int, start: int = 0, end: int = -1) -> bool:
        """Forget positions [start, end) of a sequence; -1 is the end. False where the memory cannot do it
        partly.
        """
        return bool(c.llama_memory_seq_rm(self._memory, sequence, start, end))

    def copy(self, source: int, target: int, start: int = 0, end: int = -1) -> None:
        """Give positions [start, end) of `source` to `target`. Without a unified cache only whole ones are
        allowed.
        """
        c.llama_memory_seq_cp(self._memory, source, target, start, end)

    def clear(self) -> None:
        """Forget every sequence."""
        c.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """Free the C memory."""
        if self._pointer:
            c.llama_free(self._pointer)
            self._pointer = None
        if self._device is not None:
            self._device.free()
