"""llama.cpp's grammar sampler: which tokens may come next."""

from __future__ import annotations

import ctypes
import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

from workers.engine.errors import GRAMMAR_INVALID, EngineError
from workers.engine.llama.model import Model

Tokens = npt.NDArray[np.int32]

_TOKEN_DATA: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_SLOW_SECONDS: Final = 0.05
_SLOW_SECONDS_PER_TOKEN: Final = 5e-6


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
