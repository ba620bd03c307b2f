"""Which beginnings are in memory and which were only seen, against a memory that notes every position."""

from __future__ import annotations

import random

import numpy as np
import pytest

from workers.engine.memory import Memory
from workers.engine.prefix_tree import HALF_LIFE, MAX_SEEN, PrefixTree, common_length
from workers.engine.shape import MIN_SHARED

LONG = np.arange(100, dtype=np.int32)


def prompt(shared: int, size: int = 60, rest: int = 1000) -> np.ndarray:
    tokens = np.full(size, rest, np.int32)
    tokens[:shared] = LONG[:shared]
    return tokens


def test_common_length() -> None:
    assert common_length(LONG, prompt(30)) == 30
    assert common_length(LONG, LONG[:7]) == 7
    assert common_length(LONG[:0], LONG) == 0


def test_what_was_seen_is_no_match_but_tells_what_prompts_share() -> None:
    tree = PrefixTree((8, 9), 1000)
    assert tree.see(prompt(30)) == 0
    assert tree.see(prompt(40, rest=2000)) == 30
    assert tree.see(prompt(35, rest=3000)) == 35
    assert tree.match(LONG) is None
    assert tree.cells == 0


def test_the_longest_kept_beginning_matches_but_never_the_last_token() -> None:
    tree = PrefixTree((8, 9), 1000)
    kept = tree.grow(LONG[:50])
    assert kept is not None
    for tokens, length in ((prompt(40), 40), (LONG[:50], 49), (LONG, 50)):
        match = tree.match(tokens)
        assert match is not None
        assert (match.sequence, match.length) == (kept.sequence, length)
    assert tree.match(prompt(MIN_SHARED - 1)) is None


def test_a_branch_needs_an_id_of_its_own_and_a_continuation_does_not() -> None:
    tree = PrefixTree((8, 9), 1000)
    first = tree.grow(LONG[:30])
    longer = tree.grow(LONG[:50])
    assert first is not None
    assert longer is not None
    assert (first.sequence, first.source, first.known) == (longer.sequence, -1, 0)
    assert (longer.source, longer.known, longer.end) == (longer.sequence, 30, 50)
    branch = tree.grow(prompt(20))
    assert branch is not None
    assert branch.sequence != longer.sequence
    assert (branch.source, branch.known) == (longer.sequence, 20)
    assert tree.cells == 50 + 40
    assert tree.grow(prompt(25, rest=7)) is None  # no id is left


def test_only_a_real_gain_within_the_budget_is_kept() -> None:
    tree = PrefixTree((8, 9), 45)
    assert tree.grow(LONG[:50]) is None
    assert tree.grow(LONG[:40]) is not None
    assert tree.grow(LONG[: 40 + MIN_SHARED - 1]) is None
    assert tree.grow(prompt(20)) is None  # 40 more cells would be 80


def test_the_least_recently_used_leaf_goes_first_and_its_trunk_stays() -> None:
    tree = PrefixTree((8, 9, 10), 1000)
    for tokens in (prompt(30), prompt(30, rest=2000)):
        tree.see(tokens)
    tree.grow(LONG[:30])
    old, new = tree.grow(prompt(30)), tree.grow(prompt(30, rest=2000))
    assert old is not None
    assert new is not None
    first, second = tree.evict(), tree.evict()
    assert first is not None
    assert second is not None
    # the trunk is held by the other branch's id still, so the first id is wholly free
    assert (first.sequence, first.start, first.cells) == (old.sequence, 0, 30)
    # nobody else holds the trunk any more: the last id keeps it
    assert (second.sequence, second.start, second.cells) == (new.sequence, 30, 30)
    match = tree.match(prompt(30))
    assert match is not None
    assert (match.sequence, match.length) == (new.sequence, 30)
    last = tree.evict()
    assert last is not None
    assert (last.start, last.cells) == (0, 30)
    assert tree.evict() is None
    assert tree.cells == 0


def test_what_a_running_sequence_uses_is_not_evicted() -> None:
    tree = PrefixTree((8, 9), 1000)
    tree.grow(LONG[:50])
    match = tree.match(prompt(30))
    assert match is not None
    tree.pin(match.node)
    tree.grow(prompt(30))  # splits the node that is pinned
    assert tree.pinned_cells >= 30
    eviction = tree.evict()
    assert eviction is not None
    assert eviction.cells == 30
    assert tree.evict() is None
    tree.unpin(match.node)
    assert tree.pinned_cells == 0
    assert tree.evict() is not None


def test_a_beginning_that_spares_more_does_not_go_for_one_that_spares_less() -> None:
    tree = PrefixTree((8,), 1000)
    for rest in (1, 2, 3):
        tree.see(prompt(30, rest=rest))
    assert 75 < tree.worth(LONG[:30]) < 90  # three prompts, thirty cells
    assert tree.worth(LONG[:40]) == 0.0
    tree.grow(LONG[:30])
    assert tree.worth(LONG[:30]) == 0.0  # it is in memory
    assert tree.evict(worth_less_than=75.0) is None
    for at in range(4 * int(HALF_LIFE)):
        tree.see(np.full(20, 5000 + at, np.int32))
    assert tree.evict(worth_less_than=75.0 / 12) is not None


