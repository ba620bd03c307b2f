"""llama.cpp's own grammar sampler, to measure and to compare with."""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c


class LlamaGrammar:
    """One text under a grammar, over a vocabulary of `size` tokens behind a C pointer.

    Raises ValueError for a grammar that llama.cpp refuses. `accept` of a token that is not allowed aborts the
    process.
    """

    def __init__(self, vocabulary: Any, size: int, grammar: str) -> None:
        self._pointer = c.llama_sampler_init_grammar(vocabulary, grammar.encode(), b"root")
        if not self._pointer:
            raise ValueError("llama.cpp refused the grammar")
        self._rows = np.zeros(size, [("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._every = np.arange(size, dtype=np.int32)
        self._array: Any = c.llama_token_data_array()
        self._array.data = ctypes.cast(self._rows.ctypes.data, ctypes.POINTER(c.llama_token_data))
        self._array.selected, self._array.sorted = -1, False

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        self._rows[0] = (token, 0.0, 0.0)
        self._array.size = 1
        c.llama_sampler_apply(self._pointer, ctypes.byref(self._array))
        return bool(self._rows["logit"][0] == 0.0)

    def mask(self) -> npt.NDArray[np.bool_]:
        """Which tokens of the vocabulary may come next."""
        self._rows["id"] = self._every
        self._rows["logit"] = 0.0
        self._array.size = len(self._rows)
        c.llama_sampler_apply(self._pointer, ctypes.byref(self._array))
        return np.asarray(self._rows["logit"] == 0.0)

    def accept(self, token: int) -> None:
        """Move on by one allowed token."""
        c.llama_sampler_accept(self._pointer, token)

    def close(self) -> None:
        """Free the C memory."""
        c.llama_sampler_free(self._pointer)
