"""Checks a GBNF grammar before llama.cpp parses it.

llama.cpp refuses most broken grammars but says why only on the terminal, and some make it loop or overflow
its stack: deep nesting, a repetition whose maximum is below its minimum, left recursion through rules that
may be empty. Here each gets an error with its line. It knows the notation, not what the text is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from workers.engine.errors import GRAMMAR_INVALID, EngineError

_MAX_BYTES: Final = 512 * 1024
_MAX_DEPTH: Final = 64
_MAX_REPEAT: Final = 2000
_MAX_REPEATED: Final = 20_000
_MAX_RULES: Final = 2000
_NAME: Final = re.compile(r"[a-zA-Z0-9-]+")
_SPACE: Final = re.compile(r"(?:[ \t]|#[^\r\n]*)+")
_SPACE_OR_LINES: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)+")
_NUMBER: Final = re.compile(r"[0-9]+")
_TOKEN: Final = re.compile(r"!?<[^>\r\n]+>")
_ESCAPE: Final = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[trn\\\"\[\]-])")

Alternative = list["str | None"]
"""One sequence of symbols: a rule's name, or None for something that consumes text."""


@dataclass(slots=True)
class _Rule:
    at: int
    alternatives: list[Alternative] = field(default_factory=list)


def check_grammar(text: str) -> None:
    """Raise EngineError (grammar_invalid) unless `text` is a grammar that llama.cpp can run from rule
    `root`.
    """
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise _wrong("it holds half a surrogate pair, which is no text") from error
    if size > _MAX_BYTES:
        raise _wrong(f"it is longer than {_MAX_BYTES} bytes")
    if "\0" in text:
        raise _wrong("it holds a NUL character")
    rules = _Parser(text).parse()
    if "root" not in rules:
        raise _wrong("it has no rule named root")
    if len(rules) > _MAX_RULES:
        raise _wrong(f"it has {len(rules)} rules and groups, more than {_MAX_RULES}")
    for name, rule in rules.items():
        for used in _references(rule):
            if used not in rules:
                where = _line_of(text, rule.at)
                raise _wrong(f"the rule {_shown(name)} uses {used!r}, which is not defined", where)
    culprit = _find_recursion(rules)
    if culprit is not None:
        why = f"the rule {_shown(culprit)} can repeat itself without consuming text (left recursion)"
        raise _wrong(why, _line_of(text, rules[culprit].at))


