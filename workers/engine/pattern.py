"""A regular expression into GBNF, for strings inside JSON.

Only what has one meaning everywhere is taken: literals, classes, groups, alternatives, repetitions,
anchored at both ends. Everything else is refused by name. It knows regular expressions, not schemas.
"""

from __future__ import annotations

from typing import Final

_CLASSES: Final = {"d": "0-9", "w": "0-9A-Za-z_", "s": r" "}
_PLAIN_ESCAPES: Final = "^$.|?*+()[]{}/\\-\"' ,:;#=@&%!<>~_"
_MOST: Final = 1000


def pattern_to_gbnf(pattern: str) -> str:
    """The expression for strings matching `pattern` wholly. Raises ValueError for what is not supported."""
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
            return "char"
        if character == "\\":
            escaped = self._take()
            return f"[{_CLASSES[escaped]}]" if escaped in _CLASSES else _json_literal(_unescaped(escaped))
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
                not bounds[0].isdigit()
                or len(bounds) > 2
                or not all(part.isdigit() or not part for part in bounds)
            ):
                raise ValueError("the pattern has a repetition that is none")
            if any(part and int(part) > _MOST for part in bounds):
                raise ValueError(f"the pattern repeats more than {_MOST} times")
            sign = "{" + ",".join(bounds) + "}"
            self._at += end + 1
        if self.rest.startswith(("?", "+")):
            raise ValueError("the pattern uses lazy or possessive repetition")
        return sign

    def _character_class(self) -> str:
        if self._next("^"):
            raise ValueError("the pattern uses a negated class")
        out = ""
        while not self._next("]"):
            character = self._take()
            plain = character != "\\"
            if not plain:
                escaped = self._take()
                if escaped in _CLASSES:
                    out += _CLASSES[escaped]
                    continue
                character = _unescaped(escaped)
            if plain and character == "-" and out and not self.rest.startswith("]"):
                out += "-"
                continue
            if character in '"\\' or ord(character) < 0x20:
                raise ValueError(f"the pattern has {character!r} in a class, which JSON must escape")
            out += _in_class(character)
        if not out:
            raise ValueError("the pattern has an empty class")
        return f"[{out}]"

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


def _in_class(character: str) -> str:
    return "\\" + character if character in "[]-" else character


def _json_literal(character: str) -> str:
    """A GBNF literal of a character as JSON writes it inside a string."""
    if ord(character) < 0x20:
        raise ValueError(f"the pattern has the control character {character!r}")
    text = "\\" + character if character in '"\\' else character
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
