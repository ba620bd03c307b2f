"""When the memory is full or a decode fails, one sequence pays and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from workers.engine.engine import Engine


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


class Stubborn:
    """The real context, which refuses some decodes as a full or broken one does."""

    def __init__(self, context: Any, answers: dict[int, int]) -> None:
        self._context = context
        self._answers = answers
        self._calls = 0
        self.rows: list[int] = []

    def decode(self, n_rows: int) -> int:
        self._calls += 1
        self.rows.append(n_rows)
        answer = self._answers.get(self._calls, 0)
        return answer or int(self._context.decode(n_rows))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def stubborn(yard: Any, runtime: Any, answers: dict[int, int]) -> Stubborn:
    context = Stubborn(runtime.context, answers)
    yard.engine = Engine(replace(runtime, context=context))
    return context


def test_a_full_memory_first_leaves_out_prompts(
    make_yard: Callable[..., Any], load_tiny: Callable[..., Any]
) -> None:
    yard, runtime = make_yard(), load_tiny()
    context = stubborn(yard, runtime, {3: 1})
    yard.submit("running", messages=user("hello"), sampling={"max_tokens": 6})
    yard.step(2)
    yard.submit("joining", messages=user("hello there"), sampling={"max_tokens": 6})
    done = yard.run()
    assert set(done) == {"running", "joining"}
    assert context.rows[2] > context.rows[3] == 1


def test_a_full_memory_sheds_the_last_of_the_lowest_priority(
    make_yard: Callable[..., Any], load_tiny: Callable[..., Any]
) -> None:
    yard, runtime = make_yard(), load_tiny(prefix_cache=False)
    stubborn(yard, runtime, {3: 1})
    for name, priority in (("a", 0), ("b", 5), ("c", 5)):
        yard.submit(name, messages=user("hello"), priority=priority, sampling={"max_tokens": 6})
    done = yard.run()
    assert set(done) == {"a", "b"}
    assert yard.failed["c"]["code"] == "decode_failed"
    assert yard.failed["c"]["retryable"]
    assert done["a"]["text"] == done["b"]["text"]


def test_a_broken_decode_fails_those_in_it_and_the_next_ones_run(
    make_yard: Callable[..., Any], load_tiny: Callable[..., Any]
) -> None:
    yard, runtime = make_yard(), load_tiny()
    stubborn(yard, runtime, {2: -3})
    yard.submit("a", messages=user("hello"))
    yard.submit("b", messages=user("hello"))
    yard.step(2)
    assert {name: error["code"] for name, error in yard.failed.items()} == {
        "a": "decode_failed",
        "b": "decode_failed",
    }
    yard.submit("c", messages=user("hello"), sampling={"max_tokens": 5})
    assert yard.run()["c"]["usage"]["completion_tokens"] == 5
