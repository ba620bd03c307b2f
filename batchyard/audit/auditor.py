"""The auditor: carries results from the stream in Redis into the ledger.

What was taken stays this auditor's until it is on record; if it dies before, another one (or its successor)
claims it and records it again, which the ledger takes as the same. So a result is on record once, whenever
whoever ends.
"""

import logging
import threading
import time
from collections.abc import Sequence

import redis

from batchyard import store
from batchyard.audit import stream
from batchyard.audit.ledger import Ledger, LedgerUnavailable
from batchyard.audit.record import Entry, now, record_of
from batchyard.errors import YardError, YardUnavailable

logger = logging.getLogger(__name__)

PAGE = 256
"""Results recorded at once."""
BLOCK_MS = 1000
"""How long a read waits for results; so long a stop may take."""
CLAIM_MS = 10_000
"""An auditor that has had a page for so long is taken for dead; if it is not, both write the same."""
CLAIM_EVERY_S = 5.0
FORGET_MS = 3_600_000
ALIVE_MS = 15_000
"""An auditor that has not asked for results for so long does not run."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0
_TELL_EVERY_S = 10.0


class Auditor:
    """One auditor, named `consumer` within the group."""

    def __init__(self, connection: redis.Redis, ledger: Ledger, consumer: str) -> None:
        self._redis = connection
        self._ledger = ledger
        self._consumer = consumer
        self._ready = False
        self._start = stream.OWN
        self._claim_at = 0.0
        self._wait = _FIRST_WAIT_S
        self._recorded = 0
        self._tell_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Record results until `stop` is set; a page that was begun is finished."""
        while not stop.is_set():
            try:
                self.step()
                self._wait = _FIRST_WAIT_S
            except (YardUnavailable, LedgerUnavailable) as exc:
                self._trouble(exc)
                stop.wait(self._wait)
                self._wait = min(_LONGEST_WAIT_S, 2 * self._wait)
        self._tell(time.monotonic(), always=True)

    def step(self) -> None:
        """Record one page, or wait a moment for one.

        Raises:
            YardUnavailable, LedgerUnavailable: nothing of the page is lost; it comes again.
        """
        if not self._ready:
            self._ledger.prepare()
            self._ready = True
        page = self._next_page()
        if page:
            self._record(page)
        self._tell(time.monotonic())

    def _next_page(self) -> list[Entry]:
        """What another one left; else what we left; else what is new."""
        clock = time.monotonic()
        if clock >= self._claim_at and self._start == stream.NEW:
            claimed = store.run(self._redis, stream.claim(self._consumer, CLAIM_MS, PAGE))
            if claimed:
                return claimed
            store.run(self._redis, stream.forget_consumers(FORGET_MS))
            self._claim_at = clock + CLAIM_EVERY_S
        page = store.run(self._redis, stream.take(self._consumer, self._start, PAGE, BLOCK_MS))
        if self._start == stream.OWN and not page:
            self._start = stream.NEW
        return page

    def _record(self, page: Sequence[Entry]) -> None:
        jobs = [entry for entry in page if entry.job_id]
        if len(jobs) < len(page):
            logger.warning("%d entries of the stream name no job", len(page) - len(jobs))
        if jobs:
            documents = store.run(self._redis, stream.documents(jobs))
            moment = now()
            records = [
                record_of(entry, document, moment) for entry, document in zip(jobs, documents, strict=True)
            ]
            self._ledger.append(records)
            gaps = [record.job_id for record in records if record.gap is not None]
            if gaps:
                logger.warning("%d results were gone before they were on record, as %s", len(gaps), gaps[0])
        store.run(self._redis, stream.done([entry.id for entry in page]))
        self._recorded += len(jobs)

    def _trouble(self, exc: YardError) -> None:
        logger.error("%s; trying again", exc)
        self._ready = self._ready and not isinstance(exc, LedgerUnavailable)
        self._start = stream.OWN

    def _tell(self, clock: float, *, always: bool = False) -> None:
        if self._recorded and (always or clock >= self._tell_at):
            logger.info("%d results recorded", self._recorded)
            self._recorded, self._tell_at = 0, clock + _TELL_EVERY_S
