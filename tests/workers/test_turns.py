"""Whose turn it is: suspects alone, the others in between."""

import pytest

from batchyard.job import Job
from batchyard.route import Route
from workers.pool_job import Delivery, PoolJob
from workers.turns import Turns

ROUTE = Route(task="t", model="m", by="job", reason="test", policy="1")


def job(name: str, priority: int = 6, lost: int = 0) -> PoolJob:
    delivery = Delivery(lambda: None, ("run", name, {"lost": lost}), lambda: None, None, 0.0)
    unit = PoolJob(delivery, Job(id=name, prompt="x", priority=priority), ROUTE, lambda _: None)
    unit.key = name
    return unit


@pytest.fixture
def turns() -> Turns:
    return Turns()


def arrive(turns: Turns, *units: PoolJob) -> None:
    for unit in units:
        turns.arrive(unit)


def entering(turns: Turns) -> str:
    return " ".join(unit.key for unit in turns.enter())


def test_without_suspects_all_go_in_at_once(turns: Turns) -> None:
    arrive(turns, job("a"), job("b"))
    assert entering(turns) == "a b"
    arrive(turns, job("c"))
    assert entering(turns) == "c"
    assert turns.suspects == 0


def test_after_a_death_each_runs_alone_and_the_urgent_first(turns: Turns) -> None:
    arrive(turns, job("a"), job("b"), job("urgent", priority=0))
    turns.enter()
    assert turns.died() is None
    assert turns.suspects == 3
    order = []
    while name := entering(turns):
        assert entering(turns) == "", "nobody joins a suspect"
        order.append(name)
        turns.leave(name)
    assert order == ["urgent", "a", "b"]
    assert turns.suspects == 0


def test_a_second_death_alone_finds_the_culprit(turns: Turns) -> None:
    bad = job("bad")
    arrive(turns, bad, job("good"))
    turns.enter()
    turns.died()
    assert entering(turns) == "bad"
    assert turns.died() is bad
    assert entering(turns) == "good"


def test_the_first_death_blames_nobody_though_it_was_alone(turns: Turns) -> None:
    arrive(turns, job("a"))
    turns.enter()
    assert turns.died() is None
    assert entering(turns) == "a"


def test_what_is_held_waits_for_one_suspect_and_not_for_all(turns: Turns) -> None:
    arrive(turns, *(job(f"s{number}") for number in range(3)))
    turns.enter()
    turns.died()
    arrive(turns, job("urgent", priority=0), job("batch"))
    assert entering(turns) == "s0"
    turns.leave("s0")
    assert entering(turns) == "urgent batch"
    arrive(turns, job("next"))
    assert entering(turns) == "", "the suspects must not wait for all that comes"
    turns.leave("urgent")
    turns.leave("batch")
    assert entering(turns) == "s1"


def test_urgent_ones_join_only_while_those_are_inside_that_a_suspect_waits_for_anyway(turns: Turns) -> None:
    arrive(turns, job("long"))
    turns.enter()
    arrive(turns, job("suspect", lost=2))
    assert entering(turns) == ""
    arrive(turns, job("u1", priority=0), job("batch"))
    assert entering(turns) == "u1"
    turns.leave("long")
    arrive(turns, job("u2", priority=0))
    assert entering(turns) == ""
    turns.leave("u1")
    assert entering(turns) == "suspect"
    turns.leave("suspect")
    assert entering(turns) == "batch u2"


def test_a_job_lost_twice_is_a_suspect_and_one_lost_once_is_not(turns: Turns) -> None:
    arrive(turns, job("once", lost=1), job("twice", lost=2))
    assert turns.suspects == 1
    assert entering(turns) == "twice"
    turns.leave("twice")
    assert entering(turns) == "once"


def test_a_job_can_be_withdrawn_from_everywhere(turns: Turns) -> None:
    units = [job("a"), job("b")]
    arrive(turns, *units)
    turns.enter()
    turns.died()
    assert entering(turns) == "a"
    late = job("late")
    arrive(turns, late)
    assert [turns.withdraw(unit) for unit in (*units, late)] == [True, False, False]
    assert (turns.inside, turns.suspects, entering(turns)) == ([], 0, "")
