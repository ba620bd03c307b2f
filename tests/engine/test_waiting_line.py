"""Who goes next, without a model or a clock. How priorities age: test_engine_priority."""

from __future__ import annotations

import pytest

from workers.engine.waiting_line import AGING, WINDOW, WaitingLine


def pop(line: WaitingLine[str], warm: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    name, item = line.choose(lambda one: int(one in warm))
    line.take(name)
    return item


def line_of(*names: str, priority: int = 5) -> WaitingLine[str]:
    line: WaitingLine[str] = WaitingLine()
    for name in names:
        line.push(name, priority, name)
    return line


def test_priority_first_then_first_come() -> None:
    line: WaitingLine[str] = WaitingLine()
    for name, priority in (("a", 5), ("b", 0), ("c", 5), ("d", 9), ("e", 0)):
        line.push(name, priority, name)
    assert [pop(line) for _ in range(len(line))] == ["b", "e", "a", "c", "d"]
    assert line.best() is None
    with pytest.raises(IndexError):
        line.choose()


def test_choosing_takes_nobody() -> None:
    line = line_of("a", "b")
    assert line.choose() == line.choose() == ("a", "a")
    assert len(line) == 2


def test_removal_by_name() -> None:
    line = line_of("a", "b")
    assert line.remove("a") == "a"
    assert line.remove("a") is None
    assert list(line.items()) == ["b"]
    with pytest.raises(KeyError):
        line.take("a")


def test_one_that_comes_back_is_first_of_its_priority() -> None:
    line = line_of("a", "b")
    line.push_back("c", 5, "c")
    line.push("d", 0, "d")
    assert [pop(line) for _ in range(4)] == ["d", "c", "a", "b"]


def test_a_cold_head_lets_warm_ones_pass_but_not_for_ever() -> None:
    warm = {f"warm{at}" for at in range(3 * AGING)}
    line = line_of("cold", *sorted(warm))
    turns = [pop(line, warm) for _ in range(2 * AGING)]
    assert turns.index("cold") == AGING
    assert "cold" not in turns[AGING + 1 :]


def test_a_warm_head_is_taken_without_asking_anybody_else() -> None:
    line = line_of("a", "b", "c")
    asked: list[str] = []
    assert line.choose(lambda one: asked.append(one) or 1)[0] == "a"  # type: ignore[func-returns-value]
    assert asked == ["a"]


def test_only_the_first_few_are_compared() -> None:
    names = [f"n{at:03}" for at in range(WINDOW + 10)]
    assert line_of(*names).choose(lambda one: int(one == names[WINDOW]))[0] == names[0]
    assert line_of(*names).choose(lambda one: int(one == names[WINDOW - 1]))[0] == names[WINDOW - 1]


def test_warmth_never_beats_priority() -> None:
    line = line_of("warm")
    line.push("cold", 4, "cold")
    assert pop(line, {"warm"}) == "cold"
