"""Checks that the rules of a GBNF text make a grammar that can run: every rule is defined, and none calls
itself before any text is consumed. It knows rules, not what the text is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from workers.engine.gbnf import Call, Characters, Repeat, Rule, grammar_error, parse_gbnf

_MAX_RULES: Final = 2000


def check_grammar(text: str) -> dict[str, Rule]:
    """The rules of a grammar that can run from rule `root`. Raises EngineError (grammar_invalid)."""
    rules = parse_gbnf(text)
    if "root" not in rules:
        raise grammar_error("it has no rule named root")
    if len(rules) > _MAX_RULES:
        raise grammar_error(f"it has {len(rules)} rules and groups, more than {_MAX_RULES}")
    for name, rule in rules.items():
        for used in _references(rule):
            if used not in rules:
                raise grammar_error(f"the rule {_shown(name)} uses {used!r}, which is not defined", rule.line)
    culprit = _find_recursion(rules)
    if culprit is not None:
        why = f"the rule {_shown(culprit)} can repeat itself without consuming text (left recursion)"
        raise grammar_error(why, rules[culprit].line)
    return rules


def find_nullable(rules: dict[str, Rule]) -> set[str]:
    """The rules that may be empty; each symbol is looked at once, however the rules are ordered."""
    users: dict[str, list[int]] = {}
    owners: list[str] = []
    missing: list[int] = []
    todo: list[str] = []
    for name, rule in rules.items():
        for alternative in rule.alternatives:
            if any(isinstance(symbol, Characters) for symbol in alternative):
                continue
            needed = [
                symbol.rule
                for symbol in alternative
                if isinstance(symbol, Call) or (isinstance(symbol, Repeat) and symbol.least)
            ]
            for symbol in needed:
                users.setdefault(symbol, []).append(len(owners))
            owners.append(name)
            missing.append(len(needed))
            if not needed:
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


def leftmost_calls(rule: Rule, nullable: set[str]) -> list[str]:
    """The rules that may be called before the rule has consumed any text."""
    found: list[str] = []
    for alternative in rule.alternatives:
        for symbol in alternative:
            if isinstance(symbol, Characters):
                break
            found.append(symbol.rule)
            optional = isinstance(symbol, Repeat) and not symbol.least
            if not optional and symbol.rule not in nullable:
                break
    return found


def _references(rule: Rule) -> Iterator[str]:
    for alternative in rule.alternatives:
        for symbol in alternative:
            if not isinstance(symbol, Characters):
                yield symbol.rule


def _shown(name: str) -> str:
    """A made-up rule is shown under the name of the rule it stands in."""
    return repr(name.split(" ")[0])


def _find_recursion(rules: dict[str, Rule]) -> str | None:
    """A rule that can call itself without having consumed any text: expanding it would never end."""
    nullable = find_nullable(rules)
    for name, rule in rules.items():
        for symbol in (symbol for alternative in rule.alternatives for symbol in alternative):
            if isinstance(symbol, Repeat) and symbol.most is None and symbol.rule in nullable:
                return name
    leftmost = {name: leftmost_calls(rule, nullable) for name, rule in rules.items()}
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
