"""Keeps constrained text valid UTF-8: which tokens may follow an unfinished character.

A grammar counts characters, but a byte that begins no character slips through it. So does a control token:
llama.cpp matches its name, of which the text then holds nothing. It knows bytes, not grammars.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def unfinished(data: bytes) -> bytes | None:
    """The incomplete character at the end of `data`, empty for none; None when `data` is no UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return data[error.start :] if error.reason == "unexpected end of data" else None
    return b""


class Utf8Table:
    """What each token of a vocabulary does to the text, found out once per model."""

    def __init__(self, pieces: list[bytes], end_tokens: frozenset[int]) -> None:
        ends = [unfinished(piece) for piece in pieces]
        self.pieces = pieces
        self.starts = np.array([end is not None for end in ends], bool)
        """Tokens that may come after a complete character: of those that write nothing, only the ends."""
        self.starts &= np.array([piece != b"" or at in end_tokens for at, piece in enumerate(pieces)], bool)
        # only tokens that do not begin at a character's start can finish one
        self.fragments = np.flatnonzero(~self.starts | np.array([end != b"" for end in ends], bool))


class Utf8Gate:
    """Follows one text. `allows` and `allowed` only look, `accept` moves on."""

    def __init__(self, table: Utf8Table) -> None:
        self._table = table
        self._open = b""

    def allows(self, token: int) -> bool:
        """Whether the text stays valid with this token next."""
        if not self._open:
            return bool(self._table.starts[token])
        return unfinished(self._open + self._table.pieces[token]) is not None and bool(
            self._table.pieces[token]
        )

    def allowed(self, tokens: npt.NDArray[np.int32]) -> Mask:
        """`allows` for many tokens."""
        if not self._open:
            return np.asarray(self._table.starts[tokens])
        passing = {token for token in self._table.fragments.tolist() if self.allows(token)}
        return np.fromiter((token in passing for token in tokens.tolist()), bool, len(tokens))

    def accept(self, token: int) -> None:
        """Move on by an allowed token. An end of text leaves nothing behind."""
        self._open = unfinished(self._open + self._table.pieces[token]) or b""
