"""Celery's consumer, which keeps the messages of running tasks when its connection is lost.

Celery gives them back then, or forgets them until their leases end, and others run them again although they
are running. Here the new connection takes them over, before anybody on it looks for lapsed leases. They count
for the prefetch count again, so Celery's own reduction of it after a loss is to be switched off.
"""

import warnings
from typing import Any

from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer as stock
from celery.worker.state import active_requests
from kombu.message import Message


class Consumer(stock.Consumer):
    """The consumer to name in `worker_consumer`."""

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Drop the connection, but not what is running."""
        _released()
        with warnings.catch_warnings():  # of what we do on purpose: not to end the tasks that run
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """The new connection, once there is one, which holds what is running."""
        connection = super().connection_for_read(heartbeat)
        connection.default_channel.take_over(_released())
        return connection


def _released() -> list[Message]:
    """The messages of the tasks that run, which their channels hold no longer."""
    messages = [request.message for request in list(active_requests) if not request.acknowledged]
    for message in messages:
        message.channel.qos.let_go(message.delivery_tag)
    return messages
