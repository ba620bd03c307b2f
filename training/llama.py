"""llama.cpp as the trainer needs it: quantise a file, tokenise, answer greedily, one sequence at a time.

Deliberately naive: it judges the models, and shares no code with the engine that serves them.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import llama_cpp
import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """Swallow the library's log: what matters is returned or raised."""


def quantise(source: Path, target: Path, threads: int = 1) -> None:
    """Quantise an F16 GGUF to Q4_K_M with llama.cpp's own quantiser; raises OSError when it fails."""
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    params.nthread = threads
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if status != 0:
        raise OSError(f"llama.cpp could not quantise {source} (status {status})")


class Runner:
    """A loaded GGUF with one context; use as a context manager."""

    def __init__(self, path: Path, *, context: int = 512, vocab_only: bool = False) -> None:
        """Load the file; raises OSError when llama.cpp refuses it."""
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = vocab_only
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise OSError(f"llama.cpp could not load {path}")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.size = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self._context = None if vocab_only else self._new_context(context)

    def _new_context(self, context: int) -> llama_cpp.llama_context_p:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = context
        params.n_threads = params.n_threads_batch = 1
        made = llama_cpp.llama_init_from_model(self._model, params)
        if not made:
            raise OSError("llama.cpp could not create a context")
        return made

    def __enter__(self) -> "Runner":
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free context and model."""
        if self._context is not None:
            llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def tokenise(self, text: str, *, markers: bool = False) -> tuple[int, ...]:
        """Tokenise; with `markers`, <|end|> and its like become special tokens."""
        data = text.encode()
        room = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), room, len(room), False, markers)
        if count < 0:
            raise OSError(f"llama.cpp could not tokenise {text!r}")
        return tuple(room[:count])

    def logits(self, ids: Sequence[int]) -> Logits:
        """Forget everything, run `ids`, return the logits (vocab,) that follow the last one."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        return self._step(ids)

    def greedy(self, prompt: Sequence[int], end: int, limit: int = 96) -> tuple[list[int], bool]:
        """Return the most likely continuation without the end mark, and whether it ended by itself."""
        chosen: list[int] = []
        token = int(self.logits(prompt).argmax())
        while token != end and len(chosen) < limit:
            chosen.append(token)
            token = int(self._step((token,)).argmax())
        return chosen, token == end

    def log_probability(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Return the natural-log probability of a continuation right after a prompt."""
        total, logits = 0.0, self.logits(prompt)
        for token in continuation:
            peak = float(logits.max())
            total += float(logits[token]) - peak - float(np.log(np.exp(logits - peak).sum()))
            logits = self._step((token,))
        return total

    def _step(self, ids: Sequence[int]) -> Logits:
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        status = llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(tokens, len(ids)))
        if status != 0:
            raise OSError(f"llama_decode returned {status}")
        return np.ctypeslib.as_array(
            llama_cpp.llama_get_logits_ith(self._context, -1), shape=(self.size,)
        ).copy()
