import math

import pytest

from workers.engine.completion import TokenLogprob
from workers.remote.certainty import confidence_of


def token(text: str, chance: float, **top: float) -> TokenLogprob:
    return TokenLogprob(text, math.log(chance), tuple((name, math.log(p)) for name, p in top.items()))


def test_all_tokens_count_in_plain_text() -> None:
    found = confidence_of([token("a", 0.5, b=0.3), token("c", 0.9)], structured=False)
    assert found is not None
    assert (found.min, found.mean, found.first_margin) == pytest.approx((0.5, 0.7, 0.2))


def test_only_values_count_in_json() -> None:
    tokens = [
        token('{"verdict":', 0.1),
        token(' "fail', 0.8, **{' "pass': 0.15}),
        token('"', 0.6),
        token("}", 0.2),
    ]
    found = confidence_of(tokens, structured=True)
    assert found is not None
    assert (found.min, found.mean, found.first_margin) == pytest.approx((0.6, 0.7, 0.65))


def test_what_is_not_there_is_none() -> None:
    assert confidence_of([], structured=False) is None
    assert confidence_of([token("{}", 0.9)], structured=True) is None
    alone = confidence_of([token("a", 0.9)], structured=False)
    assert alone is not None
    assert alone.first_margin is None
