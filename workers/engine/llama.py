"""The only file that touches llama.cpp: a thin typed wrapper over the C bindings.

It owns C memory and turns C conventions (null pointers, negative counts, stale pointers) into Python ones.
It does not know requests, slots or scheduling. llama.cpp asserts kill the process, so callers must respect
the stated preconditions; the methods here check those that cost nothing.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import llama_cpp
import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

from workers.engine.errors import GRAMMAR_INVALID, MODEL_FILE_INVALID, OUT_OF_MEMORY, EngineError
from workers.engine.model import CACHE_TYPES, EngineModel

Tokens = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]

_TOKEN_DATA: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_SPLIT_MODES: Final = {"none": 0, "layer": 1, "row": 2}
_ERROR_LEVEL: Final = 4
_SLOW_SECONDS: Final = 0.05
_SLOW_SECONDS_PER_TOKEN: Final = 5e-6


class Log:
    """Keeps llama.cpp's last error lines instead of printing everything to the terminal."""

    # the library holds one callback for the whole process and calls it even after a model is gone
    _installed: Log | None = None

    def __init__(self, verbose: bool) -> None:
        self._lines: deque[str] = deque(maxlen=8)
        self._verbose = verbose
        self._level = 0
        self._callback = c.llama_log_callback(self._receive)
        c.llama_log_set(self._callback, ctypes.c_void_p(0))
        Log._installed = self

    def _receive(self, level: int, text: bytes, _data: Any) -> None:
        if self._verbose:
            sys.stderr.write(text.decode("utf-8", "replace"))
        # level 5 continues the line before
        self._level = self._level if level == 5 else level
        if self._level == _ERROR_LEVEL and text.strip():
            self._lines.append(text.decode("utf-8", "replace").strip())

    def last_errors(self) -> str:
        """The most recent error lines, oldest first, in one string."""
        return "; ".join(self._lines)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the loaded model says about itself."""

    n_vocab: int
    n_ctx_train: int
    n_params: int
    chat_template: str | None
    copies_prefixes: bool
    """Whether a leading part of one sequence's memory can be given to another one."""


class Vocabulary:
    """Tokens and text of one model. All pieces are read once, so that no token costs a C call later."""

    def __init__(self, pointer: Any) -> None:
        self._pointer = pointer
        self.size = int(c.llama_vocab_n_tokens(pointer))
        self.bos = int(c.llama_vocab_bos(pointer))
        self.eos = int(c.llama_vocab_eos(pointer))
        self.adds_bos = bool(c.llama_vocab_get_add_bos(pointer)) and self.bos >= 0
        self.attributes: list[int] = [
            int(c.llama_vocab_get_attr(pointer, token)) for token in range(self.size)
        ]
        self.end_tokens = frozenset(
            token for token in range(self.size) if c.llama_vocab_is_eog(pointer, token)
        )
        self._buffer = ctypes.create_string_buffer(256)
        self.pieces: list[bytes] = [self._read_piece(token, special=False) for token in range(self.size)]
        self.longest_piece = max((len(piece) for piece in self.pieces), default=1) or 1

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        size = int(c.llama_token_to_piece(self._pointer, token, self._buffer, len(self._buffer), 0, special))
        if size < 0:
            self._buffer = ctypes.create_string_buffer(-size)
            size = int(c.llama_token_to_piece(self._pointer, token, self._buffer, -size, 0, special))
        return self._buffer.raw[:size]

    def special_piece(self, token: int) -> bytes:
        """The token's text with control tokens written out."""
        return self._read_piece(token, special=True)

    def text_of(self, token: int) -> str:
        """The vocabulary's own name of a token, for example `<|im_end|>`."""
        raw = c.llama_vocab_get_text(self._pointer, token)
        return (raw or b"").decode("utf-8", "replace")

    def tokenise(self, text: str, *, special: bool = False) -> Tokens:
        """Token ids of `text`, without a beginning-of-text token; control tokens are read only where
        `special`.
        """
        data = text.encode("utf-8")
        room = len(data) + 8
        while True:
            out = np.empty(room, dtype=np.int32)
            pointer = out.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
            count = int(c.llama_tokenize(self._pointer, data, len(data), pointer, room, False, special))
            if count >= 0:
                return out[:count].copy()
            room = -count


