"""The short form: every parser against what its strategy draws and against mutations of real inputs."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import mutate
from tests.fuzz.oracle import Target, limited
from tests.fuzz.strategies import STRATEGIES
from tests.fuzz.targets import TARGETS

_MUTATIONS = 25
"""For each unit of a target's weight."""


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_no_mutation_of_a_real_input_makes_a_parser_stumble(target: Target) -> None:
    chance, seeds = random.Random(target.name), target.seeds()
    accepted = sum(limited(target, seed) for seed in seeds)
    assert accepted, "no seed is accepted: nothing behind the first check is tested"
    for _ in range(_MUTATIONS * target.weight):
        data = chance.choice(seeds)
        for _ in range(chance.choice((1, 1, 2, 3))):
            data = mutate(data, target.kind, chance, seeds, target.max_len)
        limited(target, data)


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_that_a_strategy_draws_makes_a_parser_stumble(name: str) -> None:
    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(STRATEGIES[name])
    def holds(data: bytes) -> None:
        limited(TARGETS[name], data)

    holds()


@settings(max_examples=50, deadline=None, database=None, derandomize=True)
@given(st.binary(max_size=200), st.sampled_from(sorted(TARGETS)))
def test_any_bytes_at_all(data: bytes, name: str) -> None:
    limited(TARGETS[name], data)
