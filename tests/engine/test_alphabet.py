"""Characters that no set tells apart are one class."""

from __future__ import annotations

import random

import numpy as np
import pytest

from workers.engine.alphabet import NONE, Alphabet
from workers.engine.errors import EngineError
from workers.engine.gbnf import LARGEST

EVERYTHING = ((0, LARGEST),)


def random_sets(seed: int) -> list[tuple[tuple[int, int], ...]]:
    choose = random.Random(seed)
    sets = []
    for _ in range(choose.randint(1, 6)):
        cuts = sorted(choose.sample(range(40, 140), 2 * choose.randint(1, 4)))
        sets.append(tuple(zip(cuts[::2], cuts[1::2], strict=True)))
    return sets


def test_two_characters_share_a_class_exactly_where_they_share_their_sets() -> None:
    for seed in range(40):
        sets = random_sets(seed)
        alphabet = Alphabet(sets)
        codes = range(30, 150)
        holders = {
            code: frozenset(
                at for at, ranges in enumerate(sets) if any(low <= code <= high for low, high in ranges)
            )
            for code in codes
        }
        numbers = {code: alphabet.class_of(code) for code in codes}
        for code in codes:
            assert (numbers[code] == NONE) == (not holders[code])
            for at, members in enumerate(alphabet.members):
                assert (numbers[code] in members) == (at in holders[code])
        assert (
            len(set(numbers.values()) - {NONE})
            == alphabet.n_classes
            == len(set(holders.values()) - {frozenset()})
        )
        every = np.array(list(codes), np.uint32)
        assert alphabet.classes_of(every).tolist() == [numbers[code] for code in codes]
        assert alphabet.between(60, 100) == {numbers[code] for code in range(60, 101)} - {NONE}


def test_neither_nul_nor_a_surrogate_is_a_character() -> None:
    alphabet = Alphabet([EVERYTHING])
    assert [alphabet.class_of(code) for code in (0, 0xD800, 0xDFFF)] == [NONE] * 3
    assert {alphabet.class_of(code) for code in (1, 0xD7FF, 0xE000, LARGEST)} == {0}
    assert not alphabet.between(0xD800, 0xDFFF)


def test_a_class_of_one_character_says_which() -> None:
    alphabet = Alphabet([((97, 97),), ((99, 122),)])
    assert alphabet.only_character(alphabet.class_of(97)) == "a"
    assert alphabet.only_character(alphabet.class_of(99)) is None


def test_sets_that_overlap_without_end_are_refused() -> None:
    Alphabet([((0x100 + at, 0x200 + at),) for at in range(400)])
    with pytest.raises(EngineError, match="overlap too much") as caught:
        Alphabet([((0x100 + at, 0x5000 + at),) for at in range(5000)])
    assert caught.value.code == "grammar_invalid"
