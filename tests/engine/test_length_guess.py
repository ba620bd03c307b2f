"""Expected lengths: the mean follows, the low quantile is reached by nine in ten, keys are bounded."""

import random

import pytest

from workers.engine.length_guess import REMEMBERED, Guess, LengthGuess


def test_an_unknown_key_has_no_guess() -> None:
    assert LengthGuess().guess("verdict") is None


def test_one_answer_is_a_guess() -> None:
    lengths = LengthGuess()
    lengths.observe("verdict", 17)
    assert lengths.guess("verdict") == Guess(mean=17.0, low=17, seen=1)


def test_nine_in_ten_answers_reach_the_low_guess() -> None:
    lengths, chance = LengthGuess(), random.Random(1)
    drawn = [chance.randint(10, 60) for _ in range(REMEMBERED)]
    for length in drawn:
        lengths.observe("verdict", length)
    guess = lengths.guess("verdict")
    assert guess is not None
    assert sum(length >= guess.low for length in drawn) >= 0.9 * len(drawn)
    assert guess.mean == pytest.approx(35, abs=8)


def test_lengths_that_change_are_followed() -> None:
    lengths = LengthGuess()
    for length in [10] * 500 + [100] * REMEMBERED:
        lengths.observe("verdict", length)
    guess = lengths.guess("verdict")
    assert guess is not None
    assert guess.low == 100
    assert guess.mean == pytest.approx(100, abs=2)


def test_keys_do_not_mix() -> None:
    lengths = LengthGuess()
    lengths.observe(("verdict", 0.0), 5)
    lengths.observe(("text", 0.0), 500)
    guess = lengths.guess(("verdict", 0.0))
    assert guess is not None and guess.mean == 5.0


def test_the_key_not_seen_for_longest_goes() -> None:
    lengths = LengthGuess(max_keys=2)
    for key in ("a", "b", "a", "c"):
        lengths.observe(key, 1)
    assert len(lengths) == 2
    assert lengths.guess("b") is None
    assert lengths.guess("a") is not None
