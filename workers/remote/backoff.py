"""When to ask an endpoint again. Pure: dice and clock are passed in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

BASE_SECONDS: Final = 0.5
CAP_SECONDS: Final = 20.0
PATIENCE_SECONDS: Final = 60.0
"""A longer wait is the queue's: here it would only occupy a slot."""
LONGEST_SECONDS: Final = 86400.0
"""Of what an endpoint may ask for: quotas run by the day at most, and a date beyond all calendars is none."""


def pause(attempt: int, dice: float, retry_after: float | None) -> float:
    """Seconds to wait after failed attempt number `attempt` (0 for the first).

    Full jitter (Brooker, "Exponential Backoff And Jitter"): evenly from 0 to min(cap, base · 2^attempt),
    `dice` (0 to 1) choosing; on top of the endpoint's own `retry_after`, so that those who were told the
    same time do not come back together.
    """
    ceiling = min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(attempt, 32))
    return (retry_after or 0.0) + dice * ceiling


def worth_waiting(seconds: float, left: float | None) -> bool:
    """Whether a pause of `seconds` leads anywhere; `left` are those until the request's deadline."""
    return seconds <= PATIENCE_SECONDS and (left is None or seconds < left)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that an answer's headers ask to wait, a day at most; None if they do not say.

    `Retry-After` is a number of seconds or an HTTP date (RFC 9110, 10.2.3); some endpoints are more exact
    in `retry-after-ms`. `now` in seconds since the epoch. `headers` must not depend on case.
    """
    seconds = _asked_for(headers, now)
    return None if seconds is None else min(seconds, LONGEST_SECONDS)


def _asked_for(headers: Mapping[str, str], now: float) -> float | None:
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return exact / 1000.0
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
