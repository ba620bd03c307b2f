"""Which beginning of a prompt is reused, and which is kept."""

from __future__ import annotations

import numpy as np

from workers.engine.memory import Memory
from workers.engine.prefix import MIN_SHARED, PrefixShelf, RecentPrompts, common_length

LONG = np.arange(100, dtype=np.int32)


def prompt(shared: int, size: int = 60) -> np.ndarray:
    tokens = np.full(size, 1000, np.int32)
    tokens[:shared] = LONG[:shared]
    return tokens


def test_common_length() -> None:
    assert common_length(LONG, prompt(30)) == 30
    assert common_length(LONG, LONG[:7]) == 7
    assert common_length(LONG[:0], LONG) == 0


def test_the_longest_kept_beginning_matches() -> None:
    shelf = PrefixShelf((8, 9))
    shelf.place(LONG[:20])
    shelf.place(LONG[:50])
    match = shelf.match(prompt(40))
    assert match is not None
    assert (match.sequence, match.length) == (9, 40)


def test_the_last_token_is_always_computed() -> None:
    shelf = PrefixShelf((8,))
    shelf.place(LONG[:50])
    match = shelf.match(LONG[:50])
    assert match is not None
    assert match.length == 49


def test_short_matches_do_not_count() -> None:
    shelf = PrefixShelf((8,))
    shelf.place(LONG[:50])
    assert shelf.match(prompt(MIN_SHARED - 1)) is None


def test_the_least_recently_used_beginning_makes_room() -> None:
    shelf = PrefixShelf((8, 9))
    first, second = shelf.place(LONG[:30]), shelf.place(LONG[50:80])
    assert shelf.match(prompt(30)) is not None
    assert shelf.place(LONG[20:60]) == second
    assert first != second


def test_only_a_real_gain_earns_a_place() -> None:
    shelf = PrefixShelf((8,))
    shelf.place(LONG[:40])
    match = shelf.match(prompt(40))
    assert not shelf.worth_keeping(44, match)
    assert shelf.worth_keeping(40 + MIN_SHARED, match)


def test_recent_prompts_are_few() -> None:
    recent = RecentPrompts(size=2)
    recent.add(prompt(50))
    assert recent.shared_length(LONG[:60]) == 50
    recent.add(prompt(10))
    recent.add(prompt(5))
    assert recent.shared_length(LONG[:60]) == 10


class Cells:
    """Notes the memory operations."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def remove(self, sequence: int, start: int = 0, end: int = -1) -> bool:
        self.calls.append(("remove", sequence, start))
        return True

    def copy(self, source: int, target: int, start: int = 0, end: int = -1) -> None:
        self.calls.append(("copy", source, target, end))

    def clear(self) -> None:
        self.calls.append(("clear",))


def test_unified_memory_shares_and_separate_memory_copies_whole() -> None:
    unified, separate = Cells(), Cells()
    Memory(unified, 2, kept=1, forks=0, unified=True).reuse(0, 1, 20)
    Memory(separate, 2, kept=1, forks=0, unified=False).reuse(0, 1, 20)
    assert unified.calls == [("copy", 0, 1, 20)]
    assert separate.calls == [("copy", 0, 1, -1), ("remove", 1, 20)]


def test_slots_are_handed_out_lowest_first() -> None:
    memory = Memory(Cells(), 3, kept=0, forks=0, unified=True)
    assert [memory.take_slot() for _ in range(3)] == [0, 1, 2]
    memory.release_slot(2)
    memory.release_slot(0)
    assert memory.take_slot() == 0
