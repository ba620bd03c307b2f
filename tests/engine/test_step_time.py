"""The step-time fit: it finds the coefficients, forgets, and nothing that happens to a machine breaks it."""

import math
import random

import pytest

from workers.engine.step_time import ENOUGH, StepTime

C0, C1, C2, C3 = 0.005, 0.0004, 0.0001, 2e-7


def truth(rows: int, prefill: int, cells: float, speed: float = 1.0) -> float:
    return (C0 + C1 * rows + C2 * prefill + C3 * cells) / speed


def mixed_step(chance: random.Random) -> tuple[int, int, float]:
    rows, prefill = chance.randint(0, 32), chance.choice((0, 0, chance.randint(1, 256)))
    if not rows and not prefill:
        rows = 1
    return rows, prefill, float((rows + prefill) * chance.randint(50, 500))


def fed(fit: StepTime, steps: int, seed: int = 1, noise: float = 0.0, speed: float = 1.0) -> StepTime:
    chance = random.Random(seed)
    for _ in range(steps):
        step = mixed_step(chance)
        fit.observe(*step, truth(*step, speed) * (1 + chance.uniform(-noise, noise)))
    return fit


def worst_error(fit: StepTime, speed: float = 1.0) -> float:
    chance = random.Random(99)
    steps = [mixed_step(chance) for _ in range(200)]
    return max(abs(fit.predict(*step) / truth(*step, speed) - 1) for step in steps)


def test_exact_times_give_their_coefficients() -> None:
    fit = fed(StepTime(), 3000)
    assert fit.coefficients == pytest.approx((C0, C1, C2, C3), rel=0.02)
    assert worst_error(fit) < 0.02


def test_noise_averages_out() -> None:
    fit = fed(StepTime(), 3000, noise=0.3)
    assert worst_error(fit) < 0.15
    assert fit.error == pytest.approx(0.15, abs=0.05)


def test_nothing_is_predicted_before_anything_is_known() -> None:
    fit = StepTime()
    assert fit.predict(8, 0, 100.0) == 0.0
    assert not fit.confident
    assert not fed(fit, ENOUGH - 1).confident
    assert fed(fit, 1).confident


def test_a_slower_machine_is_believed() -> None:
    fit = fed(fed(StepTime(), 2000), 3000, seed=2, speed=0.25)
    assert worst_error(fit, speed=0.25) < 0.1


def test_a_pause_of_the_machine_teaches_nothing() -> None:
    fit = fed(StepTime(), 2000, noise=0.1)
    before = fit.predict(16, 0, 4000.0)
    for _ in range(3):
        fit.observe(16, 0, 4000.0, 10.0)
    assert fit.predict(16, 0, 4000.0) == pytest.approx(before, rel=0.05)


def test_a_slow_first_step_is_outgrown() -> None:
    fit = StepTime()
    fit.observe(1, 20, 400.0, 10.0)
    assert worst_error(fed(fit, 500)) < 0.05


def test_coefficients_are_never_negative() -> None:
    fit, chance = StepTime(), random.Random(3)
    for _ in range(3000):
        rows = chance.randint(1, 64)
        fit.observe(rows, 0, rows * 100.0, 1.0 / rows)  # the more rows, the faster: no such plane
        assert min(fit.coefficients) >= 0.0


def test_what_stayed_away_is_remembered() -> None:
    fit = fed(StepTime(), 2000, noise=0.1)
    chance = random.Random(4)
    for _ in range(20_000):
        rows = chance.randint(1, 32)
        cells = rows * 200.0
        fit.observe(rows, 0, cells, truth(rows, 0, cells) * chance.uniform(0.9, 1.1))
    assert fit.predict(0, 256, 40_000.0) == pytest.approx(truth(0, 256, 40_000.0), rel=0.15)
    fit.observe(0, 128, 10_000.0, truth(0, 128, 10_000.0) * 1.3)
    assert fit.predict(0, 256, 40_000.0) == pytest.approx(truth(0, 256, 40_000.0), rel=0.2)


def test_the_same_step_for_ever_stays_finite() -> None:
    fit = StepTime()
    for _ in range(50_000):
        fit.observe(4, 0, 800.0, 0.01)
    assert fit.predict(4, 0, 800.0) == pytest.approx(0.01, rel=1e-6)
    assert all(map(math.isfinite, fit.coefficients))
    assert worst_error(fed(fit, 3000)) < 0.05


def test_steps_of_any_length_are_measured() -> None:
    for scale in (1e-7, 1.0, 1e5):
        fit, chance = StepTime(), random.Random(5)
        for _ in range(2000):
            step = mixed_step(chance)
            fit.observe(*step, truth(*step) * scale)
        assert fit.predict(8, 64, 9000.0) == pytest.approx(truth(8, 64, 9000.0) * scale, rel=0.05)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_duration_is_ignored(seconds: float) -> None:
    fit = StepTime()
    fit.observe(1, 0, 10.0, seconds)
    assert fit.observations == 0
    assert fit.coefficients == (0.0, 0.0, 0.0, 0.0)


def test_a_kernel_that_prefers_some_numbers_of_rows_is_learned() -> None:
    """Up to 8 rows cost half of what the plane through all steps says, as with a GPU's vector kernels."""
    fit, chance = StepTime(), random.Random(6)

    def real(rows: int) -> float:
        return (0.02 + 0.001 * rows) * (0.5 if rows <= 8 else 1.0)

    for _ in range(4000):
        rows = int(2 ** chance.uniform(0, 6))
        fit.observe(rows, 0, rows * 100.0, real(rows))
    errors = [abs(fit.predict(rows, 0, rows * 100.0) / real(rows) - 1) for rows in (1, 2, 4, 8, 16, 32, 64)]
    assert sorted(errors)[3] < 0.1
