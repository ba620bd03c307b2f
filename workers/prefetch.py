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
        self._wanted = slots
        self._most = slots
        self._told = slots
        """The limit that Celery's count stands for."""
        self._paused = False
        self._left: list[str] = []
        """The queues that Celery was told to leave."""
        self._consumer: Any = None

    @property
    def limit(self) -> int:
        """How many jobs Celery is to hold; none of them new while it is paused."""
        return max(1, min(self._wanted, self._most))

    def follow(self, consumer: Any) -> None:
        """Celery's consumer, whose count is to be kept; None while it has no connection."""
        self._consumer = consumer
        self._tell()

    def resize(self, slots: int | None = None) -> None:
        """The engine wants so many slots used from now on; all of them if it does not say."""
        self._wanted = self._slots if slots is None else min(slots, self._slots)
        self._tell()

    def narrow(self, most: int | None) -> None:
        """Hold no more than so many, whatever the engine wants; None: that is over."""
        self._most = self._slots if most is None else most
        self._tell()

    def pause(self, paused: bool) -> None:
        """Take no job at all, or go on. A count cannot say that: 0 means without bound to kombu, and the
        transport takes interactive jobs beyond it."""
        self._paused = paused
        self._tell()

    def _tell(self) -> None:
        if self._consumer is None:
            return
        change = self.limit - self._told
        if change:
            self._told = self.limit
            self._consumer._update_prefetch_count(change)
        if self._paused and not self._left:
            self._left = list(self._consumer.app.amqp.queues.consume_from)
            for queue in self._left:
                self._consumer.cancel_task_queue(queue)
        elif self._left and not self._paused:
            left, self._left = self._left, []
            for queue in left:
                self._consumer.add_task_queue(queue)


class PrefetchStep(bootsteps.StartStopStep):
    """The step of Celery's consumer that introduces it to its pool, at each connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Connected, with a prefetch count."""
        consumer.pool.prefetch.follow(consumer)

    def stop(self, consumer: Any) -> None:
        """The connection is lost, or the worker stops."""
        consumer.pool.prefetch.follow(None)