class Model:
    """A loaded GGUF. Raises EngineError when llama.cpp refuses the file."""

    def __init__(self, settings: EngineModel, *, use_extra_bufts: bool, log: Log) -> None:
        c.llama_backend_init()
        params = c.llama_model_default_params()
        params.n_gpu_layers = settings.n_gpu_layers
        params.main_gpu = settings.main_gpu
        if settings.split_mode is not None:
            mode = settings.split_mode
            params.split_mode = _SPLIT_MODES.get(mode, 1) if isinstance(mode, str) else mode
        params.load_mode = _load_mode(settings)
        params.use_extra_bufts = use_extra_bufts
        self._pointer = c.llama_model_load_from_file(settings.model_path.encode(), params)
        if not self._pointer:
            raise EngineError(
                MODEL_FILE_INVALID,
                f"llama.cpp could not load {settings.model_path}: {log.last_errors() or 'no reason given'}",
                field="model",
                remedy="check that the file is complete, its architecture supported and the memory enough",
            )
        if c.llama_model_has_encoder(self._pointer) or not c.llama_model_has_decoder(self._pointer):
            self.close()
            raise EngineError(
                MODEL_FILE_INVALID,
                f"{settings.model_path} is no text generator: only models with a decoder alone can be served",
                field="model",
                remedy="choose a decoder model",
            )
        self.vocabulary = Vocabulary(c.llama_model_get_vocab(self._pointer))

    @property
    def pointer(self) -> Any:
        """The C pointer, for the context."""
        return self._pointer

    def facts(self) -> ModelFacts:
        """Read the model's own description."""
        template = c.llama_model_chat_template(self._pointer, None)
        recurrent = bool(c.llama_model_is_recurrent(self._pointer) or c.llama_model_is_hybrid(self._pointer))
        return ModelFacts(
            n_vocab=self.vocabulary.size,
            n_ctx_train=int(c.llama_model_n_ctx_train(self._pointer)),
            n_params=int(c.llama_model_n_params(self._pointer)),
            chat_template=template.decode("utf-8", "replace") if template else None,
            copies_prefixes=not recurrent,
        )

    def close(self) -> None:
        """Free the C memory. The contexts must be closed before."""
        if self._pointer:
            c.llama_model_free(self._pointer)
            self._pointer = None


def _load_mode(settings: EngineModel) -> int:
    if settings.use_mlock:
        return int(c.LLAMA_LOAD_MODE_MMAP_MLOCK if settings.use_mmap else c.LLAMA_LOAD_MODE_MLOCK)
    return int(c.LLAMA_LOAD_MODE_MMAP if settings.use_mmap else c.LLAMA_LOAD_MODE_NONE)


@dataclass(frozen=True, slots=True)
class ContextShape:
    """Sizes of a context. `n_cells` is the total over all sequences."""

    n_cells: int
    n_batch: int
    n_ubatch: int
    n_sequences: int
    n_outputs: int
    n_threads: int
    n_threads_batch: int
    unified: bool


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


class Context:
    """The memory and the forward pass. One thread owns it."""

    def __init__(self, model: Model, settings: EngineModel, shape: ContextShape, log: Log) -> None:
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
        params.no_perf = True
        self._pointer = c.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            raise EngineError(
                OUT_OF_MEMORY,
                f"llama.cpp could not create a context of {shape.n_cells} cells: {log.last_errors()}",
                field="n_ctx",
                remedy="lower n_ctx or n_slots, or quantise the cache (type_k, type_v)",
            )
        self._memory = c.llama_get_memory(self._pointer)
        self._log = log
        self.n_vocab = model.vocabulary.size
        self.cells_per_sequence = int(c.llama_n_ctx_seq(self._pointer))
        self.n_outputs = shape.n_outputs
        self.batch = Batch(shape.n_batch)
        self._logits_address = 0
        self._logits_view: Logits = np.empty((0, 0), np.float32)

    def decode(self, n_rows: int) -> int:
        """Run the first `n_rows` rows of `batch`. 0 is success, 1 means the memory is full, negative is
        fatal.

        `n_rows` must be from 1 to the batch's capacity: llama.cpp asserts otherwise.
        """
        if not 1 <= n_rows <= self.batch.capacity:
            raise ValueError(f"{n_rows} rows do not fit a batch of {self.batch.capacity}")
        return int(c.llama_decode(self._pointer, self.batch.struct(n_rows)))

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


