"""The rows of one step, without a model or a clock."""

from __future__ import annotations

import pytest

from workers.engine.plan import Burst, Joining, Plan, plan_step


def test_decoding_slots_always_run_and_the_prompt_gets_the_rest() -> None:
    plan = plan_step((0, 2), [], [Joining(1, 5, 1, 100)], budget=16, burst_rows=0)
    assert plan.decoding == (0, 2)
    assert plan.chunks == ((1, 14),)
    assert (plan.n_rows, plan.n_joining, plan.slots) == (16, 14, (0, 2, 1))


def test_prompts_join_by_priority_then_age() -> None:
    joining = [Joining(0, 5, 1, 10), Joining(1, 0, 3, 10), Joining(2, 5, 2, 10)]
    plan = plan_step((), [], joining, budget=25, burst_rows=0)
    assert plan.chunks == ((1, 10), (0, 10), (2, 5))


def test_bursts_are_whole_or_wait() -> None:
    plan = plan_step((0,), [Burst(1, 5), Burst(2, 9), Burst(3, 3)], [], budget=4, burst_rows=8)
    assert [burst.slot for burst in plan.bursts] == [1, 3]


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


def test_a_plan_is_shortened_from_its_end_and_decoding_rows_never_go() -> None:
    plan = Plan((0, 1), (Burst(2, 3),), ((3, 10), (4, 5)))
    assert plan.shortened(0) == plan
    assert plan.shortened(7) == Plan((0, 1), (Burst(2, 3),), ((3, 8),))
    assert plan.shortened(16) == Plan((0, 1), (), ())
    assert plan.shortened(18) == Plan((0, 1), (), ())
    assert plan.shortened(19) is None


def test_one_image_that_must_not_be_cut_runs_beside_the_rows_for_choices() -> None:
    images = [Burst(1, 300, of_image=True), Burst(2, 300, of_image=True)]
    plan = plan_step((0,), [*images, Burst(3, 5)], [], budget=8, burst_rows=5)
    assert plan.bursts == (images[0], Burst(3, 5))
    assert plan.advances == ((0, 1), (1, 300))
    shorter = plan.shortened(6)
    assert shorter is not None and shorter.bursts == ()
