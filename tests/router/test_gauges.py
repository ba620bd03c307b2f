"""What the janitor makes of its readings."""

import pytest

from router.gauges import LEAST_RATE, miscounted, nearly_full, smoothed_rates


@pytest.mark.parametrize(
    ("used", "was", "full"),
    [(85, False, False), (86, False, True), (81, False, False), (81, True, True), (80, True, False)],
)
def test_full_begins_higher_than_it_ends(used: int, was: bool, full: bool) -> None:
    assert nearly_full(used, 100, was) is full


def test_without_a_limit_nothing_is_ever_full() -> None:
    assert not nearly_full(1 << 40, 0, True)


def rounds(count: int, a_second: int, waiting: int, rates: dict[str, float]) -> dict[str, float]:
    for at in range(count):
        before, done = {"m": at * a_second}, {"m": (at + 1) * a_second}
        rates = smoothed_rates(rates, before, done, {"m": waiting}, 1.0)
    return rates


def test_a_rate_comes_near_what_is_done_and_follows_it_down_while_jobs_wait() -> None:
    rates = rounds(40, 20, waiting=100, rates={})
    assert rates["m"] == pytest.approx(20, rel=0.05)
    assert rounds(10, 4, waiting=100, rates=rates)["m"] == pytest.approx(4 + 16 / 2.718, rel=0.05)


def test_an_idle_model_is_not_slow() -> None:
    assert rounds(60, 0, waiting=0, rates={"m": 20.0}) == {"m": 20.0}
    assert rounds(10, 40, waiting=0, rates={"m": 20.0})["m"] > 30


def test_a_model_that_does_nothing_with_its_jobs_has_no_rate_in_the_end() -> None:
    assert rounds(60, 0, waiting=1, rates={"m": 0.1}) == {}
    assert smoothed_rates({"m": LEAST_RATE}, {}, {}, {}, 1.0) == {"m": LEAST_RATE}


def test_a_redis_that_began_anew_makes_no_negative_rate() -> None:
    assert smoothed_rates({"m": 1.0}, {"m": 1000}, {"m": 2}, {"m": 1}, 1.0)["m"] == pytest.approx(0.905, 0.01)


def test_a_long_pause_counts_as_one() -> None:
    assert smoothed_rates({}, {"m": 0}, {"m": 600}, {}, 60.0)["m"] == pytest.approx(10, rel=0.01)


def test_counters_that_claim_something_are_suspects() -> None:
    waiting = {"idle": 0, "wrong": 4, "new": 1, "minus": -1}
    assert miscounted(waiting, frozenset({"wrong", "idle"})) == {"wrong": True, "new": False, "minus": False}
