"""Batch jobs make room for interactive ones and for each other, and nobody's text changes by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from workers.engine.sequence import GETS_ON, MOST_RETREATS


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def ask(yard: Any, names: list[str], priority: int = 6, max_tokens: int = 40) -> None:
    for name in names:
        yard.submit(
            name,
            messages=user(f"tell me about {name}"),
            priority=priority,
            sampling={"max_tokens": max_tokens},
        )


def texts(done: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: one["text"] for name, one in done.items()}


BATCH = [f"part {at}" for at in range(6)]


@pytest.fixture
def expected(make_yard: Callable[..., Any]) -> dict[str, str]:
    """The texts with room for everybody."""
    yard = make_yard(n_slots=8)
    ask(yard, [*BATCH, "now"])
    return texts(yard.run())


@pytest.mark.parametrize("unified", [True, False])
def test_an_interactive_job_joins_the_next_step_though_every_slot_is_taken(
    make_yard: Callable[..., Any], expected: dict[str, str], unified: bool
) -> None:
    yard = make_yard(kv_unified=unified)
    ask(yard, BATCH)
    yard.step(5)
    ask(yard, ["now"], priority=0)
    yard.step(1)
    assert yard.started[-1] == "now"
    assert yard.engine.stats()["retreats"] == 1
    assert texts(yard.run()) == expected
    assert not yard.failed
    # the one that gave way was the last that came, and it was not started twice
    assert yard.started == [*BATCH[:4], "now", *BATCH[4:]]


def test_what_a_job_that_gave_way_had_computed_stays_in_memory_while_there_is_room(
    make_yard: Callable[..., Any],
) -> None:
    def rows(arrives: bool) -> int:
        yard = make_yard(kv_unified=True)
        ask(yard, BATCH[:4])
        yard.step(20)
        ask(yard, ["now"], priority=0 if arrives else 6)
        yard.run()
        assert yard.engine.stats()["retreats"] == int(arrives)
        return int(yard.engine.stats()["rows"])

    # the job that came back computed its last token again, and nothing else
    assert rows(True) <= rows(False) + 1


def test_a_memory_too_small_for_all_batch_jobs_finishes_all_of_them(
    make_yard: Callable[..., Any], expected: dict[str, str]
) -> None:
    yard = make_yard(n_slots=6, n_ctx=96, n_cells=192, kept_cells=0)
    ask(yard, BATCH)
    most = 0
    while not yard.engine.idle:
        yard.step()
        most = max(most, yard.engine.stats()["cells_used"])
    assert texts(yard.done) == {name: expected[name] for name in BATCH}
    assert yard.engine.stats()["retreats"] > 0
    assert 150 < most <= yard.engine._runtime.n_cells
    assert yard.engine.stats()["cells_used"] == 0


def test_interactive_jobs_never_give_way(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_slots=6, n_ctx=96, n_cells=192, kept_cells=0)
    ask(yard, BATCH, priority=0)
    ask(yard, ["late"], priority=6)
    yard.run()
    assert len(yard.done) == 7
    assert yard.engine.stats()["retreats"] == 0


def test_a_stream_of_interactive_jobs_does_not_starve_the_batch(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_slots=1)
    ask(yard, ["batch"], max_tokens=30)
    yard.step(2)
    for at in range(400):
        ask(yard, [f"now {at}"], priority=0, max_tokens=2)
        yard.step()
        if "batch" in yard.done:
            break
    assert "batch" in yard.done
    assert yard.engine.stats()["retreats"] == MOST_RETREATS


def test_a_cancelled_job_that_gave_way_is_gone(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_slots=1)
    ask(yard, ["batch"])
    yard.step(3)
    ask(yard, ["now"], priority=0)
    yard.step()
    yard.cancel("batch")
    assert set(yard.run()) == {"now"}
    assert yard.failed["batch"]["code"] == "cancelled"
    stats = yard.engine.stats()
    assert (stats["free_slots"], stats["running"], stats["waiting"]) == (1, 0, 0)
    assert stats["cells_used"] == stats["kept_cells"]


def test_one_that_got_on_may_give_way_again(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_slots=1)
    ask(yard, ["batch"], max_tokens=200)
    yard.step(2)
    waited = []
    for at in range(MOST_RETREATS + 2):
        ask(yard, [f"now {at}"], priority=0, max_tokens=2)
        steps = 0
        while f"now {at}" not in yard.done:
            yard.step()
            steps += 1
        waited.append(steps)
        yard.step(4)
    assert max(waited[:MOST_RETREATS]) <= 3
    assert max(waited[MOST_RETREATS:]) >= GETS_ON - 8  # tired until it has got on
    assert yard.engine.stats()["retreats"] == MOST_RETREATS + 2
    assert "batch" not in yard.done


def test_an_aged_batch_job_that_may_not_enter_holds_up_no_interactive_one(
    make_yard: Callable[..., Any],
) -> None:
    yard = make_yard(n_slots=4)
    yard.engine._pacing._pace._slots.limit = 2
    ask(yard, ["first", "second"], priority=0, max_tokens=100)
    yard.step()
    ask(yard, ["batch"])
    yard.engine._waiting._passed[6] = 1000  # it is the batch line's turn, whoever comes
    ask(yard, ["now"], priority=0, max_tokens=3)
    yard.step()
    assert yard.started == ["first", "second", "now"]


def test_nobody_gives_way_where_it_would_not_be_enough(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_slots=6, n_ctx=96, n_cells=200, kept_cells=0, prefix_cache=False)
    ask(yard, ["long 1", "long 2"], priority=0, max_tokens=60)
    yard.step()
    ask(yard, ["batch"], max_tokens=20)
    yard.step()
    ask(yard, ["now"], priority=0, max_tokens=60)
    yard.step()
    assert yard.started == ["long 1", "long 2", "batch"]
    assert yard.engine.stats()["retreats"] == 0
    yard.run()
    assert len(yard.done) == 4


def test_who_is_admitted_is_not_sent_away_in_the_same_step(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_slots=2)
    ask(yard, ["first"], priority=0, max_tokens=100)
    yard.step()
    ask(yard, ["batch"])
    yard.engine._waiting._passed[6] = 1000
    ask(yard, ["now"], priority=0, max_tokens=3)
    yard.step()
    assert yard.started == ["first", "batch"]
    yard.step()
    assert yard.started == ["first", "batch", "now"]
    assert yard.engine.stats()["retreats"] == 1
