"""When the memory is full or a decode fails, only those pay who must; all others get the same text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from workers.engine.engine import MOST_FAILURES, Engine

NAMES = ("a", "b", "c")
Refuses = Callable[[int, list[int]], int]


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


class Stubborn:
    """The real context, which refuses some decodes as a full or broken one does: `refuses` gets the number of
    the call and the sequence ids in it, and answers with a code.
    """

    def __init__(self, context: Any, refuses: Refuses) -> None:
        self._context = context
        self._refuses = refuses
        self.calls: list[list[int]] = []

    def decode(self, n_rows: int) -> int:
        ids = self._context.batch.sequence[:n_rows].tolist()
        self.calls.append(ids)
        answer = self._refuses(len(self.calls), ids)
        return answer or int(self._context.decode(n_rows))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


@pytest.fixture
def stubborn(
    make_yard: Callable[..., Any], load_tiny: Callable[..., Any]
) -> Callable[..., tuple[Any, Stubborn]]:
    """A yard whose context refuses some decodes."""

    def make(refuses: Refuses, **settings: Any) -> tuple[Any, Stubborn]:
        yard, runtime = make_yard(), load_tiny(**settings)
        context = Stubborn(runtime.context, refuses)
        yard.engine = Engine(replace(runtime, context=context))
        return yard, context

    return make


def on(call: int, code: int) -> Refuses:
    return lambda at, _: code if at == call else 0


def ask(yard: Any, *names: str, **request: Any) -> None:
    for name in names:
        yard.submit(name, messages=user(f"say {name}"), sampling={"max_tokens": 12}, **request)


@pytest.fixture
def expected(make_yard: Callable[..., Any]) -> dict[str, str]:
    """The texts of an engine with which nothing is wrong."""
    yard = make_yard()
    ask(yard, *NAMES, "late")
    return texts(yard.run())


def texts(done: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: one["text"] for name, one in done.items()}


def test_a_full_memory_first_leaves_out_prompts(
    stubborn: Callable[..., Any], expected: dict[str, str]
) -> None:
    yard, context = stubborn(on(3, 1), prefix_cache=False)
    ask(yard, "a")
    yard.step(2)
    ask(yard, "late")
    done = yard.run()
    assert texts(done) == {name: expected[name] for name in ("a", "late")}
    # the prompt comes in halves until it fits, and the one that decodes has its row all the time
    assert len(context.calls[2]) > len(context.calls[3]) > 1
    assert all(0 in ids for ids in context.calls[2:5])
    assert yard.engine.stats()["retreats"] == 0


def test_in_a_full_memory_the_youngest_of_the_worst_priority_gives_way_and_comes_back(
    stubborn: Callable[..., Any], expected: dict[str, str]
) -> None:
    yard, context = stubborn(on(3, 1), prefix_cache=False)
    ask(yard, "a", priority=0)
    ask(yard, "b", "c", priority=5)
    done = yard.run()
    assert texts(done) == {name: expected[name] for name in NAMES}
    assert not yard.failed
    assert yard.engine.stats()["retreats"] == 1
    assert set(context.calls[2]) == {0, 1, 2}
    assert set(context.calls[3]) == {0, 1}
    assert yard.started == ["a", "b", "c"]  # once each


def test_the_last_one_in_a_memory_that_stays_full_fails_retryably(stubborn: Callable[..., Any]) -> None:
    yard, _ = stubborn(lambda _, ids: 1)
    ask(yard, *NAMES)
    assert not yard.run()
    assert {error["code"] for error in yard.failed.values()} == {"decode_failed"}
    assert all(error["retryable"] for error in yard.failed.values())


def test_after_a_broken_decode_everybody_is_computed_again_and_nobody_fails(
    stubborn: Callable[..., Any], expected: dict[str, str]
) -> None:
    yard, context = stubborn(on(4, -3))
    ask(yard, *NAMES)
    done = yard.run()
    assert texts(done) == {name: expected[name] for name in NAMES}
    assert not yard.failed
    assert yard.engine.stats()["recovered"] == 1
    # those who were in it prove alone that it was not they
    assert [len(set(ids)) for ids in context.calls[4:7]] == [1, 1, 1]
    assert yard.started == ["a", "b", "c"]


def test_only_the_culprit_of_broken_decodes_fails(
    stubborn: Callable[..., Any], expected: dict[str, str]
) -> None:
    poison = "stop"

    def refuses(_: int, ids: list[int]) -> int:
        victim = yard.engine._known.get(poison)
        return -3 if victim is not None and victim.slot in ids else 0

    yard, _ = stubborn(refuses)
    ask(yard, "a", "b", poison)
    yard.step()
    ask(yard, "late")
    done = yard.run()
    assert texts(done) == {name: expected[name] for name in ("a", "b", "late")}
    assert yard.failed[poison]["code"] == "decode_failed"
    assert yard.failed[poison]["retryable"]
    assert yard.engine.stats()["cells_used"] == yard.engine.stats()["kept_cells"]


def test_those_who_only_fail_together_do_not_go_round_for_ever(stubborn: Callable[..., Any]) -> None:
    yard, context = stubborn(lambda _, ids: -3 if len(set(ids)) > 1 else 0, prefix_cache=False)
    ask(yard, *NAMES)
    yard.run(limit=500)
    assert len(yard.done) + len(yard.failed) == 3
    assert sum(len(set(ids)) > 1 for ids in context.calls) <= MOST_FAILURES


def test_a_memory_that_is_full_of_kept_beginnings_costs_no_job(stubborn: Callable[..., Any]) -> None:
    kept = [{"role": "system", "content": "You inspect boards. Answer with the verdict only. " * 2}]

    def refuses(_: int, __: list[int]) -> int:
        return int(armed and yard.engine.stats()["kept_cells"] > 0)

    armed = False
    yard, _ = stubborn(refuses, kv_unified=True)
    for name in ("a", "b", "c"):
        yard.submit(name, messages=[*kept, *user(name)], sampling={"max_tokens": 4})
        yard.run()
    assert yard.engine.stats()["kept_cells"] > 0
    armed = True
    ask(yard, "alone")
    assert "alone" in yard.run()
    assert not yard.failed
