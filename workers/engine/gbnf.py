"""Reads GBNF, llama.cpp's grammar notation, into rules over sets of characters.

Groups and repetitions become rules of their own; a repetition keeps its bounds, no copies are written out.
It knows the notation, not whether the rules make a grammar that can run (grammar.py) or how (automaton.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from workers.engine.errors import GRAMMAR_INVALID, EngineError

Ranges = tuple[tuple[int, int], ...]
"""Code points from … to, both included: sorted, disjoint."""

LARGEST: Final = 0x10FFFF
_MAX_BYTES: Final = 512 * 1024
_MAX_DEPTH: Final = 64
MAX_REPEAT: Final = 65_536
"""The largest count of a repetition."""
_NAME: Final = re.compile(r"[a-zA-Z0-9-]+")
_SPACE: Final = re.compile(r"(?:[ \t]|#[^\r\n]*)+")
_SPACE_OR_LINES: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)+")
_NUMBER: Final = re.compile(r"[0-9]+")
_ESCAPE: Final = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[trn\\\"\[\]-])")
_CONTROL: Final = {"t": 0x09, "r": 0x0D, "n": 0x0A}


@dataclass(frozen=True, slots=True)
class Characters:
    """One character out of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Call:
    """A rule's text."""

    rule: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """A rule's text from `least` to `most` times in a row; None is without end."""

    rule: str
    least: int
    most: int | None


Symbol = Characters | Call | Repeat


@dataclass(slots=True)
class Rule:
    """Alternatives, each a sequence of symbols. `line` is where it stands in the text, from 1."""

    line: int
    alternatives: list[list[Symbol]] = field(default_factory=list)


