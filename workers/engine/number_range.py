"""GBNF for numbers between bounds, digit by digit. It knows decimal notation, not JSON Schema's other
keywords.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

_MOST_DIGITS: Final = 16
_LARGEST: Final = 10 ** (_MOST_DIGITS - 1)
_FRACTION: Final = '"." [0-9]{1,16}'


def integer_range(bounds: Mapping[str, float]) -> str:
    """An expression for the whole numbers within `minimum`, `maximum` and their exclusive forms.

    Raises ValueError when no whole number lies between them, and for bounds of more than 16 digits.
    """
    _check_size(bounds)
    low = _highest(
        math.ceil(bounds["minimum"]) if "minimum" in bounds else None,
        math.floor(bounds["exclusiveMinimum"]) + 1 if "exclusiveMinimum" in bounds else None,
    )
    high = _lowest(
        math.floor(bounds["maximum"]) if "maximum" in bounds else None,
        math.ceil(bounds["exclusiveMaximum"]) - 1 if "exclusiveMaximum" in bounds else None,
    )
    return "(" + " | ".join(_signed(low, high)) + ")"


def number_range(bounds: Mapping[str, float]) -> str:
    """An expression for decimal numbers within whole-numbered bounds.

    Raises ValueError for bounds with a fraction, which digits alone cannot express briefly, and for empty
    ranges, and for bounds of more than 16 digits.
    """
    _check_size(bounds)
    for name, value in bounds.items():
        if value != int(value):
            raise ValueError(f"{name} {value} has a fraction, which cannot be enforced for numbers: round it")
    low = _highest(_whole(bounds, "minimum"), _whole(bounds, "exclusiveMinimum"))
    high = _lowest(_whole(bounds, "maximum"), _whole(bounds, "exclusiveMaximum"))
    if low is not None and high is not None and low > high:
        raise ValueError(f"no number lies between {low} and {high}")
    parts: list[str] = []
    # numbers strictly inside: a whole part and any fraction; away from zero the fraction adds to the distance
    if high is None or high > 0:
        start, end = max(0, low or 0) if low is not None else 0, None if high is None else high - 1
        if end is None or start <= end:
            parts += [f"({text}) ({_FRACTION})?" for text in _unsigned(start, end)]
    if low is None or low < 0:
        start, end = max(0, -high) if high is not None else 0, None if low is None else -low - 1
        if end is None or start <= end:
            parts += [f'"-" ({text}) ({_FRACTION})?' for text in _unsigned(start, end)]
    # the ends themselves
    parts += [_literal(end) for end in (low, high) if end is not None]
    excluded = [bounds[name] for name in ("exclusiveMinimum", "exclusiveMaximum") if name in bounds]
    if excluded:
        raise ValueError("exclusive bounds cannot be enforced for numbers: use minimum and maximum")
    return "(" + " | ".join(dict.fromkeys(parts)) + ")"


def _check_size(bounds: Mapping[str, float]) -> None:
    for name, value in bounds.items():
        if abs(value) > _LARGEST:
            raise ValueError(
                f"the bound {name} is too large: numbers have at most {_MOST_DIGITS} digits here"
            )


def _whole(bounds: Mapping[str, float], name: str) -> int | None:
    return int(bounds[name]) if name in bounds else None


def _highest(*values: int | None) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _lowest(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _literal(value: int) -> str:
    return f'"{value}"'


def _signed(low: int | None, high: int | None) -> list[str]:
    if low is not None and high is not None and low > high:
        raise ValueError(f"no whole number lies between {low} and {high}")
    parts: list[str] = []
    if low is None or low < 0:
        end = None if low is None else -low
        start = max(1, -high) if high is not None else 1
        if end is None or start <= end:
            parts += [f'"-" ({text})' for text in _unsigned(start, end)]
    if high is None or high >= 0:
        parts += _unsigned(max(0, low) if low is not None else 0, high)
    return parts


def _unsigned(low: int, high: int | None) -> list[str]:
    """Alternatives for the whole numbers from `low` (at least 0) to `high`, without leading zeros."""
    if high is None:
        digits = len(str(low))
        parts = _unsigned(low, 10**digits - 1)
        more = _MOST_DIGITS - digits - 1
        if more >= 0:
            parts.append(f"[1-9] [0-9]{{{digits},{_MOST_DIGITS - 1}}}")
        return parts
    parts = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        start = max(low, 10 ** (digits - 1) if digits > 1 else 0)
        end = min(high, 10**digits - 1)
        parts.append(_same_length(str(start), str(end)))
    return parts


def _same_length(low: str, high: str) -> str:
    """Numbers of one length between two of that length, digit by digit."""
    if not low:
        return '""'
    if set(low) == {"0"} and set(high) == {"9"}:
        return f"[0-9]{{{len(low)}}}"
    if low[0] == high[0]:
        rest = _same_length(low[1:], high[1:]) if len(low) > 1 else ""
        return f'"{low[0]}" {rest}'.rstrip()
    if len(low) == 1:
        return f"[{low}-{high}]"
    first, last = int(low[0]), int(high[0])
    size = len(low) - 1
    parts = []
    if set(low[1:]) != {"0"}:
        parts.append(f'"{first}" ({_same_length(low[1:], "9" * size)})')
        first += 1
    tail = []
    if set(high[1:]) != {"9"}:
        tail.append(f'"{last}" ({_same_length("0" * size, high[1:])})')
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}] [0-9]{{{size}}}")
    return "(" + " | ".join(parts + tail) + ")"
