"""Slots and beginnings as operations on a context."""

from __future__ import annotations

import numpy as np

from workers.engine.memory import Memory

LONG = np.arange(100, dtype=np.int32)


class Calls:
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


def kept(*, unified: bool) -> tuple[Memory, Calls]:
    """Two slots; the first 30 tokens of slot 0 are kept under id 2."""
    cells = Calls()
    memory = Memory(cells, 2, n_cells=200, kept=1, kept_cells=100, forks=0, unified=unified)
    slot, _ = memory.take_slot(LONG)
    memory.computed(slot, 40)
    assert memory.keep(0, LONG[:30])
    return memory, cells


def test_a_unified_memory_shares_and_separate_ones_are_copied_whole_and_cut() -> None:
    for unified in (True, False):
        memory, cells = kept(unified=unified)
        cells.calls.clear()
        match = memory.match(LONG[:25])
        assert match is not None
        memory.reuse(match, memory.take_slot(LONG)[0])
        expected = [("copy", 2, 1, 24)] if unified else [("copy", 2, 1, -1), ("remove", 1, 24)]
        assert cells.calls == expected


def test_keeping_moves_cells_from_the_slot_to_the_beginning() -> None:
    memory, _ = kept(unified=True)
    assert (memory.cells_used, memory.kept_cells, memory.kept_branches) == (40, 30, 1)
    assert memory.shortage(160) == 0
    assert memory.shortage(161) == 1
    assert not memory.make_room(161)  # the beginning is in use
    memory.release_slot(0, LONG[:40])
    assert memory.make_room(161)
    assert memory.kept_cells == 30  # 30 + 161 fit
    assert memory.make_room(180)
    assert memory.kept_cells == 0


def test_separate_memories_never_run_out() -> None:
    memory, _ = kept(unified=False)
    assert memory.shortage(10_000) == 0


def test_slots_are_handed_out_lowest_first() -> None:
    memory = Memory(Calls(), 3, n_cells=9, kept=0, kept_cells=0, forks=0, unified=True)
    assert [memory.take_slot(LONG)[0] for _ in range(3)] == [0, 1, 2]
    memory.release_slot(2, LONG)
    memory.release_slot(0, LONG)
    assert memory.take_slot(LONG)[0] == 0


def test_a_free_slot_of_separate_memories_still_holds_what_the_next_one_may_begin_with() -> None:
    cells = Calls()
    memory = Memory(cells, 2, n_cells=200, kept=1, kept_cells=100, forks=0, unified=False)
    memory.release_slot(memory.take_slot(LONG)[0], LONG[:40])
    assert cells.calls == []
    assert memory.cells_used == 0
    assert memory.take_slot(LONG[:25]) == (0, 24)  # the last token is always computed
    assert cells.calls == [("remove", 0, 24)]
    assert memory.cells_used == 24
    memory.release_slot(0, LONG[:24])
    other = np.arange(500, 600, dtype=np.int32)
    assert memory.take_slot(other) == (0, 0)
    assert cells.calls[1:] == [("remove", 0, 0)]


def test_a_free_slot_of_a_unified_memory_holds_its_tokens_until_the_cells_are_needed() -> None:
    cells = Calls()
    memory = Memory(cells, 2, n_cells=200, kept=1, kept_cells=100, forks=0, unified=True)
    other = np.arange(500, 600, dtype=np.int32)
    for tokens in (LONG, other):
        memory.computed(memory.take_slot(tokens)[0], 40)
    memory.release_slot(0, LONG[:40])
    memory.release_slot(1, other[:40])
    assert (memory.cells_used, memory.kept_cells, memory.room()) == (80, 80, 200)
    assert memory.spared(other) == 40
    assert memory.take_slot(other) == (1, 40), "not the lowest, but the one that holds its beginning"
    assert (memory.cells_used, memory.kept_cells, memory.room()) == (80, 40, 160)
    assert memory.make_room(150)
    assert (memory.cells_used, memory.kept_cells) == (40, 0)
    assert memory.take_slot(LONG) == (0, 0)


def test_what_free_slots_hold_stays_within_what_may_be_kept() -> None:
    memory = Memory(Calls(), 3, n_cells=900, kept=1, kept_cells=100, forks=0, unified=True)
    for slot in range(3):
        memory.computed(memory.take_slot(LONG + 1000 * slot)[0], 45)
    for slot in range(3):
        memory.release_slot(slot, (LONG + 1000 * slot)[:45])
    assert memory.cells_used == memory.kept_cells == 90


def test_a_slot_that_shares_a_kept_beginning_leaves_nothing() -> None:
    memory, _ = kept(unified=True)
    memory.release_slot(0, LONG[:40])
    assert memory.cells_used == memory.kept_cells == 30


def test_forks_have_ids_of_their_own() -> None:
    for unified in (True, False):
        cells = Calls()
        memory = Memory(cells, 2, n_cells=200, kept=1, kept_cells=100, forks=2, unified=unified)
        memory.take_slot(LONG)
        memory.take_slot(LONG)
        assert (memory.fork(0, 10), memory.fork(1, 12), memory.free_forks) == (3, 4, 0)
        memory.drop_forks()
        assert (memory.free_forks, memory.free_slots) == (2, 0)
        assert cells.calls[-2:] == [("remove", 3, 0), ("remove", 4, 0)]


def test_what_a_slot_holds_behind_its_own_tokens_is_counted_until_it_is_rewound_or_left() -> None:
    memory, cells = kept(unified=True)
    memory.rewind(0, 47)  # seven tokens of labels
    assert cells.calls[-1] == ("remove", 0, 47)
    assert (memory.cells_used, memory.shortage(153), memory.shortage(154)) == (47, 0, 1)
    memory.rewind(0, 40)
    assert memory.cells_used == 40
    memory.rewind(0, 45)
    memory.release_slot(0, LONG[:40])
    assert memory.cells_used == 30
