"""Choices at an endpoint: how it is held to the labels, and what its log-probabilities say about them. Pure.

It knows no HTTP.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from workers.engine.completion import TokenLogprob

_KEY: Final = "choice"
_BEFORE_LABEL: Final = re.compile(r'^\s*\{\s*"choice"\s*:\s*"')


def labels_grammar(labels: Sequence[str]) -> str:
    """GBNF of exactly one of the labels."""
    return "root ::= " + " | ".join(_literal(label) for label in labels)


def labels_schema(labels: Sequence[str]) -> dict[str, Any]:
    """A JSON schema of a document that names exactly one of the labels."""
    return {
        "type": "object",
        "properties": {_KEY: {"type": "string", "enum": list(labels)}},
        "required": [_KEY],
        "additionalProperties": False,
    }


def label_of(text: str, labels: Sequence[str], *, document: bool) -> str | None:
    """The label that an answer names, None for none; `document` is the schema's form."""
    if not document:
        return text if text in labels else next((label for label in labels if label == text.strip()), None)
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    label = answer.get(_KEY) if isinstance(answer, dict) else None
    return label if isinstance(label, str) and label in labels else None


def label_logprobs(
    text: str, tokens: Sequence[TokenLogprob], labels: Sequence[str], *, document: bool
) -> dict[str, float] | None:
    """The log-probability of each label, from the alternatives at the one token where the labels part.

    None unless every label begins there with a token of its own that is among the alternatives: chances
    over a part of the labels would look like certainty.
    """
    start = _start_of_label(text, document=document)
    place = None if start is None else _token_at(text, tokens, start)
    if place is None:
        return None
    token, before = place
    written = [json.dumps(label, ensure_ascii=False)[1:] if document else label for label in labels]
    found = dict.fromkeys(range(len(labels)), 0.0)
    for text_of, logprob in _alternatives(token):
        if not text_of.startswith(before) or text_of == before:
            continue
        rest = text_of[len(before) :]
        matches = [at for at, label in enumerate(written) if _begins(label, rest, document=document)]
        if len(matches) > 1:
            return None
        for at in matches:
            found[at] += math.exp(logprob)
    if not all(found.values()):
        return None
    return {label: math.log(found[at]) for at, label in enumerate(labels)}


def chances_of(logprobs: Mapping[str, float], temperature: float) -> dict[str, float]:
    """The chances of labels, softened (temperature above 1) or sharpened, summing to one."""
    peak = max(logprobs.values())
    weights = {label: math.exp((value - peak) / temperature) for label, value in logprobs.items()}
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def _begins(label: str, rest: str, *, document: bool) -> bool:
    # in a document a token may go on behind the label's closing quote
    return label.startswith(rest) or (document and rest.startswith(label))


def _start_of_label(text: str, *, document: bool) -> int | None:
    if not document:
        return len(text) - len(text.lstrip())
    found = _BEFORE_LABEL.match(text)
    return found.end() if found else None


def _token_at(text: str, tokens: Sequence[TokenLogprob], start: int) -> tuple[TokenLogprob, str] | None:
    """The token that holds the character at `start`, and what it holds before that one."""
    at = 0
    for token in tokens:
        if not text.startswith(token.token, at):
            return None  # half a character, or a text that was changed: places cannot be told
        if at <= start < at + len(token.token):
            return token, token.token[: start - at]
        at += len(token.token)
    return None


def _alternatives(token: TokenLogprob) -> Iterable[tuple[str, float]]:
    """The token and those beside it, each text once."""
    return (dict(token.top) | {token.token: token.logprob}).items()


def _literal(label: str) -> str:
    out = []
    for character in label:
        if character in '"\\':
            out.append("\\" + character)
        elif character.isprintable():
            out.append(character)
        else:
            out.append(f"\\U{ord(character):08X}")
    return '"' + "".join(out) + '"'