def parse_gbnf(text: str) -> dict[str, Rule]:
    """The rules by name; made-up names hold a space. Raises EngineError (grammar_invalid) with the line."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise grammar_error("it holds half a surrogate pair, which is no text") from error
    if size > _MAX_BYTES:
        raise grammar_error(f"it is longer than {_MAX_BYTES} bytes")
    if "\0" in text:
        raise grammar_error("it holds a NUL character")
    return _Parser(text).parse()


def grammar_error(why: str, line: int | None = None, *, remedy: str = "correct the GBNF text") -> EngineError:
    """The error for a grammar that cannot be used."""
    where = "" if line is None else f" in line {line}"
    return EngineError(
        GRAMMAR_INVALID, f"the grammar does not parse: {why}{where}", field="output.grammar", remedy=remedy
    )


class _Parser:
    """Recursive descent over the notation."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._rules: dict[str, Rule] = {}
        self._count = 0
        self._name = ""
        self._counted = (0, 1)

    def parse(self) -> dict[str, Rule]:
        self._skip(_SPACE_OR_LINES)
        while self._at < len(self._text):
            self._rule()
        return self._rules

    def _rule(self) -> None:
        line = self._line()
        self._name = self._match(_NAME, "a rule's name")
        self._skip(_SPACE)
        if not self._text.startswith("::=", self._at):
            raise self._error("expected ::=")
        self._at += 3
        self._skip(_SPACE_OR_LINES)
        self._rules[self._name] = Rule(line, self._alternatives(0))
        if self._at < len(self._text) and self._text[self._at] not in "\r\n":
            raise self._error(f"did not expect {self._text[self._at]!r}")
        self._skip(_SPACE_OR_LINES)

    def _alternatives(self, depth: int) -> list[list[Symbol]]:
        if depth > _MAX_DEPTH:
            raise self._error(f"groups are nested deeper than {_MAX_DEPTH}")
        found = [self._sequence(depth)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(_SPACE_OR_LINES)
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> list[Symbol]:
        symbols: list[Symbol] = []
        last = 0
        while self._at < len(self._text):
            here = self._text[self._at]
            if here in "*+?{":
                self._repeat(symbols, last)
            else:
                last_before = len(symbols)
                if not self._symbol(here, symbols, depth):
                    break
                last = last_before
            self._skip(_SPACE_OR_LINES if depth else _SPACE)
        return symbols

    def _symbol(self, here: str, symbols: list[Symbol], depth: int) -> bool:
        if here == '"':
            symbols.extend(self._literal())
        elif here == "[":
            symbols.append(self._characters())
        elif here == ".":
            self._at += 1
            symbols.append(Characters(((0, LARGEST),)))
        elif here in "<!":
            raise grammar_error(
                "tokens such as <name> are not supported, a grammar describes characters",
                self._line(),
                remedy="write the token's text as a literal",
            )
        elif here == "(":
            self._at += 1
            self._skip(_SPACE_OR_LINES)
            symbols.append(Call(self._add(self._alternatives(depth + 1))))
            if not self._text.startswith(")", self._at):
                raise self._error("expected )")
            self._at += 1
        elif _NAME.match(here):
            symbols.append(Call(self._match(_NAME, "a rule's name")))
        else:
            return False
        return True

    def _literal(self) -> list[Symbol]:
        self._at += 1
        symbols: list[Symbol] = []
        while not self._text.startswith('"', self._at):
            code = self._character()
            symbols.append(Characters(((code, code),)))
        self._at += 1
        return symbols

    def _characters(self) -> Characters:
        self._at += 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        ranges: list[tuple[int, int]] = []
        while not self._text.startswith("]", self._at):
            low = high = self._character()
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                high = self._character()
                if high < low:
                    raise self._error("a character range ends before it begins")
            ranges.append((low, high))
        if not ranges:
            raise self._error("a character class is empty")
        self._at += 1
        united = _united(ranges)
        return Characters(_complement(united) if negated else united)

    def _character(self) -> int:
        if self._at >= len(self._text):
            raise self._error("the grammar ends inside a literal or a character class")
        if self._text[self._at] != "\\":
            self._at += 1
            return ord(self._text[self._at - 1])
        escape = self._match(_ESCAPE, "an escape that GBNF knows")
        kind = escape[1]
        code = int(escape[2:], 16) if kind in "xuU" else _CONTROL.get(kind, ord(kind))
        if 0xD800 <= code <= 0xDFFF or code > LARGEST:
            raise self._error(f"the escape {escape} is no character")
        return code

    def _repeat(self, symbols: list[Symbol], last: int) -> None:
        if last == len(symbols):
            raise self._error("nothing stands before a repetition")
        repeated = symbols[last:]
        least, most = self._bounds()
        del symbols[last:]
        if most == 0:
            return
        if len(repeated) == 1 and isinstance(repeated[0], Call):
            symbols.append(Repeat(repeated[0].rule, least, most))
        else:
            symbols.append(Repeat(self._add([repeated]), least, most))

    def _bounds(self) -> tuple[int, int | None]:
        sign = self._text[self._at]
        self._at += 1
        if sign != "{":
            return (1 if sign == "+" else 0), (1 if sign == "?" else None)
        self._skip(_SPACE_OR_LINES)
        least = self._number()
        most: int | None = least
        self._skip(_SPACE_OR_LINES)
        if self._text.startswith(",", self._at):
            self._at += 1
            self._skip(_SPACE_OR_LINES)
            most = self._number() if not self._text.startswith("}", self._at) else None
            self._skip(_SPACE_OR_LINES)
        if not self._text.startswith("}", self._at):
            raise self._error("expected }")
        self._at += 1
        if most is not None and most < least:
            raise self._error(f"a repetition has the maximum {most} below its minimum {least}")
        return least, most

    def _number(self) -> int:
        digits = self._match(_NUMBER, "a number").lstrip("0") or "0"
        # Python itself refuses to read numbers of thousands of digits
        if len(digits) > len(str(MAX_REPEAT)) or int(digits) > MAX_REPEAT:
            raise self._error(f"a repetition count is above {MAX_REPEAT}")
        return int(digits)

    def _add(self, alternatives: list[list[Symbol]]) -> str:
        self._count += 1
        # a space cannot stand in a written name, so made-up names never clash
        name = f"{self._name} {self._count}"
        self._rules[name] = Rule(self._line(), alternatives)
        return name

    def _match(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._error(f"expected {what}")
        self._at = found.end()
        return found.group()

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _line(self) -> int:
        at, line = self._counted
        # the reader only moves forward, so no text is counted twice
        self._counted = (self._at, line + self._text.count("\n", at, self._at))
        return self._counted[1]

    def _error(self, why: str) -> EngineError:
        return grammar_error(why, self._line())


def _united(ranges: list[tuple[int, int]]) -> Ranges:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


def _complement(ranges: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    start = 0
    for low, high in ranges:
        if start < low:
            found.append((start, low - 1))
        start = high + 1
    if start <= LARGEST:
        found.append((start, LARGEST))
    return tuple(found)
