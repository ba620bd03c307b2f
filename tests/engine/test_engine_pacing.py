"""What a step may carry under a model's targets, on a clock that only decodes move: 1 ms, and 1 ms a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from workers.engine.engine import Engine
from workers.engine.step_time import ENOUGH

START = 1_000_000.0


class Timed:
    """The real context; each decode takes a known time on the test's clock, and its rows are noted."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.now = 0.0
        self.rows: list[int] = []

    def decode(self, n_rows: int) -> int:
        self.now += 0.001 * (1 + n_rows)
        self.rows.append(n_rows)
        return int(self._context.decode(n_rows))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


@pytest.fixture
def timed(make_yard: Callable[..., Any], load_tiny: Callable[..., Any]) -> Callable[..., tuple[Any, Timed]]:
    """A yard on such a clock, which has seen enough steps to predict."""

    def make(**settings: Any) -> tuple[Any, Timed]:
        yard, runtime = make_yard(), load_tiny(**({"n_slots": 8, "prefix_cache": False} | settings))
        context = Timed(runtime.context)
        yard.engine = Engine(
            replace(runtime, context=context), clock=lambda: context.now, wall=lambda: START + context.now
        )
        for slots in (1, 2, 4, 8):
            ask(yard, [f"warm{slots}-{at}" for at in range(slots)], max_tokens=ENOUGH // 3)
            yard.run()
        assert len(context.rows) > ENOUGH
        yard.done.clear()
        context.rows.clear()
        return yard, context

    return make


def ask(yard: Any, names: list[str], *, words: int = 1, priority: int = 6, **request: Any) -> None:
    max_tokens = request.pop("max_tokens", 20)
    for name in names:
        yard.submit(
            name,
            messages=[{"role": "user", "content": f"{name} " * words}],
            priority=priority,
            sampling={"max_tokens": max_tokens},
            **request,
        )


def test_batch_jobs_slow_interactive_ones_down_by_no_more_than_told_and_go_on(
    timed: Callable[..., Any],
) -> None:
    def seconds(**settings: Any) -> tuple[float, int]:
        yard, context = timed(**settings)
        ask(yard, [f"batch{at}" for at in range(6)], max_tokens=60)
        yard.step(3)
        ask(yard, ["now"], priority=0, max_tokens=40)
        began = context.now
        before = yard.engine.stats()["sequences"]
        while "now" not in yard.done:
            yard.step()
        taken = yard.engine.stats()["sequences"] - before - 40
        spent = context.now - began
        yard.run()
        assert len(yard.done) == 7
        assert not yard.failed
        return spent, taken

    free, served_free = seconds(step_control=False)
    held, served_held = seconds()
    alone = 40 * 0.002
    assert free > 3 * alone
    assert held < 1.5 * alone * 1.25  # its prompt took a step of many rows
    assert 10 < served_held < served_free  # the others got rows all the same


def test_a_prompt_comes_in_chunks_that_keep_the_steps_of_others_short(timed: Callable[..., Any]) -> None:
    yard, context = timed(target_step_ms=30.0)
    ask(yard, ["decodes"], max_tokens=60)
    yard.step(2)
    context.rows.clear()
    ask(yard, ["long"], words=40)
    yard.run()
    assert max(context.rows) <= 33  # 1 + rows ms, predicted
    assert max(context.rows) > 20
    alone, free = timed(target_step_ms=30.0)
    ask(alone, ["long"], words=40)
    alone.run()
    assert max(free.rows) > 100  # nobody waits for a token meanwhile


def test_what_cannot_meet_its_deadline_is_refused_early_and_says_by_how_much(
    timed: Callable[..., Any],
) -> None:
    yard, context = timed()
    now = START + context.now
    ask(yard, ["hopeless"], words=20, deadline=now + 0.05)
    ask(yard, ["possible"], words=20, deadline=now + 2.0)
    error = yard.failed["hopeless"]
    assert error["code"] == "deadline_unreachable"
    assert error["field"] == "deadline"
    assert "0.05 s left" in error["message"]
    assert not error["retryable"]
    assert set(yard.run()) == {"possible"}
    off, clock = timed(step_control=False)
    ask(off, ["tries"], words=20, deadline=START + clock.now + 0.05)
    off.run()
    assert off.failed["tries"]["code"] == "deadline_exceeded"


def test_one_that_waited_too_long_is_refused_when_its_turn_comes(timed: Callable[..., Any]) -> None:
    yard, context = timed(n_slots=1)
    ask(yard, ["first"], max_tokens=60)
    ask(yard, ["second"], words=24, deadline=START + context.now + 0.2)
    yard.run()
    assert yard.failed["second"]["code"] == "deadline_unreachable"
    assert "second" not in yard.started


def test_fewer_slots_are_used_while_the_p99_target_is_missed_and_the_pool_hears(
    timed: Callable[..., Any],
) -> None:
    yard, _ = timed(target_p99_ms=130.0, n_slots=8)
    ask(yard, [f"a{at}" for at in range(60)], max_tokens=20)
    yard.run()
    limits = [event["slots"] for event in yard.others if event["op"] == "capacity"]
    assert limits
    assert min(limits) < 8
    assert limits[-1] == yard.engine.stats()["limit"]
    # 20 steps of 1 + rows ms and the prompt: 5 at once are just within 130 ms
    assert 2 <= yard.engine.stats()["limit"] <= 6
    assert len(yard.done) == 60


def test_what_is_in_memory_counts_towards_a_deadline(timed: Callable[..., Any]) -> None:
    yard, context = timed(prefix_cache=True)

    def question(name: str, seconds: float | None) -> None:
        yard.submit(
            name,
            messages=[
                {"role": "system", "content": "instruction " * 16},
                {"role": "user", "content": name},
            ],
            sampling={"max_tokens": 2},
            deadline=None if seconds is None else START + context.now + seconds,
        )

    question("cold", 0.08)
    assert yard.failed["cold"]["code"] == "deadline_unreachable"
    for name in ("one", "two"):
        question(name, None)
        yard.run()
    question("spared", 0.08)
    assert "spared" in yard.run()