def test_a_new_instruction_takes_the_place_of_one_that_is_not_used_any_more() -> None:
    tree = PrefixTree((8,), 300)
    first, second = np.arange(1000, 1200, dtype=np.int32), np.arange(2000, 2200, dtype=np.int32)
    for instruction in (first, second):
        kept_after = 0
        for at in range(50):
            tokens = np.concatenate([LONG[:9], instruction, [at, at, at]]).astype(np.int32)
            tree.see(tokens)
            while not tree.fits(tokens[:209]) and tree.evict(tree.worth(tokens[:209])) is not None:
                pass
            if tree.grow(tokens[:209]) is not None:
                kept_after = at
        assert kept_after < 2 * HALF_LIFE
    match = tree.match(np.concatenate([LONG[:9], second, [7]]).astype(np.int32))
    assert match is not None
    assert match.length == 209


def test_what_was_seen_is_bounded() -> None:
    tree = PrefixTree((8,), 1000)
    random.seed(3)
    for at in range(400):
        tree.see(np.array([at, *(random.randrange(50) for _ in range(999))], np.int32))
    nodes = list(tree._nodes())
    assert sum(len(node.tokens) for node in nodes) == tree._seen <= MAX_SEEN


class Positions:
    """A unified memory that notes which cell each sequence has at each position; a cell without owner is
    free.
    """

    def __init__(self) -> None:
        self.held: dict[int, dict[int, tuple[int, int]]] = {}
        self._next = 0

    def write(self, sequence: int, start: int, tokens: np.ndarray) -> None:
        row = self.held.setdefault(sequence, {})
        for at, token in enumerate(tokens.tolist()):
            assert start + at not in row
            row[start + at] = (self._next, token)
            self._next += 1

    def remove(self, sequence: int, start: int = 0, end: int = -1) -> bool:
        row = self.held.get(sequence, {})
        for at in [at for at in row if at >= start and (end < 0 or at < end)]:
            del row[at]
        return True

    def copy(self, source: int, target: int, start: int = 0, end: int = -1) -> None:
        row = self.held.setdefault(target, {})
        for at, cell in self.held.get(source, {}).items():
            if at >= start and (end < 0 or at < end):
                assert at not in row or row[at] == cell
                row[at] = cell

    def clear(self) -> None:
        self.held.clear()

    @property
    def cells(self) -> int:
        return len({cell for row in self.held.values() for cell, _ in row.values()})

    def tokens(self, sequence: int) -> list[int]:
        row = self.held.get(sequence, {})
        assert sorted(row) == list(range(len(row)))
        return [row[at][1] for at in range(len(row))]


@pytest.mark.parametrize("seed", range(12))
def test_every_cell_is_accounted_for_whatever_comes_and_goes(seed: int) -> None:
    chance = random.Random(seed)
    cells = Positions()
    memory = Memory(cells, 4, n_cells=400, kept=5, kept_cells=150, forks=0, unified=True, min_shared=4)
    running: dict[int, np.ndarray] = {}
    done: dict[int, int] = {}
    trunks = [np.array([chance.randrange(3) for _ in range(40)], np.int32) for _ in range(3)]
    for _ in range(600):
        act = chance.random()
        if act < 0.4 and memory.free_slots:
            trunk = chance.choice(trunks)[: chance.randrange(5, 40)]
            tail = [chance.randrange(3) for _ in range(chance.randrange(1, 30))]
            tokens = np.concatenate([trunk, np.array(tail, np.int32)])
            match = memory.match(tokens)
            slot, left = memory.take_slot(tokens)
            assert left < len(tokens)
            running[slot], done[slot] = tokens, left
            memory.see(tokens)
            if match is not None and match.length > left:
                assert match.length < len(tokens)
                memory.empty(slot)
                memory.reuse(match, slot)
                done[slot] = match.length
        elif running:
            slot = chance.choice(list(running))
            tokens, at = running[slot], done[slot]
            if act < 0.7 and at < len(tokens):
                rows = chance.randrange(1, len(tokens) - at + 1)
                if memory.make_room(rows):
                    cells.write(slot, at, tokens[at : at + rows])
                    memory.computed(slot, rows)
                    done[slot] = at + rows
            elif act < 0.85 and at:
                memory.keep(slot, tokens[: chance.randrange(1, at + 1)])
            else:
                memory.release_slot(slot, tokens[:at])
                del running[slot], done[slot]
        assert cells.cells == memory.cells_used <= 400
        assert memory.kept_cells <= 2 * 150  # of beginnings, and of what free slots still hold
        for slot, tokens in running.items():
            assert cells.tokens(slot) == tokens[: done[slot]].tolist()
    for slot, tokens in running.items():
        memory.release_slot(slot, tokens[: done[slot]])
    assert memory.drop_kept() or memory.cells_used == 0
    assert cells.cells == memory.cells_used == memory.kept_branches == 0
    assert memory.free_slots == 4
