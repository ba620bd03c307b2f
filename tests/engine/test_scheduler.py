"""Who runs next, without a model or a clock."""

from __future__ import annotations

import pytest

from workers.engine.scheduler import Burst, Joining, WaitingLine, plan_step


def test_priority_first_then_first_come() -> None:
    line: WaitingLine[str] = WaitingLine()
    for name, priority in (("a", 5), ("b", 0), ("c", 5), ("d", 9), ("e", 0)):
        line.push(name, priority, name)
    assert [line.pop() for _ in range(len(line))] == ["b", "e", "a", "c", "d"]
    with pytest.raises(IndexError):
        line.pop()


def test_removal_by_name() -> None:
    line: WaitingLine[int] = WaitingLine()
    line.push("a", 5, 1)
    line.push("b", 5, 2)
    assert line.remove("a") == 1
    assert line.remove("a") is None
    assert list(line.items()) == [2]


def test_decoding_slots_always_run_and_the_prompt_gets_the_rest() -> None:
    plan = plan_step((0, 2), [], [Joining(1, 5, 1, 100)], budget=16, burst_rows=0)
    assert plan.decoding == (0, 2)
    assert plan.chunks == ((1, 14),)


def test_prompts_join_by_priority_then_age() -> None:
    joining = [Joining(0, 5, 1, 10), Joining(1, 0, 3, 10), Joining(2, 5, 2, 10)]
    plan = plan_step((), [], joining, budget=25, burst_rows=0)
    assert plan.chunks == ((1, 10), (0, 10), (2, 5))


def test_bursts_are_whole_or_wait() -> None:
    plan = plan_step((0,), [Burst(1, 5), Burst(2, 9), Burst(3, 3)], [], budget=4, burst_rows=8)
    assert plan.bursts == (1, 3)


def test_a_budget_below_the_decoding_slots_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="budget"):
        plan_step((0, 1, 2), [], [], budget=2, burst_rows=0)


def test_nothing_is_lost_and_the_budget_holds() -> None:
    left = {0: 37, 1: 4, 2: 90}
    steps = 0
    while any(left.values()):
        joining = [Joining(slot, 5, slot, rows) for slot, rows in left.items() if rows]
        plan = plan_step((7,), [], joining, budget=32, burst_rows=0)
        assert len(plan.decoding) + sum(rows for _, rows in plan.chunks) <= 32
        for slot, rows in plan.chunks:
            left[slot] -= rows
        steps += 1
    assert steps == -(-131 // 31)
