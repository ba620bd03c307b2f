"""What counts as growth, and what does not."""

import random

import pytest

from benchmarks.trend import trend

TIMES = [10.0 * number for number in range(60)]
HOUR = 3600.0


def readings(level: float, per_hour: float, noise: float = 0.0, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [level + per_hour * at / HOUR + chance.gauss(0, noise) for at in TIMES]


def test_a_leak_grows() -> None:
    found = trend("memory router", TIMES, readings(80e6, 10e6, noise=20_000))
    assert found.grows
    assert found.per_hour == pytest.approx(10e6, rel=0.05)
    assert found.level == pytest.approx(80e6, rel=0.05)


def test_a_leak_of_one_descriptor_a_minute_grows() -> None:
    assert trend("descriptors router", TIMES, [20 + at // 60 for at in TIMES]).grows


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("threads router", [7.0] * 60),
        ("memory router", readings(80e6, 1e6)),  # what is there may grow by 5 % in an hour
        ("memory redis", readings(80e6, -50e6)),
        ("keys batchyard:claim", readings(2400, 0, noise=60)),
        ("connections", [12.0 if number % 7 else 15.0 for number in range(60)]),
        ("memory client", [80e6 + 20e6 * min(at, 250) / 250 for at in TIMES]),  # warm after the first half
        ("elements batchyard:ring", [0.0] * 45 + [1.0] + [0.0] * 14),
    ],
)
def test_what_only_moves_does_not_grow(name: str, values: list[float]) -> None:
    assert not trend(name, TIMES, values).grows


def test_chance_alone_is_not_blamed() -> None:
    blamed = [seed for seed in range(300) if trend("used memory", TIMES, readings(9e6, 0, 3e5, seed)).grows]
    assert len(blamed) <= 3


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 are needed"):
        trend("connections", TIMES[:14], [1.0] * 14)
