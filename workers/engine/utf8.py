"""Characters that are not complete yet: which code points some first bytes of one can still become.

A token may hold part of a character. It knows bytes, not tokens and not grammars.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_SMALLEST = {2: 0x80, 3: 0x800, 4: 0x10000}
_SURROGATES = (0xD800, 0xDFFF)
_LARGEST = 0x10FFFF


def split_text(data: bytes) -> tuple[str, bytes] | None:
    """`data` as text and the first bytes of a character at its end; None when it is no UTF-8."""
    try:
        return data.decode("utf-8"), b""
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return None
        return data[: error.start].decode("utf-8"), data[error.start :]


def completions(part: bytes) -> tuple[tuple[int, int], ...]:
    """The code points whose UTF-8 begins with `part`, one to three bytes that `split_text` left over.

    Ranges from … to, both included; at most two, around the surrogates.
    """
    lead = part[0]
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    value = lead & (0x7F >> size)
    for byte in part[1:]:
        value = value << 6 | byte & 0x3F
    missing = 6 * (size - len(part))
    low = max(value << missing, _SMALLEST[size])
    high = min((value + 1 << missing) - 1, _LARGEST)
    around = ((low, min(high, _SURROGATES[0] - 1)), (max(low, _SURROGATES[1] + 1), high))
    return ((low, high),) if size != 3 else tuple((start, end) for start, end in around if start <= end)


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
