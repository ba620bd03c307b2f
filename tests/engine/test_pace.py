"""Decisions from predicted step times: each is held against the times that it was made from."""

import random

import pytest

from workers.engine.pace import BENEFIT_OF_DOUBT, LEAST_CHUNK, MOST_SKIPPED, Pace
from workers.engine.step_time import ENOUGH

C0, C1, C2, C3 = 0.020, 0.001, 0.001, 1e-6


def truth(rows: int, prefill: int, cells: float) -> float:
    return C0 + C1 * rows + C2 * prefill + C3 * cells


def taught(pace: Pace, c0: float = C0) -> Pace:
    """A pace that has seen enough steps, of every kind."""
    chance = random.Random(1)
    for _ in range(3000):
        rows, prefill = chance.randint(1, 32), chance.choice((0, chance.randint(1, 512)))
        cells = float((rows + prefill) * chance.randint(10, 600))
        pace.step_time.observe(rows, prefill, cells, truth(rows, prefill, cells) - C0 + c0)
    return pace


def test_a_chunk_is_as_long_as_the_target_allows() -> None:
    pace = taught(Pace(8, target_step_s=0.1))
    chunk = pace.chunk(8, 800.0, 512, context=100.0)
    assert LEAST_CHUNK < chunk < 512
    assert truth(8, chunk, 800 + chunk * (100 + chunk / 2)) <= 0.105
    assert truth(8, chunk + 6, 800 + chunk * (100 + chunk / 2)) > 0.1


def test_more_decoding_rows_leave_less_for_a_chunk() -> None:
    pace = taught(Pace(64, target_step_s=0.1))
    chunks = [pace.chunk(rows, rows * 200.0, 512) for rows in (1, 8, 32)]
    assert chunks == sorted(chunks, reverse=True)
    assert len(set(chunks)) == 3


def test_a_prompt_never_starves() -> None:
    pace = taught(Pace(8, target_step_s=0.001))
    assert pace.chunk(8, 800.0, 512) == LEAST_CHUNK
    assert pace.chunk(8, 800.0, 5) == 5
    assert pace.chunk(8, 800.0, 0) == 0


def test_nothing_is_held_back_without_a_reason() -> None:
    assert taught(Pace(8)).chunk(8, 800.0, 512) == 512, "no target"
    assert taught(Pace(8, target_step_s=0.001)).chunk(0, 0.0, 512) == 512, "nobody decodes"
    assert Pace(8, target_step_s=0.001).chunk(8, 800.0, 512) == 512, "nothing is known yet"


def test_batch_rows_are_those_that_the_slowdown_affords() -> None:
    pace = taught(Pace(64))
    alone = truth(2, 0, 400.0)
    found = pace.batch_rows(2, 0, 400.0, decoding=60, context=200.0)
    assert 0 < found < 60
    assert truth(2 + found, 0, 400.0 + found * 200.0) <= 1.55 * alone


def test_batch_jobs_have_the_step_to_themselves_without_interactive_ones() -> None:
    assert taught(Pace(64)).batch_rows(0, 0, 0.0, decoding=60, joining=400, context=200.0) == 460


def test_without_a_bound_or_knowledge_all_batch_rows_run() -> None:
    assert taught(Pace(64, slowdown=None)).batch_rows(2, 0, 400.0, decoding=60) == 60
    assert Pace(64).batch_rows(2, 0, 400.0, decoding=60) == 60


def test_interactive_steps_are_slowed_by_no_more_than_the_bound_on_average() -> None:
    """Where a batch row costs as much as the whole interactive step, batch jobs still move, at the bound's
    rate."""
    pace = taught(Pace(64), c0=0.0)
    alone, spent, served = truth(1, 0, 100.0) - C0, 0.0, 0
    for _ in range(1000):
        found = pace.batch_rows(1, 0, 100.0, decoding=30, context=300.0)
        served += found
        spent += truth(1 + found, 0, 100.0 + found * 300.0) - C0
    assert served > 200
    assert spent / 1000 <= 1.55 * alone


def test_batch_jobs_are_left_out_of_a_bounded_number_of_steps() -> None:
    """One batch row here is dearer than all the credit there can be."""
    pace = taught(Pace(64), c0=0.0)
    found = [pace.batch_rows(1, 0, 0.0, decoding=30, context=1e6) for _ in range(3 * (MOST_SKIPPED + 1))]
    assert found == ([0] * MOST_SKIPPED + [1]) * 3


def test_prompt_rows_of_batch_jobs_come_after_their_decoding_ones() -> None:
    pace = taught(Pace(64))
    both = pace.batch_rows(8, 0, 800.0, decoding=4, joining=500, context=100.0)
    assert 4 < both < 504


def test_time_to_finish_counts_chunks_and_steps() -> None:
    pace = taught(Pace(8))
    seconds = pace.finish_in(600, 20, rows=7, cells=700.0, context=0.0, chunk=200)
    prefill = 3 * truth(7, 200, 700.0 + 200 * 300)
    decode = 20 * truth(8, 0, 700.0 + 600 + 10)
    assert seconds == pytest.approx(prefill + decode, rel=0.1)
    assert pace.finish_in(0, 0) == 0.0


def test_a_deadline_is_given_up_only_beyond_doubt() -> None:
    pace = taught(Pace(8))
    seconds = pace.finish_in(600, 20, chunk=200)
    assert pace.hopeless(seconds, seconds / BENEFIT_OF_DOUBT * 0.9)
    assert not pace.hopeless(seconds, seconds / BENEFIT_OF_DOUBT * 1.1)


def test_no_deadline_is_given_up_before_times_are_known() -> None:
    pace = Pace(8)
    for _ in range(ENOUGH - 1):
        pace.step_time.observe(1, 0, 10.0, 5.0)
    assert not pace.hopeless(pace.finish_in(600, 20), 0.001)


def test_the_limit_follows_finished_jobs() -> None:
    pace = Pace(10, target_p99_s=1.0)
    assert not any(pace.finished(2.0) for _ in range(10))  # the first pay for first touches
    assert [pace.finished(2.0) for _ in range(10)] == [False] * 9 + [True]
    assert pace.limit == 7
