"""What an endpoint answered, from the bytes of its body: strict about what is used, blind to the rest. Pure.

The SDK takes any body for an answer, so nothing of it is believed before it was looked at.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from workers.engine.completion import TokenLogprob, Usage

_LEAST: Final = -9999.0
"""OpenAI's own value for a token that is as good as impossible; also taken where one says minus infinity."""
_NAME: Final = 200


class NoAnswer(Exception):
    """The body is none; the message says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `tokens` are None where the endpoint returned no log-probabilities; `model` and
    `fingerprint` are as it calls itself.
    """

    text: str
    finish_reason: str
    tokens: tuple[TokenLogprob, ...] | None
    usage: Usage
    model: str | None
    fingerprint: str | None


def read_reply(body: bytes, *, chat: bool) -> Reply:
    """The answer in a body of chat.completions, or of completions. Raises NoAnswer."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NoAnswer(f"it is no JSON ({type(error).__name__})") from None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise NoAnswer("it has no choices")
    choice = choices[0]
    reason = choice.get("finish_reason")
    logprobs = choice.get("logprobs")
    tokens = None
    if isinstance(logprobs, dict):
        tokens = _chat_tokens(logprobs.get("content")) if chat else _plain_tokens(logprobs)
    return Reply(
        text=_message(choice) if chat else _string(choice.get("text"), "choices[0].text"),
        finish_reason=reason[:_NAME] if isinstance(reason, str) and reason else "unknown",
        tokens=tokens,
        usage=_usage(answer.get("usage")),
        model=_name(answer.get("model")),
        fingerprint=_name(answer.get("system_fingerprint")),
    )


def read_models(body: bytes) -> tuple[str, ...] | None:
    """The names in a body of /models; None where it is no list, or not the whole one."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or answer.get("has_more") is True:
        return None
    names = (one.get("id") for one in data if isinstance(one, dict))
    return tuple(name for name in names if isinstance(name, str))


def _message(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise NoAnswer("choices[0].message is no object")
    content = message.get("content")
    if content is None:  # declined, or all its tokens went into a hidden part
        return _string(message.get("refusal") or "", "choices[0].message.refusal")
    return _string(content, "choices[0].message.content")


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise NoAnswer(f"{where} is no text")
    # JSON can spell half a surrogate pair, which is no character
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def _name(value: Any) -> str | None:
    return _string(value, "a name")[:_NAME] if isinstance(value, str) and value else None


def _usage(value: Any) -> Usage:
    fields = value if isinstance(value, dict) else {}
    details = fields.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(_count(fields.get("prompt_tokens")), _count(cached), _count(fields.get("completion_tokens")))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _chat_tokens(content: Any) -> tuple[TokenLogprob, ...] | None:
    if not isinstance(content, list):
        return None
    found = []
    for one in content:
        if not isinstance(one, dict) or not isinstance(one.get("token"), str):
            raise NoAnswer("choices[0].logprobs.content holds what is no token")
        top = one.get("top_logprobs")
        beside = [
            (other["token"], _logprob(other.get("logprob")))
            for other in (top if isinstance(top, list) else ())
            if isinstance(other, dict) and isinstance(other.get("token"), str)
        ]
        found.append(TokenLogprob(one["token"], _logprob(one.get("logprob")), tuple(beside)))
    return tuple(found)


def _plain_tokens(logprobs: dict[str, Any]) -> tuple[TokenLogprob, ...] | None:
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        return None
    tops = logprobs.get("top_logprobs")
    tops = tops if isinstance(tops, list) and len(tops) == len(tokens) else [None] * len(tokens)
    found = []
    for token, value, top in zip(tokens, values, tops, strict=True):
        beside = top.items() if isinstance(top, dict) else ()
        found.append(
            TokenLogprob(
                _string(token, "choices[0].logprobs.tokens"),
                _logprob(value),
                tuple((text, _logprob(other)) for text, other in beside),
            )
        )
    return tuple(found)


def _logprob(value: Any) -> float:
    """A log-probability; what is none, or minus infinity, is as good as impossible."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return _LEAST
    return float(min(0.0, max(_LEAST, value)))
