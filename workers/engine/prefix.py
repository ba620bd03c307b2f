"""Shared beginnings of prompts: which one to reuse, and which one to keep.

The instruction of a task is the same in every job, so it is computed once a worker and given to each
sequence. This module only decides; the memory operations are the engine's. Pure: it knows token arrays and
sequence ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]

MIN_SHARED: Final = 8
"""Shorter beginnings cost more to look up and copy than to compute again."""


def common_length(a: Tokens, b: Tokens) -> int:
    """How many leading tokens two prompts share."""
    size = min(len(a), len(b))
    different = a[:size] != b[:size]
    at = int(different.argmax()) if size else 0
    return at if size and different[at] else size


@dataclass(slots=True)
class _Kept:
    tokens: Tokens
    used: int


@dataclass(frozen=True, slots=True)
class Match:
    """`length` leading tokens of a prompt are in memory under `sequence`."""

    sequence: int
    length: int


class PrefixShelf:
    """The beginnings kept in memory, one per sequence id given to it; the least recently used one makes
    room.
    """

    def __init__(self, sequences: tuple[int, ...], min_shared: int = MIN_SHARED) -> None:
        self._free = list(sequences)
        self._min_shared = min_shared
        self._kept: dict[int, _Kept] = {}
        self._uses = 0

    def match(self, prompt: Tokens) -> Match | None:
        """The longest kept beginning of `prompt`; its last token never counts, it must be computed for
        logits.
        """
        best: Match | None = None
        for sequence, kept in self._kept.items():
            length = min(common_length(kept.tokens, prompt), len(prompt) - 1)
            if length >= self._min_shared and (best is None or length > best.length):
                best = Match(sequence, length)
        if best is not None:
            self._uses += 1
            self._kept[best.sequence].used = self._uses
        return best

    def worth_keeping(self, length: int, matched: Match | None) -> bool:
        """Whether a beginning of `length` tokens, of which `matched` is kept already, earns a place."""
        known = 0 if matched is None else matched.length
        return length - known >= self._min_shared and bool(self._free or self._kept)

    def place(self, tokens: Tokens) -> int:
        """Note that `tokens` are kept from now on; returns the sequence id to copy them to, emptied first."""
        oldest = min(self._kept, key=lambda one: self._kept[one].used, default=-1)
        sequence = self._free.pop(0) if self._free else oldest
        self._uses += 1
        self._kept[sequence] = _Kept(tokens.copy(), self._uses)
        return sequence

    def match_exact(self, tokens: Tokens) -> Match | None:
        """The longest kept beginning of `tokens`, all of which may count."""
        lengths = ((sequence, common_length(kept.tokens, tokens)) for sequence, kept in self._kept.items())
        sequence, length = max(lengths, key=lambda one: one[1], default=(-1, 0))
        return Match(sequence, length) if length >= self._min_shared else None

    def clear(self) -> tuple[int, ...]:
        """Forget everything; returns the sequence ids that were in use."""
        dropped = tuple(self._kept)
        self._free.extend(dropped)
        self._kept.clear()
        return dropped


class RecentPrompts:
    """The last few prompts, to notice that jobs begin alike although none of them is running any more."""

    def __init__(self, size: int = 4) -> None:
        self._size = size
        self._prompts: list[Tokens] = []

    def shared_length(self, prompt: Tokens) -> int:
        """The longest beginning of `prompt` that a recent prompt had, its last token never counted."""
        lengths = [common_length(other, prompt) for other in self._prompts]
        return min(max(lengths, default=0), len(prompt) - 1)

    def add(self, prompt: Tokens) -> None:
        """Remember a prompt, forget the oldest."""
        self._prompts.append(prompt)
        del self._prompts[: -self._size]
