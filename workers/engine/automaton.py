"""A grammar as an automaton over characters, whose states are made when they are met.

A state holds every place where the grammar can stand after one text. Calls of one rule at the same character
share one activation, whoever called it, so a text that can be read in many ways costs no more than its
places, never its number of readings; the counts that a repetition can have reached are bits of one number.
Equal states are one object, and its transitions are remembered: all jobs of a grammar share them. Work is
bounded by counts alone, so that a grammar fails at the same character on every machine.

It knows characters, not tokens.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Final

from workers.engine.alphabet import NONE, Alphabet
from workers.engine.errors import GRAMMAR_INVALID, EngineError
from workers.engine.gbnf import Call, Characters, Ranges, Repeat, Rule
from workers.engine.grammar import find_nullable, leftmost_calls

_MOST_WORK: Final = 8192
_DEEPEST: Final = 4096
_MOST_WEIGHT: Final = 1 << 16
_FINISH: Final = -1
_END: Final = 0
_CHARACTERS: Final = 1
_CALL: Final = 2
_REPEAT: Final = 3


class Activation:
    """A rule at work: where its callers go on when it ends, as (place, counts reached, activation)."""

    __slots__ = ("depth", "returns", "rule")

    def __init__(self, rule: int, returns: frozenset[Return]) -> None:
        self.rule = rule
        self.returns = returns
        self.depth: int = 1 + max((caller.depth for _, _, caller in returns if caller is not None), default=0)


Return = tuple[int, int, "Activation | None"]
Place = tuple[int, Activation]


class State:
    """Where the grammar can stand after some text. `groups` are the places to go to, by set of characters.

    `steps` is the next state by class; `classes`, `parts` and `run` are memos of Automaton.classes, TokenWalk
    and forced_tokens.
    """

    __slots__ = ("classes", "groups", "may_end", "parts", "run", "steps")

    def __init__(self, groups: dict[int, list[Place]], *, may_end: bool) -> None:
        self.groups = groups
        self.may_end = may_end
        self.forget()

    def forget(self) -> None:
        """Drop what is remembered; it can be found out again."""
        self.steps: dict[int, State | None] = {}
        self.classes: frozenset[int] | None = None
        self.parts: dict[bytes, Any] = {}
        self.run: tuple[int, ...] | None = None


@dataclass(slots=True)
class _Closure:
    """A state in the making: calls still to expand by rule, with the counts of their returns."""

    places: set[Place]
    calls: dict[int, dict[tuple[int, Activation | None], int]]
    queue: list[tuple[int, int]]
    may_end: bool = False
    work: int = 0


class Automaton:
    """One grammar, already checked (check_grammar)."""

    def __init__(self, rules: dict[str, Rule]) -> None:
        self._compile(rules)
        self.size = len(self._kind)
        """The places of the rules, which stay as long as the grammar does."""
        self._activations: dict[tuple[int, frozenset[Return]], Activation] = {}
        self._states: dict[tuple[frozenset[Place], bool], State] = {}
        self.weight = 0
        """What is remembered, counted in places, activations and transitions of about 100 bytes each."""
        closure = _Closure(set(), {}, [])
        self._note(closure, self._root, {(_FINISH, None): 1})
        if self._nullable[self._root]:
            closure.may_end = True
        self.start = self._finish(closure)

    def step(self, state: State, number: int) -> State | None:
        """The state after a character of class `number`, None where none may follow.

        Raises EngineError (grammar_invalid) where the text can be read in too many ways.
        """
        if number in state.steps:
            return state.steps[number]
        if self.weight > _MOST_WEIGHT:
            self._forget()
        if number == NONE:
            return None
        groups = state.groups.keys() & self.alphabet.holders[number]
        kernel = [(at + 1, 1, active) for group in groups for at, active in state.groups[group]]
        found: State | None = None
        if kernel:
            closure = _Closure(set(), {}, [])
            self._expand(closure, kernel, fresh=False)
            found = self._finish(closure)
        state.steps[number] = found
        self.weight += 1
        return found

    def classes(self, state: State) -> frozenset[int]:
        """The classes of the characters that may come next."""
        if state.classes is None:
            members = self.alphabet.members
            state.classes = frozenset().union(*(members[group] for group in state.groups))
        return state.classes

    def _compile(self, rules: dict[str, Rule]) -> None:
        """Write the rules out as places 0 … n-1, each with what stands there."""
        names = {name: number for number, name in enumerate(rules)}
        nullable = find_nullable(rules)
        # a rule that derives only the empty text, as that for white space may, needs no visit
        empty = {name for name, rule in rules.items() if not any(rule.alternatives)}
        sets: dict[Ranges, int] = {}
        self._kind: list[int] = []
        self._argument: list[int] = []
        self._bounds: dict[int, tuple[int, int | None]] = {}
        self._starts: list[list[int]] = []
        for rule in rules.values():
            starts = []
            for alternative in rule.alternatives:
                starts.append(len(self._kind))
                for symbol in alternative:
                    if isinstance(symbol, Characters):
                        self._place(_CHARACTERS, sets.setdefault(symbol.ranges, len(sets)))
                    elif symbol.rule not in empty:
                        if isinstance(symbol, Repeat):
                            # a repetition of what may be empty reaches every count without text
                            least = 0 if symbol.rule in nullable else symbol.least
                            self._bounds[len(self._kind)] = (least, symbol.most)
                        self._place(_CALL if isinstance(symbol, Call) else _REPEAT, names[symbol.rule])
                self._place(_END, 0)
            self._starts.append(starts)
        self._nullable = [name in nullable for name in rules]
        self._root = names["root"]
        self._rank = _ranks(rules, nullable, names)
        self.alphabet = Alphabet(list(sets))
        self._most_work = _MOST_WORK + 4 * sum(len(rule.alternatives) for rule in rules.values())

    def _place(self, kind: int, argument: int) -> None:
        self._kind.append(kind)
        self._argument.append(argument)

    def _expand(self, closure: _Closure, todo: list[tuple[int, int, Activation]], *, fresh: bool) -> None:
        """Follow places to characters, ends and calls. The activation of `fresh` ones began here, so that
        their end is that of an empty text, with which their callers have gone on already.
        """
        seen: dict[Place, int] = {}
        while todo:
            at, counts, active = todo.pop()
            closure.work += 1
            if closure.work > self._most_work:
                raise _too_ambiguous()
            known = seen.get((at, active), 0)
            counts &= ~known
            if not counts:
                continue
            seen[at, active] = known | counts
            kind = self._kind[at]
            if kind == _CHARACTERS:
                closure.places.add((at, active))
            elif kind == _END:
                if not fresh:
                    self._leave(closure, active, todo)
            elif kind == _CALL:
                rule = self._argument[at]
                self._note(closure, rule, self._callers(at + 1, 1, active))
                if self._nullable[rule]:
                    todo.append((at + 1, 1, active))
            else:
                self._repeat(closure, at, counts, active, todo)

    def _leave(self, closure: _Closure, active: Activation, todo: list[tuple[int, int, Activation]]) -> None:
        for at, counts, caller in active.returns:
            if caller is None:
                closure.may_end = True
            else:
                todo.append((at, counts, caller))

    def _repeat(
        self,
        closure: _Closure,
        at: int,
        counts: int,
        active: Activation,
        todo: list[tuple[int, int, Activation]],
    ) -> None:
        """Bit `n` of `counts`: the repetition may have been read `n` times."""
        least, most = self._bounds[at]
        if counts >> least:
            todo.append((at + 1, 1, active))
        again = counts if most is None else counts & ((1 << most) - 1)
        if not again:
            return
        again <<= 1
        if most is None and again >> least:
            # without a maximum all counts from the minimum on are one, which can do whatever a lower one can
            again = 1 << least
        self._note(closure, self._argument[at], {(at, active): again})

    def _callers(self, at: int, counts: int, active: Activation) -> dict[tuple[int, Activation | None], int]:
        # a call at a rule's end returns to that rule's callers: right recursion does not grow deep
        if self._kind[at] == _END:
            return {(place, caller): reached for place, reached, caller in active.returns}
        return {(at, active): counts}

    def _note(self, closure: _Closure, rule: int, returns: dict[tuple[int, Activation | None], int]) -> None:
        closure.work += len(returns)
        if rule not in closure.calls:
            closure.calls[rule] = dict(returns)
            heapq.heappush(closure.queue, (self._rank[rule], rule))
            return
        known = closure.calls[rule]
        for key, counts in returns.items():
            known[key] = known.get(key, 0) | counts

    def _finish(self, closure: _Closure) -> State:
        """Expand the calls, callers before the called, so that each rule's returns are complete."""
        while closure.queue:
            _, rule = heapq.heappop(closure.queue)
            returns = frozenset(
                (at, counts, caller) for (at, caller), counts in closure.calls.pop(rule).items()
            )
            active = self._activation(rule, returns)
            self._expand(closure, [(start, 1, active) for start in self._starts[rule]], fresh=True)
        key = (frozenset(closure.places), closure.may_end)
        found = self._states.get(key)
        if found is None:
            groups: dict[int, list[Place]] = {}
            for place in closure.places:
                groups.setdefault(self._argument[place[0]], []).append(place)
            found = self._states[key] = State(groups, may_end=closure.may_end)
            self.weight += 4 + len(closure.places)
        return found

    def _activation(self, rule: int, returns: frozenset[Return]) -> Activation:
        found = self._activations.get((rule, returns))
        if found is None:
            found = self._activations[rule, returns] = Activation(rule, returns)
            self.weight += 4 + sum(1 + counts.bit_length() // 512 for _, counts, _ in returns)
            if found.depth > _DEEPEST:
                raise _too_deep()
        return found

    def _forget(self) -> None:
        """Too much is remembered. Those who stand in a state keep it, but find its successors out anew."""
        for state in self._states.values():
            state.forget()
        self.start.forget()
        self._states.clear()
        self._activations.clear()
        self.weight = 0


def _ranks(rules: dict[str, Rule], nullable: set[str], names: dict[str, int]) -> list[int]:
    """A number for each rule, smaller than those of the rules it can call before it has consumed text."""
    ranks = [-1] * len(rules)
    entered: set[str] = set()
    free = len(rules)
    for start in rules:
        stack = [(start, iter(leftmost_calls(rules[start], nullable)))] if start not in entered else []
        entered.add(start)
        while stack:
            name, below = stack[-1]
            child = next(below, None)
            if child is None:
                free -= 1
                ranks[names[name]] = free
                stack.pop()
            elif child not in entered:
                entered.add(child)
                stack.append((child, iter(leftmost_calls(rules[child], nullable))))
    return ranks


def _too_ambiguous() -> EngineError:
    return EngineError(
        GRAMMAR_INVALID,
        "the grammar or schema is too ambiguous: it can read this text in too many ways at once",
        field="output",
        remedy="let alternatives differ in their first characters, and recursive ones above all",
    )


def _too_deep() -> EngineError:
    return EngineError(
        GRAMMAR_INVALID,
        f"the grammar or schema is too deep: the text is inside more than {_DEEPEST} rules at once",
        field="output",
        remedy="bound how deep the text can be nested",
    )
