"""Where the values of a JSON text are, finished or not. Pure: it reads bytes and judges nothing."""

from __future__ import annotations

import re
from typing import Final

_LEXEME: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?|[^\s{}\[\]:,"]+|[{}\[\]:,]', re.DOTALL)
_CLOSING: Final = frozenset((b"}", b"]"))
_STRUCTURE: Final = _CLOSING | {b"{", b"[", b":", b","}


def value_spans(data: bytes) -> list[tuple[int, int]]:
    """Byte ranges [start, end) of the strings, numbers and literals that are values, quotes included: a
    closing quote says where a value ends. Names, brackets, colons, commas and spaces are structure.
    """
    spans: list[tuple[int, int]] = []
    objects: list[bool] = []
    name_next = False
    for found in _LEXEME.finditer(data):
        text = found[0]
        if text not in _STRUCTURE:
            if not name_next:
                spans.append(found.span())
        elif text == b":":
            name_next = False
        elif text == b",":
            name_next = bool(objects) and objects[-1]
        elif text in _CLOSING:
            objects[-1:] = []
            name_next = False
        else:
            name_next = text == b"{"
            objects.append(name_next)
    return spans
