"""The simulated card: the real engine takes exactly the time that the table says for the rows it plans."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.simulated import StepTable
from benchmarks.simulation import TARGET_S, Card, Jobs, Setting, find_capacity, simulate
from benchmarks.verdict_steps import MODEL, measure
from workers.engine.loader import Runtime, load
from workers.engine.model import EngineModel

TABLE = StepTable(rows=(0, 100), seconds=(0.010, 0.110))
"""10 ms a step and 1 ms a row."""


@pytest.fixture(scope="module")
def real() -> Iterator[Runtime]:
    runtime = load(EngineModel("words", str(MODEL), n_ctx=256, n_slots=1, n_threads=1))
    yield runtime
    runtime.close()


def test_times_lie_on_straight_lines_between_and_beyond_the_points() -> None:
    table = StepTable(rows=(1, 16, 32), seconds=(0.02, 0.04, 0.06), per_cell=1e-6)
    assert table(8.5, 0) == pytest.approx(0.03)
    assert table(48, 0) == pytest.approx(0.08)
    assert table(16, 1000) == pytest.approx(0.041)
    assert table.scaled(0.5)(32, 1000) == pytest.approx(0.031)


def test_a_job_alone_takes_its_prompt_and_its_steps(real: Runtime) -> None:
    setting = Setting("", Jobs(shared=0, unique=50, steps=(4,)))
    [latency] = simulate(real, setting, TABLE, rate=1.0, count=1)[:1]
    assert latency == pytest.approx(0.060 + 3 * 0.011)


def test_forced_tokens_cost_their_rows_with_the_step_that_computes_them(real: Runtime) -> None:
    setting = Setting("", Jobs(shared=0, unique=50, steps=(4,), forced=2.0))
    [latency] = simulate(real, setting, TABLE, rate=1.0, count=1)[:1]
    assert latency == pytest.approx(0.062 + 3 * 0.013)


def test_a_shared_beginning_is_computed_once_a_card(real: Runtime) -> None:
    shared = Setting("", Jobs(shared=300, unique=50, steps=(1,)))
    assert simulate(real, shared, TABLE, rate=0.1, count=20)[0] == pytest.approx(0.060)
    alone = simulate(real, replace(shared, prefix_cache=False), TABLE, rate=0.1, count=20)[0]
    assert alone == pytest.approx(2 * 0.138 + 0.010 + 0.094)


def test_jobs_go_to_the_card_with_the_fewest(real: Runtime) -> None:
    jobs = Jobs(shared=0, unique=50, steps=(1,))
    one = simulate(real, Setting("", jobs), TABLE, rate=20.0, count=200)
    two = simulate(real, Setting("", jobs, cards=2), TABLE, rate=20.0, count=200)
    assert len(one) == len(two) > 150
    assert sorted(two)[len(two) // 2] < sorted(one)[len(one) // 2]


def test_capacity_keeps_the_target_and_a_little_more_does_not(real: Runtime) -> None:
    setting = Setting("", Jobs(shared=0, unique=50, steps=(2,)))
    found = find_capacity(real, setting, TABLE, count=200)
    assert found.p99 <= TARGET_S
    assert found.alone == pytest.approx(0.071)
    late = [one > TARGET_S for one in simulate(real, setting, TABLE, 1.1 * found.rate, 200)]
    assert sum(late) > 0.01 * len(late)


def test_what_is_too_slow_alone_has_no_capacity(real: Runtime) -> None:
    setting = Setting("", Jobs(shared=0, unique=50, steps=(40,)))
    assert find_capacity(real, setting, TABLE, count=50).rate == 0.0


def test_an_overloaded_run_ends_early(real: Runtime) -> None:
    setting = Setting("", Jobs(shared=0, unique=100, steps=(10,)))
    assert len(simulate(real, setting, TABLE, 100.0, 500, most_late=0.01)) < 100


def test_a_warm_card_is_empty_and_its_clock_stands_at_nought(real: Runtime) -> None:
    card = Card(real, Setting("", Jobs(shared=0, unique=10, steps=(1,))), TABLE)
    assert (card.clock.now, card.inside, card.latencies, card.late) == (0.0, {}, [], 0)


def test_jump_forward_spares_a_verdict_steps_and_no_tokens() -> None:
    jumping, plain = (measure(5, jump_forward=jumps) for jumps in (True, False))
    assert jumping.tokens == plain.tokens
    assert sum(jumping.steps) < sum(plain.steps)
