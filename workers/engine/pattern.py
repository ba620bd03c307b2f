"""A regular expression into GBNF, for strings inside JSON.

Only what has one meaning everywhere is taken: literals, classes, groups, alternatives, repetitions,
anchored at both ends. Everything else is refused by name. It knows regular expressions, not schemas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_CLASSES: Final = {
    "d": ((0x30, 0x39),),
    "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "s": ((0x20, 0x20),),
}
_LONGEST: Final = 4000
_PLAIN_ESCAPES: Final = "^$.|?*+()[]{}/\\-\"' ,:;#=@&%!<>~_"
_MOST: Final = 1000


def pattern_to_gbnf(pattern: str) -> str:
    """The expression for strings matching `pattern` wholly. Raises ValueError for what is not supported."""
    if len(pattern) > _LONGEST:
        raise ValueError(f"the pattern is longer than {_LONGEST} characters")
    if not pattern.startswith("^") or not pattern.endswith("$") or pattern.endswith(r"\$"):
        raise ValueError(f"the pattern {pattern!r} must be anchored with ^ and $")
    reader = _Reader(pattern[1:-1])
    text = reader.alternatives()
    if reader.rest:
        raise ValueError(f"the pattern has an unexpected {reader.rest[0]!r}")
    return f"({text})"


class _Reader:
    """Recursive descent over a pattern without its anchors."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    @property
    def rest(self) -> str:
        return self._text[self._at :]

    def alternatives(self, depth: int = 0) -> str:
        if depth > 32:
            raise ValueError("the pattern's groups are nested deeper than 32")
        parts = [self._sequence(depth)]
        while self._next("|"):
            parts.append(self._sequence(depth))
        return " | ".join(parts)

    def _sequence(self, depth: int) -> str:
        parts: list[str] = []
        while self.rest and self.rest[0] not in "|)":
            parts.append(self._atom(depth) + self._repetition())
        return " ".join(parts) or '""'

    def _atom(self, depth: int) -> str:
        character = self._take()
        if character == "(":
            if self.rest.startswith("?:"):
                self._at += 2
            elif self.rest.startswith("?"):
                raise ValueError("the pattern uses look-around or a named group")
            inside = self.alternatives(depth + 1)
            if not self._next(")"):
                raise ValueError("the pattern has an unclosed group")
            return f"({inside})"
        if character == "[":
            return self._character_class()
        if character == ".":
            return "dot"
        if character == "\\":
            escaped = self._take()
            return _class(_CLASSES[escaped]) if escaped in _CLASSES else _json_literal(_unescaped(escaped))
        if character in "^$*+?{":
            raise ValueError(f"the pattern has {character!r} where a character is expected")
        return _json_literal(character)

    def _repetition(self) -> str:
        if not self.rest or self.rest[0] not in "*+?{":
            return ""
        sign = self._take()
        if sign == "{":
            end = self.rest.find("}")
            bounds = self.rest[:end].split(",") if end >= 0 else [""]
            if (
                not bounds[0].isdecimal()
                or len(bounds) > 2
                or not all(part.isdecimal() or not part for part in bounds)
            ):
                raise ValueError("the pattern has a repetition that is none")
            if any(len(part) > 6 or int(part or 0) > _MOST for part in bounds):
                raise ValueError(f"the pattern repeats more than {_MOST} times")
            sign = "{" + ",".join(bounds) + "}"
            self._at += end + 1
        if self.rest.startswith(("?", "+")):
            raise ValueError("the pattern uses lazy or possessive repetition")
        return sign

    def _character_class(self) -> str:
        if self._next("^"):
            raise ValueError("the pattern uses a negated class")
        ranges: list[tuple[int, int]] = []
        while not self._next("]"):
            low = self._member()
            if not self.rest.startswith("-") or self.rest.startswith("-]"):
                ranges += low
                continue
            self._at += 1
            high = self._member()
            if len(low) > 1 or len(high) > 1 or low[0][0] != low[0][1] or high[0][0] != high[0][1]:
                raise ValueError("the pattern has a range between classes")
            if high[0][0] < low[0][0]:
                raise ValueError("the pattern has a range that ends before it begins")
            ranges.append((low[0][0], high[0][0]))
        if not ranges:
            raise ValueError("the pattern has an empty class")
        return _class(ranges)

    def _member(self) -> Sequence[tuple[int, int]]:
        character = self._take()
        if character == "\\":
            escaped = self._take()
            if escaped in _CLASSES:
                return _CLASSES[escaped]
            character = _unescaped(escaped)
        return ((ord(character), ord(character)),)

    def _next(self, character: str) -> bool:
        if self.rest.startswith(character):
            self._at += 1
            return True
        return False

    def _take(self) -> str:
        if not self.rest:
            raise ValueError("the pattern ends too early")
        self._at += 1
        return self._text[self._at - 1]


def _unescaped(character: str) -> str:
    if character not in _PLAIN_ESCAPES:
        raise ValueError(f"the pattern uses the escape \\{character}")
    return character


def _class(ranges: Sequence[tuple[int, int]]) -> str:
    """A GBNF expression for one character of the ranges of code points, written as JSON writes it."""
    plain: list[str] = []
    escaped: list[str] = []
    for low, high in ranges:
        if low < 0x20:
            raise ValueError(f"the pattern has {chr(low)!r} in a class, which JSON must escape")
        for start, end in ((low, min(high, 0x21)), (max(low, 0x23), min(high, 0x5B)), (max(low, 0x5D), high)):
            if start <= end:
                plain.append(_in_class(start) if start == end else f"{_in_class(start)}-{_in_class(end)}")
        escaped += [_json_literal(chr(code)) for code in (0x22, 0x5C) if low <= code <= high]
    parts = [f"[{''.join(plain)}]"] if plain else []
    parts += dict.fromkeys(escaped)
    return parts[0] if len(parts) == 1 else "(" + " | ".join(parts) + ")"


def _in_class(code: int) -> str:
    character = chr(code)
    return "\\" + character if character in "[]-" else f"\\x{code:02X}" if character == "^" else character


def _json_literal(character: str) -> str:
    """A GBNF literal of a character as JSON writes it inside a string."""
    if ord(character) < 0x20:
        raise ValueError(f"the pattern has the control character {character!r}")
    text = "\\" + character if character in '"\\' else character
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
