import pytest

from workers.remote.backoff import CAP_SECONDS, LONGEST_SECONDS, pause, retry_after, worth_waiting

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


def test_pauses_double_up_to_a_cap_and_spread_over_all_of_it() -> None:
    assert [pause(attempt, 1.0, None) for attempt in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert pause(4000, 1.0, None) == CAP_SECONDS
    assert pause(3, 0.0, None) == 0.0
    assert pause(3, 0.25, None) == 1.0


def test_the_endpoints_own_time_is_the_least() -> None:
    assert pause(0, 0.0, 7.0) == 7.0
    assert pause(0, 1.0, 7.0) == 7.5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "1.5", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT"}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:07 GMT"}, 0.0),
        ({"retry-after": "1e308"}, LONGEST_SECONDS),
        ({"retry-after-ms": "1e308"}, LONGEST_SECONDS),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_SECONDS),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan", "retry-after-ms": "x"}, None),
        ({"retry-after": "Sun, 06 Nov 999999999999 08:49:07 GMT"}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_nobody_waits_for_what_cannot_help() -> None:
    assert worth_waiting(59.0, None)
    assert not worth_waiting(61.0, None)
    assert worth_waiting(3.0, 3.1)
    assert not worth_waiting(3.0, 3.0)
