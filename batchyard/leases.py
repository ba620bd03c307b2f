"""Renewing the leases of the messages that a consumer holds, from a thread.

Whatever the consumer's event loop does meanwhile (a slow Redis call, the end of an engine), its messages stay
its own. A loop that has not turned for `STALLED_SECONDS` hangs: then the leases are left to end. The thread
knows tags, not messages, and ends with whoever started it.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import redis
from kombu.utils.encoding import bytes_to_str

from batchyard.queue_scripts import RENEW

logger = logging.getLogger(__name__)

STALLED_SECONDS = 60.0
"""Longer than a router waits for Redis with a chunk in its hands."""


class LeaseKeeper:
    """Renews every `interval` seconds what `held` names: (lease index, tags) of each channel.

    `connect` makes the connection to Redis, a new one after a failure.
    """

    def __init__(
        self,
        held: Callable[[], Iterable[tuple[str, list[str]]]],
        connect: Callable[[], "redis.Redis"],
        interval: float,
    ) -> None:
        self._held = held
        self._connect = connect
        self._interval = interval
        self._turned = monotonic()
        self._stop = threading.Event()
        self._client: redis.Redis | None = None
        self._failing = False
        self._stalled = False
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    def turned(self) -> None:
        """The event loop has turned."""
        self._turned = monotonic()

    def stop(self) -> None:
        """End the thread; leases that are still held end by themselves."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            if monotonic() - self._turned > STALLED_SECONDS:
                if not self._stalled:
                    logger.error(
                        "the consumer loop has stood still for %.0f s; its leases end", STALLED_SECONDS
                    )
                self._stalled = True
                continue
            self._stalled = False
            try:
                self._renew()
                self._failing = False
            except Exception:  # whatever it is, a thread that ends would give all its messages away
                self._forget_connection()
                if not self._failing:
                    logger.warning("could not renew leases; trying again", exc_info=True)
                self._failing = True
        self._forget_connection()

    def _renew(self) -> None:
        for index, tags in self._held():
            if tags:
                if self._client is None:
                    self._client = self._connect()
                gone: Any = self._client.eval(RENEW, 1, index, *tags)
                # what was acknowledged since its tag was read is gone, too, and nobody's business
                lost = {bytes_to_str(tag) for tag in gone}.intersection(
                    tag for _, tags in self._held() for tag in tags
                )
                if lost:
                    logger.warning("%d messages were given to others meanwhile", len(lost))

    def _forget_connection(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
