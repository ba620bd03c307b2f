"""The janitor: a thread of each router that does every second what no job's own path does.

    hold the lock ─► read ─► end what is overdue ─► say: nearly full? how fast? ─► put counters right

A lock in Redis lets one of them work at a time; two at once would do no harm. What is decided stands in
`gauges`, what is done to Redis in `batchyard.upkeep`. Knows no chunks.
"""

import logging
import os
import socket
import threading
import time
from typing import TypeVar

import redis
from celery import bootsteps
from redis.backoff import NoBackoff
from redis.retry import Retry

from batchyard import store, upkeep
from batchyard.errors import YardUnavailable
from batchyard.names import UNACKED_KEY
from batchyard.settings import Settings
from batchyard.store import Op
from batchyard.upkeep import EXPIRE_PAGE, Readings
from router.gauges import miscounted, nearly_full, smoothed_rates

logger = logging.getLogger(__name__)
T = TypeVar("T")

ROUND_SECONDS = 1.0
LOCK_MILLISECONDS = 3000
STOP_SECONDS = 10.0


class Janitor:
    """`start` begins the thread, `stop` ends it and lets another router's janitor go on at once."""

    def __init__(self, settings: Settings) -> None:
        self._ttl = settings.result_expires
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        self._redis: redis.Redis = redis.Redis.from_url(
            settings.url,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=5,
            socket_timeout=5,
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="janitor", daemon=True)
        self._trouble: str | None = None
        """The code of what keeps it from working."""
        self._last: Readings | None = None
        """What the last round read; None before the first one since the lock was taken."""
        self._quiet: frozenset[str] = frozenset()
        """Models that nothing stood behind in the last round."""

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended, or hangs in a call to Redis for too long."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _work(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self._attempt()
            self._stopping.wait(max(0.0, began + ROUND_SECONDS - time.monotonic()))
        self._leave()

    def _attempt(self) -> None:
        """One round; what keeps it from its work is logged once."""
        try:
            self.round()
        except YardUnavailable as exc:
            self._last, self._quiet = None, frozenset()
            if exc.code != self._trouble:
                logger.warning("the janitor waits until it can go on: %s", exc)
            self._trouble = exc.code
        except Exception:
            # Whatever it stumbled over, the deadlines of the next second need a janitor.
            logger.exception("a round of the janitor failed")
        else:
            if self._trouble is not None:
                logger.info("the janitor goes on")
            self._trouble = None

    def round(self) -> bool:
        """Do what is to be done now; False if another janitor is at work.

        Raises:
            YardUnavailable: Redis cannot be reached, or refuses.
        """
        if not self._hold():
            self._last, self._quiet = None, frozenset()
            return False
        readings = self._run(upkeep.read())
        self._expire(readings.at)
        self._say(readings)
        suspects = miscounted(readings.waiting, self._quiet)
        self._quiet = self._run(upkeep.settle(suspects, UNACKED_KEY))
        for model in sorted(self._quiet):
            if suspects[model]:
                count = readings.waiting[model]
                logger.warning("the counter of jobs waiting for %s put right: it was %d", model, count)
        self._last = readings
        return True

    def _hold(self) -> bool:
        held = self._run(upkeep.hold(self._owner, LOCK_MILLISECONDS))
        if held and self._last is None:
            logger.info("this router's janitor is at work")
        return held

    def _expire(self, now: float) -> None:
        total = 0
        while True:
            seen, ended = self._run(upkeep.expire_due(now, self._ttl))
            total += ended
            if seen < EXPIRE_PAGE or not self._hold():
                break
        if total:
            logger.info("%d jobs ended: their deadline had passed", total)

    def _say(self, readings: Readings) -> None:
        full = nearly_full(readings.used, readings.limit, readings.full)
        if full != readings.full:
            share = 100 * readings.used / readings.limit if readings.limit else 0.0
            logger.warning(
                "Redis uses %.0f %% of its memory: new jobs are %s",
                share, "refused" if full else "accepted again",
            )  # fmt: skip
        rates = dict(readings.rates)
        if self._last is not None and readings.at > self._last.at:
            seconds = readings.at - self._last.at
            rates = smoothed_rates(rates, self._last.done, readings.done, readings.waiting, seconds)
        self._run(upkeep.say(full, rates))

    def _leave(self) -> None:
        try:
            self._run(upkeep.release(self._owner))
        except YardUnavailable as exc:
            logger.info("the janitor's lock is left to lapse: %s", exc)
        self._redis.close()

    def _run(self, operation: Op[T]) -> T:
        return store.run(self._redis, operation)


def janitor_step(settings: Settings) -> type[bootsteps.StartStopStep]:
    """The step of Celery's worker that starts and stops the janitor of its process."""

    class JanitorStep(bootsteps.StartStopStep):
        def create(self, parent: object) -> Janitor:
            return Janitor(settings)

    return JanitorStep
