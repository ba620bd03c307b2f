"""A plain consumer of queues, as the tests of the transport use it."""

from typing import Any

from kombu import Connection, Consumer, Queue


def take(
    connection: Connection, count: int, queues: tuple[str, ...] = ("q",), no_ack: bool = False
) -> list[Any]:
    """The next `count` messages, unacknowledged."""
    found: list[Any] = []
    names = [Queue(name, exchange="", routing_key=name) for name in queues]
    consumer = Consumer(
        connection.channel(),
        queues=names,
        on_message=found.append,
        no_ack=no_ack,
        accept=["json"],
        auto_declare=False,
    )
    with consumer:
        while len(found) < count:
            connection.drain_events(timeout=20)
    return found
