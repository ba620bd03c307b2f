"""What went wrong with one call, read from the SDK's exceptions: the error, and what to do about it.

It asks nobody anything. Texts of the endpoint are cut, and the secret is blotted out of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from openai import APIConnectionError, APIStatusError, APITimeoutError

from workers.engine.errors import PROMPT_TOO_LONG, REQUEST_INVALID, EngineError
from workers.remote.backoff import retry_after
from workers.remote.errors import (
    ENDPOINT_ANSWER_INVALID,
    ENDPOINT_BUSY,
    ENDPOINT_REFUSED,
    ENDPOINT_UNAVAILABLE,
    EndpointError,
)

_SHOWN: Final = 300
_AGAIN: Final = frozenset({408, 425})
_CONFLICT: Final = 409
_REFUSALS: Final = frozenset({401, 403, 404})
_NO_QUOTA: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_CORRECT: Final = "correct api_base, api_key or model in the model catalogue"


@dataclass(frozen=True, slots=True)
class Fault:
    """A failed call. `again`: another attempt soon may help; `trips`: it speaks against the endpoint."""

    error: EngineError
    again: bool
    trips: bool
    retry_after: float | None = None
    status: int | None = None
    """Of the answer, if there was one."""


def timed_out(host: str, seconds: float) -> Fault:
    """The call took as long as one may; to ask at once for what has just taken too long would hold a slot for
    as long again."""
    return replace(_unavailable(f"{host} did not answer within {seconds:g} s"), again=False)


def no_answer(host: str, why: str, *, again: bool = True) -> Fault:
    """A body that is none; `again` as in the fault."""
    error = EndpointError(
        ENDPOINT_ANSWER_INVALID,
        f"the body that {host} sent is no answer: {why}",
        remedy="is api_base the root of an OpenAI-compatible API (it often ends in /v1)?",
    )
    return Fault(error, again=again, trips=True)


def unconnected(failure: APIConnectionError, host: str, secret: str | None) -> Fault:
    """There is no connection, or it broke."""
    if isinstance(failure, APITimeoutError):
        return _unavailable(f"{host} did not answer in time")
    cause = failure.__cause__
    return _unavailable(f"no connection to {host}: {_told(str(cause or failure), secret)}")


def refused(failure: APIStatusError, host: str, secret: str | None, now: float) -> Fault:
    """An answer with a status of 4xx or 5xx; `now` in seconds since the epoch."""
    status = failure.status_code
    body: Any = failure.body
    said = body.get("message") if isinstance(body, dict) else body
    words = _told(said if isinstance(said, str) else failure.message, secret)
    text = f"{host} answered {status}: {words}"
    wait = retry_after(failure.response.headers, now)
    if status == 429 and failure.code in _NO_QUOTA:
        return _refusal(text, "raise the account's quota", status, wait)
    if status == 429:
        busy = EndpointError(
            ENDPOINT_BUSY,
            text,
            remedy="try again later, or lower n_slots in the model catalogue",
            retry_after=wait,
        )
        return Fault(busy, again=True, trips=False, retry_after=wait)
    if status == _CONFLICT:  # with another request: the endpoint is well
        busy = EndpointError(ENDPOINT_BUSY, text, remedy="try again later", retry_after=wait)
        return Fault(busy, again=True, trips=False, retry_after=wait)
    if status >= 500 or status in _AGAIN:
        return _unavailable(text, wait)
    if status in _REFUSALS or 300 <= status < 400:
        return _refusal(text, _CORRECT, status)
    if failure.code == "context_length_exceeded" or status == 413:
        remedy = "shorten it, or send the job to a model with a longer context"
        return _final(EngineError(PROMPT_TOO_LONG, text, field="prompt", remedy=remedy))
    return _final(EngineError(REQUEST_INVALID, text, field=failure.param or None))


def _refusal(text: str, remedy: str, status: int, wait: float | None = None) -> Fault:
    """The endpoint refuses whoever asks, until somebody mends a key, a quota or the entry. No job is to
    blame: the breaker keeps them in the queue.
    """
    error = EndpointError(ENDPOINT_REFUSED, text, remedy=remedy, retry_after=wait)
    return Fault(error, again=False, trips=True, retry_after=wait, status=status)


def _final(error: EngineError) -> Fault:
    return Fault(error, again=False, trips=False)


def _unavailable(text: str, wait: float | None = None) -> Fault:
    error = EndpointError(ENDPOINT_UNAVAILABLE, text, remedy="try again later", retry_after=wait)
    return Fault(error, again=True, trips=True, retry_after=wait)


def _told(text: str, secret: str | None) -> str:
    if secret:
        text = text.replace(secret, "***")
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
