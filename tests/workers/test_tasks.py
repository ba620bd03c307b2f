"""How long a retry waits."""

from workers.tasks import retry_delay


def test_delays_double_up_to_a_minute() -> None:
    assert [retry_delay(n, 1.0) for n in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert retry_delay(50, 1.0) == 60.0


def test_jitter_spreads_over_the_upper_half() -> None:
    assert retry_delay(3, 0.0) == 2.0
    assert retry_delay(3, 0.5) == 3.0
