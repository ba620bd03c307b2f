"""Deadlines come up in their order, once, and those who are done do not."""

from __future__ import annotations

from workers.engine.deadlines import Deadlines


def test_each_is_named_once_when_its_time_has_come() -> None:
    deadlines = Deadlines()
    for name, at in (("c", 30.0), ("a", 10.0), ("b", 20.0), ("never", None)):
        deadlines.note(name, at)
    assert deadlines.passed(9.9) == []
    assert deadlines.passed(20.0) == ["a", "b"]
    assert deadlines.passed(25.0) == []
    assert deadlines.passed(99.0) == ["c"]


def test_one_that_is_done_is_not_named_and_a_name_may_come_again() -> None:
    deadlines = Deadlines()
    deadlines.note("a", 10.0)
    deadlines.drop("a")
    deadlines.drop("unknown")
    deadlines.note("a", 50.0)
    assert deadlines.passed(20.0) == []
    assert deadlines.passed(50.0) == ["a"]


def test_those_who_are_done_take_no_room() -> None:
    deadlines = Deadlines()
    for at in range(10_000):
        deadlines.note(str(at), 1e9 + at)
        deadlines.drop(str(at))
    assert len(deadlines._heap) < 100
