"""A better priority comes first, and a worse one is never stopped for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from workers.engine.plan import Joining, plan_step
from workers.engine.request import LOWEST_PRIORITY
from workers.engine.waiting_line import AGING, WaitingLine

INSTRUCTION = {"role": "system", "content": "You inspect boards and answer with a verdict only. " * 3}


def pop(line: WaitingLine[int]) -> int:
    name, item = line.choose()
    line.take(name)
    return item


def chat(text: str) -> list[dict[str, Any]]:
    return [INSTRUCTION, {"role": "user", "content": text}]


@pytest.mark.parametrize("priority", [1, 5, 9])
def test_a_steady_stream_of_the_best_slows_the_others_but_never_stops_them(priority: int) -> None:
    line: WaitingLine[int] = WaitingLine()
    for name in range(3):
        line.push(f"low {name}", priority, priority)
    line.push("first", 0, 0)
    turns = []
    for at in range(3 * AGING * priority + 3):
        line.push(str(at), 0, 0)
        turns.append(pop(line))
    assert [at for at, one in enumerate(turns) if one] == [AGING * priority * (n + 1) + n for n in range(3)]


def test_every_priority_gets_its_turn_among_all_others() -> None:
    line: WaitingLine[int] = WaitingLine()
    turns = []
    for at in range(2000):
        for priority in range(LOWEST_PRIORITY + 1):
            line.push(f"{priority} {at}", priority, priority)
        turns.append(pop(line))
    counts = [turns.count(priority) for priority in range(LOWEST_PRIORITY + 1)]
    assert min(counts) > 5
    assert counts == sorted(counts, reverse=True)


def test_a_backlog_of_a_worse_priority_does_not_overtake() -> None:
    line: WaitingLine[int] = WaitingLine()
    for at in range(500):
        line.push(str(at), 5, 5)
    for _ in range(400):
        pop(line)
    line.push("now", 0, 0)
    assert pop(line) == 0


def test_a_prompt_that_gets_no_row_rises() -> None:
    old, new = Joining(0, 9, 1, 10, passed=9 * AGING), Joining(1, 0, 2, 10)
    assert plan_step((), [], [old, new], budget=10, burst_rows=0).chunks == ((0, 10),)
    young = Joining(0, 9, 1, 10, passed=9 * AGING - 1)
    assert plan_step((), [], [young, new], budget=10, burst_rows=0).chunks == ((1, 10),)


def test_a_running_prompt_is_not_starved_by_a_stream_of_better_ones(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_slots=2, n_batch=16, prefix_cache=False)
    yard.submit("low", messages=chat("low"), priority=1, sampling={"max_tokens": 1})
    yard.step()
    for at in range(60):
        yard.submit(str(at), messages=chat(str(at)), priority=0, sampling={"max_tokens": 1})
    while "low" not in yard.done:
        yard.step()
    # its prompt comes in eleven chunks, each after AGING steps at most
    assert len(yard.done) <= 12


@pytest.mark.parametrize("unified", [True, False])
def test_a_better_priority_does_not_wait_for_a_worse_ones_prompt(
    make_yard: Callable[..., Any], unified: bool
) -> None:
    yard = make_yard(n_slots=2, n_batch=16, kv_unified=unified)
    yard.submit("low", messages=chat("low"), priority=9, sampling={"max_tokens": 1})
    yard.step(2)
    yard.submit("other", messages=chat("other"), priority=0, sampling={"max_tokens": 1})
    while "other" not in yard.done:
        yard.step()
    assert "low" not in yard.done
    assert yard.run()["low"]["text"]
    assert yard.done["other"]["usage"]["cached_tokens"] in (0, 32)
