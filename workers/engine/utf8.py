"""Characters that are not complete yet: which code points some first bytes of one can still become.

A token may hold part of a character. It knows bytes, not tokens and not grammars.
"""

from __future__ import annotations

from typing import Final

_SMALLEST: Final = {2: 0x80, 3: 0x800, 4: 0x10000}
_SURROGATES: Final = (0xD800, 0xDFFF)
_LARGEST: Final = 0x10FFFF


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