def _line_of(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _references(rule: _Rule) -> Iterator[str]:
    return (symbol for alternative in rule.alternatives for symbol in alternative if symbol is not None)


def _shown(name: str) -> str:
    """A synthesised rule is shown under the name of the rule it stands in."""
    return repr(name.split(" ")[0])


class _Parser:
    """Recursive descent over the notation; groups and repetitions become rules of their own."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._rules: dict[str, _Rule] = {}
        self._count = 0
        self._name = ""
        self._repeated = 0

    def parse(self) -> dict[str, _Rule]:
        self._skip(_SPACE_OR_LINES)
        while self._at < len(self._text):
            self._rule()
        return self._rules

    def _rule(self) -> None:
        start = self._at
        self._name = self._match(_NAME, "a rule's name")
        self._skip(_SPACE)
        if not self._text.startswith("::=", self._at):
            raise self._error("expected ::=")
        self._at += 3
        self._skip(_SPACE_OR_LINES)
        self._rules[self._name] = _Rule(start, self._alternatives(0))
        if self._at < len(self._text) and self._text[self._at] not in "\r\n":
            raise self._error(f"did not expect {self._text[self._at]!r}")
        self._skip(_SPACE_OR_LINES)

    def _alternatives(self, depth: int) -> list[Alternative]:
        if depth > _MAX_DEPTH:
            raise self._error(f"groups are nested deeper than {_MAX_DEPTH}")
        found = [self._sequence(depth)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(_SPACE_OR_LINES)
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> Alternative:
        symbols: Alternative = []
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

    def _symbol(self, here: str, symbols: Alternative, depth: int) -> bool:
        if here == '"':
            symbols.extend(self._literal())
        elif here == "[":
            self._characters()
            symbols.append(None)
        elif here == ".":
            self._at += 1
            symbols.append(None)
        elif here in "<!":
            self._match(_TOKEN, "a token such as <name>")
            symbols.append(None)
        elif here == "(":
            self._at += 1
            self._skip(_SPACE_OR_LINES)
            symbols.append(self._add(self._alternatives(depth + 1)))
            if not self._text.startswith(")", self._at):
                raise self._error("expected )")
            self._at += 1
        elif _NAME.match(here):
            symbols.append(self._match(_NAME, "a rule's name"))
        else:
            return False
        return True

    def _literal(self) -> Alternative:
        self._at += 1
        symbols: Alternative = []
        while not self._text.startswith('"', self._at):
            self._character()
            symbols.append(None)
        self._at += 1
        return symbols

    def _characters(self) -> None:
        self._at += 1
        if self._text.startswith("^", self._at):
            self._at += 1
        start = self._at
        while not self._text.startswith("]", self._at):
            low = self._character()
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                if self._character() < low:
                    raise self._error("a character range ends before it begins")
        if self._at == start:
            raise self._error("a character class is empty")
        self._at += 1

    def _character(self) -> int:
        if self._at >= len(self._text):
            raise self._error("the grammar ends inside a literal or a character class")
        if self._text[self._at] != "\\":
            self._at += 1
            return ord(self._text[self._at - 1])
        escape = self._match(_ESCAPE, "an escape that GBNF knows")
        code = int(escape[2:], 16) if escape[1] in "xuU" else ord(escape[1])
        if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
            raise self._error(f"the escape {escape} is no character")
        return code

    def _repeat(self, symbols: Alternative, last: int) -> None:
        if last == len(symbols):
            raise self._error("nothing stands before a repetition")
        repeated = symbols[last:]
        least, most = self._bounds()
        # llama.cpp writes every copy out, and does so again for each job
        self._repeated += max(least, most or 0) * len(repeated)
        if self._repeated > _MAX_REPEATED:
            raise self._error(f"its repetitions together make more than {_MAX_REPEATED} copies")
        rest: Alternative = []
        if most is None or most > least:
            name = self._fresh()
            # without a maximum the rule repeats itself, with one it is a chain of optional copies
            again = [*repeated, name] if most is None else repeated
            self._rules[name] = _Rule(self._at, [again, []])
            rest = [name]
        symbols[last:] = (repeated if least else []) + rest

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
        if len(digits) > len(str(_MAX_REPEAT)) or int(digits) > _MAX_REPEAT:
            raise self._error(f"a repetition count is above {_MAX_REPEAT}")
        return int(digits)

    def _add(self, alternatives: list[Alternative]) -> str:
        name = self._fresh()
        self._rules[name] = _Rule(self._at, alternatives)
        return name

    def _fresh(self) -> str:
        self._count += 1
        # a space cannot stand in a written name, so synthesised names never clash
        return f"{self._name} {self._count}"

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

    def _error(self, why: str) -> EngineError:
        return _wrong(why, _line_of(self._text, self._at))


def _find_nullable(rules: dict[str, _Rule]) -> set[str]:
    """The rules that may be empty; each symbol is looked at once, however the rules are ordered."""
    users: dict[str, list[int]] = {}
    owners: list[str] = []
    missing: list[int] = []
    todo: list[str] = []
    for name, rule in rules.items():
        for alternative in rule.alternatives:
            if None in alternative:
                continue
            for symbol in alternative:
                users.setdefault(str(symbol), []).append(len(owners))
            owners.append(name)
            missing.append(len(alternative))
            if not alternative:
                todo.append(name)
    nullable: set[str] = set()
    while todo:
        name = todo.pop()
        if name in nullable:
            continue
        nullable.add(name)
        for at in users.get(name, ()):
            missing[at] -= 1
            if not missing[at]:
                todo.append(owners[at])
    return nullable


def _find_recursion(rules: dict[str, _Rule]) -> str | None:
    """A rule that can call itself without having consumed any text: expanding it would never end."""
    nullable = _find_nullable(rules)
    leftmost = {name: _leftmost(rule, nullable) for name, rule in rules.items()}
    state: dict[str, int] = {}
    for start in rules:
        # depth first without recursion: a chain of ten thousand rules is legal
        stack = [(start, iter(leftmost[start]))] if state.get(start) is None else []
        state.setdefault(start, 1)
        while stack:
            name, below = stack[-1]
            child = next(below, None)
            if child is None:
                state[name] = 2
                stack.pop()
            elif state.get(child) == 1:
                return child
            elif child not in state:
                state[child] = 1
                stack.append((child, iter(leftmost[child])))
    return None


def _leftmost(rule: _Rule, nullable: set[str]) -> list[str]:
    found: list[str] = []
    for alternative in rule.alternatives:
        for symbol in alternative:
            if symbol is None:
                break
            found.append(symbol)
            if symbol not in nullable:
                break
    return found


def _wrong(why: str, line: int | None = None) -> EngineError:
    where = "" if line is None else f" in line {line}"
    return EngineError(
        GRAMMAR_INVALID,
        f"the grammar does not parse: {why}{where}",
        field="output.grammar",
        remedy="correct the GBNF text",
    )
