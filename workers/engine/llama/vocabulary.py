"""Tokens and text of one model. It knows no prompt and no template."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

Tokens = npt.NDArray[np.int32]


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

    def tokenise(self, text: str, *, special: bool = False, framed: bool = False) -> Tokens:
        """Token ids of `text`; control tokens are read only where `special`, and put around it as the file
        asks for them only where `framed`.
        """
        data = text.encode("utf-8")
        room = len(data) + 8
        while True:
            out = np.empty(room, dtype=np.int32)
            pointer = out.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
            count = int(c.llama_tokenize(self._pointer, data, len(data), pointer, room, framed, special))
            if count >= 0:
                return out[:count].copy()
            room = -count