class GrammarState:
    """Where a sequence stands. `accept` of a refused token aborts the process: ask `allows` first.

    The library follows every reading of the text at once, and an ambiguous grammar doubles them with each
    token, until one call never ends. A call cannot be interrupted, so the first slow one raises EngineError.
    """

    def __init__(self, model: Model, grammar: str) -> None:
        vocabulary = c.llama_model_get_vocab(model.pointer)
        began = time.thread_time()
        self._pointer = c.llama_sampler_init_grammar(vocabulary, grammar.encode("utf-8"), b"root")
        if not self._pointer:
            raise ValueError("llama.cpp refused the grammar")
        # a long list of alternatives costs as much to begin as to parse, and it only shrinks from there
        self._slow = _SLOW_SECONDS + 10 * (time.thread_time() - began)
        self._one = np.zeros(1, _TOKEN_DATA)
        self._one_array = _token_array(self._one)
        self._one_reference = ctypes.byref(self._one_array)

    def allows(self, token: int) -> bool:
        """Whether `token` may come next (0.01 ms, against 32 ms for a whole large vocabulary)."""
        self._one[0] = (token, 0.0, 0.0)
        began = time.thread_time()
        c.llama_sampler_apply(self._pointer, self._one_reference)
        self._bound(began, 1)
        return bool(self._one[0][1] == 0.0)

    def allowed(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        """Whether each of `tokens` may come next."""
        data = np.zeros(len(tokens), _TOKEN_DATA)
        data["id"] = tokens
        array = _token_array(data)
        began = time.thread_time()
        c.llama_sampler_apply(self._pointer, ctypes.byref(array))
        self._bound(began, len(tokens))
        return np.asarray(data["logit"] == 0.0)

    def accept(self, token: int) -> None:
        """Move on by one token that `allows` has accepted."""
        began = time.thread_time()
        c.llama_sampler_accept(self._pointer, token)
        self._bound(began, 1)

    def _bound(self, began: float, tokens: int) -> None:
        # this thread's own time: a busy machine makes no grammar ambiguous
        if time.thread_time() - began > self._slow + tokens * _SLOW_SECONDS_PER_TOKEN:
            raise EngineError(
                GRAMMAR_INVALID,
                "the grammar or schema is too ambiguous: it can read this text in too many ways at once",
                field="output",
                remedy="let alternatives differ in their first characters, and recursive ones above all",
            )

    def close(self) -> None:
        """Free the C memory."""
        if self._pointer:
            c.llama_sampler_free(self._pointer)
            self._pointer = None

    def __del__(self) -> None:
        self.close()


def _token_array(data: npt.NDArray[Any]) -> Any:
    """The C struct over candidates that stay alive in `data`."""
    array: Any = c.llama_token_data_array()
    array.data = ctypes.cast(data.ctypes.data, ctypes.POINTER(c.llama_token_data))
    array.size = len(data)
    array.selected = -1
    array.sorted = False
    return array


def build_name() -> str:
    """The library's version, for provenance and for remembering what a smoke test has proved."""
    return (
        f"llama-cpp-python {llama_cpp.__version__} (llama.cpp {c.llama_version().decode('ascii', 'replace')})"
    )


def system_info() -> str:
    """The instruction sets and back ends the library was built with."""
    return str(c.llama_print_system_info().decode("ascii", "replace"))


def offloads_to_gpu() -> bool:
    """Whether this build can put layers on a GPU."""
    return bool(c.llama_supports_gpu_offload())
