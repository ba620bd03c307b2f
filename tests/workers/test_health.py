"""When an engine is given jobs, when a test, and who is to blame for a death."""

import pytest

from tests.workers.test_turns import job
from workers.health import COOLDOWN_SECONDS, DEATHS_IN_A_ROW, LONGEST_SECONDS, Health, May


@pytest.fixture
def health() -> Health:
    return Health(4)


def fallen(health: Health) -> Health:
    for _ in range(DEATHS_IN_A_ROW):
        health.died(0.0, None)
    return health


def test_a_sound_engine_is_given_jobs(health: Health) -> None:
    assert health.next(0.0) is May.JOBS
    assert health.good


def test_deaths_in_a_row_stop_the_jobs_until_a_test_has_been_passed(health: Health) -> None:
    fallen(health)
    assert not health.good
    assert health.next(0.0) is May.NOTHING
    assert health.left(0.0) == COOLDOWN_SECONDS
    assert health.next(COOLDOWN_SECONDS) is May.TEST
    assert health.next(COOLDOWN_SECONDS) is May.NOTHING, "one test at a time"
    health.tested(COOLDOWN_SECONDS, broken=False)
    assert health.next(COOLDOWN_SECONDS) is May.JOBS


def test_an_answer_between_deaths_ends_the_row(health: Health) -> None:
    for _ in range(3 * DEATHS_IN_A_ROW):
        health.died(0.0, None)
        health.answered(0.0, broken=False)
    assert health.good


def test_each_failed_test_doubles_the_wait_up_to_a_bound(health: Health) -> None:
    fallen(health)
    now, waits = 0.0, []
    for number in range(6):
        waits.append(health.left(now))
        now += health.left(now)
        assert health.next(now) is May.TEST
        if number % 2:
            health.tested(now, broken=True)
        else:
            health.died(now, None)
    assert waits == [5.0, 10.0, 20.0, 40.0, LONGEST_SECONDS, LONGEST_SECONDS]


def test_failed_passes_in_a_row_count_too_and_late_answers_do_not_end_it(health: Health) -> None:
    for _ in range(3):
        health.answered(0.0, broken=True)
    health.answered(0.0, broken=False)
    assert health.good
    for _ in range(4):
        health.answered(0.0, broken=True)
    assert not health.good
    health.answered(1.0, broken=False)
    assert not health.good


def test_the_accused_is_to_blame_when_the_next_engine_passes_the_test(health: Health) -> None:
    health.died(0.0, None)
    unit = job("bad")
    assert health.died(0.0, unit) is None
    assert health.next(0.0) is May.TEST
    assert health.tested(0.0, broken=False) is unit
    assert health.next(0.0) is May.JOBS


def test_the_accused_is_cleared_when_the_engine_dies_of_the_test_too(health: Health) -> None:
    health.died(0.0, None)
    unit = job("innocent")
    health.died(0.0, unit)
    assert health.next(0.0) is May.TEST
    assert health.died(0.0, None) is unit
    assert not health.good
    assert health.accused is None


def test_an_accused_job_that_is_cancelled_needs_no_verdict(health: Health) -> None:
    unit = job("gone")
    health.died(0.0, unit)
    health.withdraw(unit)
    assert health.next(0.0) is May.JOBS
