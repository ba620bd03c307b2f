"""How long a retry waits, and what a worker may spend on retries."""

import random

from workers.retry import CAP_SECONDS, RetryBudget, retry_delay


def test_delays_double_up_to_a_minute() -> None:
    assert [retry_delay(n, 1.0) for n in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert retry_delay(50, 1.0) == 60.0
    assert retry_delay(100_000, 1.0) == 60.0


def test_jitter_spreads_over_the_upper_half() -> None:
    assert retry_delay(3, 0.0) == 2.0
    assert retry_delay(3, 0.5) == 3.0


def test_jobs_that_failed_together_come_back_soon_and_apart() -> None:
    budget, dice = RetryBudget(32), random.Random(1)
    delays = [budget.delay(0, dice.random()) for _ in range(32)]
    assert all(0.25 <= delay <= 0.5 for delay in delays)
    assert len(set(delays)) == 32


def test_without_budget_a_retry_waits_at_the_cap() -> None:
    budget = RetryBudget(2)
    assert [budget.delay(0, 1.0) for _ in range(4)] == [0.5, 0.5, CAP_SECONDS, CAP_SECONDS]
    assert budget.spent


def test_ten_successes_earn_one_retry_and_the_budget_is_bounded() -> None:
    budget = RetryBudget(2)
    for _ in range(1000):
        budget.earn()
    assert [budget.delay(0, 1.0) for _ in range(3)] == [0.5, 0.5, CAP_SECONDS]
    for _ in range(11):
        budget.earn()
    assert [budget.delay(0, 1.0) for _ in range(2)] == [0.5, CAP_SECONDS]


def test_no_storm_when_everything_fails() -> None:
    """One slot whose every attempt fails at once, for an hour: without a budget it would try again twice a
    second, with it once or twice a minute."""
    budget, dice, now, attempts = RetryBudget(2), random.Random(7), 0.0, 0
    while now < 3600.0:
        now += budget.delay(0, dice.random())
        attempts += 1
    assert 60 <= attempts <= 122
