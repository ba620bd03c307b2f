"""How sure an endpoint's model was of a text, from the log-probabilities that came with it. Pure.

The endpoint does not say which tokens its schema forced, so unlike in the engine all those in values count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from workers.engine.completion import Confidence, TokenLogprob
from workers.engine.json_values import value_spans

FOR_MARGIN: Final = 2
"""Alternatives a token that its margin needs."""


def confidence_of(tokens: Sequence[TokenLogprob], *, structured: bool) -> Confidence | None:
    """Over all tokens, or over those that hold a part of a value where the text is JSON; None for none."""
    counted = _in_values(tokens) if structured else list(tokens)
    return Confidence.of((token.probability for token in counted), _margin(counted[0]) if counted else None)


def _in_values(tokens: Sequence[TokenLogprob]) -> list[TokenLogprob]:
    pieces = [token.token.encode("utf-8", "replace") for token in tokens]
    spans = value_spans(b"".join(pieces))
    found, start = [], 0
    for token, piece in zip(tokens, pieces, strict=True):
        end = start + len(piece)
        if any(low < end and start < high for low, high in spans):
            found.append(token)
        start = end
    return found


def _margin(token: TokenLogprob) -> float | None:
    """How far the best alternative was ahead of the second; None where the endpoint names but one."""
    beside = dict(token.top) | {token.token: token.logprob}
    best = sorted((TokenLogprob("", value).probability for value in beside.values()), reverse=True)
    return best[0] - best[1] if len(best) > 1 else None
