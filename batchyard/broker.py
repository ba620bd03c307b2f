"""Celery's connection to the broker, which tries again often, and never holds up what has to go on.

kombu waits longer after each attempt to connect, up to half a minute: a yard would stand still for that long
after Redis is back. And Celery publishes its workers' heartbeats until it succeeds, however long that takes,
while the consumer's loop stands still.
"""

from collections.abc import Callable
from typing import Any

import kombu
from celery.app.amqp import AMQP

AGAIN_SECONDS = 2.0


class Connection(kombu.Connection):
    """A connection whose attempts come 0.5, 1, 1.5, 2, 2, … seconds after each other."""

    def ensure_connection(
        self,
        errback: Callable[..., Any] | None = None,
        max_retries: int | None = None,
        interval_start: float = 0.5,
        interval_step: float = 0.5,
        interval_max: float = AGAIN_SECONDS,
        callback: Callable[[], Any] | None = None,
        reraise_as_library_errors: bool = True,
        timeout: float | None = None,
    ) -> kombu.Connection:
        """Connect, however often that has to be tried; see kombu's."""
        return super().ensure_connection(
            errback, max_retries, interval_start, interval_step, interval_max,
            callback, reraise_as_library_errors, timeout,
        )  # fmt: skip

    def ensure(
        self,
        obj: Any,
        fun: Callable[..., Any],
        errback: Callable[..., Any] | None = None,
        max_retries: int | None = 0,
        interval_start: float = 1,
        interval_step: float = 1,
        interval_max: float = 1,
        on_revive: Callable[..., Any] | None = None,
        retry_errors: tuple[type[Exception], ...] | None = None,
    ) -> Callable[..., Any]:
        """As kombu's, but who does not say how often does not try again: an event waits in its buffer, and
        for the next one redis-py connects anew."""
        ensured: Callable[..., Any] = super().ensure(
            obj,
            fun,
            errback,
            max_retries,
            interval_start,
            interval_step,
            interval_max,
            on_revive,
            retry_errors,
        )
        return ensured


class Broker(AMQP):
    """The part of a Celery app that makes connections."""

    Connection = Connection
