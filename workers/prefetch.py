"""Celery's prefetch count follows the slots that the engine wants used.

With late acknowledgement and a multiplier of 1 that count is how many jobs this worker holds; more of them
would only wait here while another worker may be free. Celery's own bookkeeping stays in force: its count
also covers tasks that wait for their time, and is lowered for a while after a lost connection.
"""

from typing import Any

from celery import bootsteps


class Prefetch:
    """How many jobs a pool of `slots` slots asks for at once: `limit`, at first all."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self.limit = slots
        self._told = slots
        """The limit that Celery's count stands for."""
        self._consumer: Any = None

    def follow(self, consumer: Any) -> None:
        """Celery's consumer, whose count is to be kept; None while it has no connection."""
        self._consumer = consumer
        self._tell()

    def resize(self, slots: int | None = None) -> None:
        """The engine wants so many slots used from now on; all of them if it does not say."""
        self.limit = self._slots if slots is None else min(max(1, slots), self._slots)
        self._tell()

    def _tell(self) -> None:
        change = self.limit - self._told
        if self._consumer is not None and change:
            self._told = self.limit
            self._consumer._update_prefetch_count(change)


class PrefetchStep(bootsteps.StartStopStep):
    """The step of Celery's consumer that introduces it to its pool, at each connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Connected, with a prefetch count."""
        consumer.pool.prefetch.follow(consumer)

    def stop(self, consumer: Any) -> None:
        """The connection is lost, or the worker stops."""
        consumer.pool.prefetch.follow(None)
