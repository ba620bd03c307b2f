"""Steady mixed traffic through a whole yard: batches, single jobs, retries, cancels, deadlines, the same ids
again, clients that come, ask and go. By a seed; every outcome is looked at.
"""

import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from batchyard import Client, Settings, store
from batchyard.result import Result
from benchmarks.no_cost_engine import FLAKY
from benchmarks.two_engines import NO_COST, STARTER, TASKS

BATCH, SINGLE, FLAKING, CANCELLED, LATE, AGAIN, ASKED = (
    "batch", "single", "flaky", "cancelled", "late", "again", "asked"
)  # fmt: skip
SHARES = {BATCH: 0.4, SINGLE: 0.25, FLAKING: 0.1, CANCELLED: 0.08, LATE: 0.07, AGAIN: 0.05, ASKED: 0.05}
OUTCOMES = {
    BATCH: {"SUCCESS"},
    SINGLE: {"SUCCESS"},
    FLAKING: {"SUCCESS", "internal_error"},
    CANCELLED: {"SUCCESS", "cancelled"},
    LATE: {"SUCCESS", "deadline_exceeded", "deadline_unreachable"},
    AGAIN: {"SUCCESS"},
    ASKED: {"SUCCESS"},
}
"""What may become of the jobs of each kind: a state, or the code of an error."""
BATCH_SIZE = 50
LONGEST_DEADLINE_S = 0.5
LOOKED_AT_AFTER_S = 15.0
LOST_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A job under way, and when it was sent (monotonic)."""

    kind: str
    id: str
    at: float


@dataclass(slots=True)
class Tally:
    """Counts by kind and outcome; the jobs that nobody expected to end so, or that never ended."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def note(self, sent: Sent, result: Result) -> None:
        """Count one result."""
        outcome = "SUCCESS" if result.ok or result.error is None else result.error.code
        self.outcomes[sent.kind, outcome] += 1
        if outcome not in OUTCOMES[sent.kind]:
            self.unexpected.append(f"{sent.kind} {sent.id}: {outcome}")


class Traffic:
    """Sends what is due at each `turn`, and looks at what came of it."""

    def __init__(
        self, client: Client, raw: redis.Redis, settings: Settings, texts: Sequence[str], seed: int
    ) -> None:
        self._client = client
        self._raw = raw
        self._settings = settings
        self._texts = texts
        self._random = random.Random(seed)
        self._number = 0
        self._gathering: list[dict[str, Any]] = []
        self._doomed: list[str] = []
        self._sent: deque[Sent] = deque()
        self._last: dict[str, Any] = {}
        self.tally = Tally()

    @property
    def under_way(self) -> int:
        """Jobs that were not looked at yet."""
        return len(self._sent)

    def turn(self, count: int) -> None:
        """Cancel those of the last turn that are to be, send `count` jobs, look at what was sent earlier."""
        self._client.cancel(*self._doomed)
        self._doomed = []
        for kind in self._random.choices(list(SHARES), list(SHARES.values()), k=count):
            self._send(kind)
        self.look(LOOKED_AT_AFTER_S)

    def _send(self, kind: str) -> None:
        job = self._job(kind)
        if kind == BATCH:
            self._gathering.append(job)
            if len(self._gathering) == BATCH_SIZE:
                self._client.submit_many(self._gathering)
                self._note(kind, self._gathering)
                self._gathering = []
            return
        if kind == ASKED:
            with Client(self._settings) as other:
                other.submit(job)
                sent = Sent(kind, job["id"], time.monotonic())
                self.tally.note(sent, other.result(job["id"], timeout=LOST_AFTER_S))
            return
        self._client.submit(job)
        self._note(kind, [job])
        if kind == CANCELLED:
            self._doomed.append(job["id"])
        if kind == SINGLE:
            self._last = job

    def _note(self, kind: str, jobs: Sequence[dict[str, Any]]) -> None:
        now = time.monotonic()
        self._sent.extend(Sent(kind, job["id"], now) for job in jobs)

    def _job(self, kind: str) -> dict[str, Any]:
        if kind == AGAIN and self._last:
            return self._last
        self._number += 1
        text = f"{self._number}: {self._texts[self._number % len(self._texts)]}"
        job: dict[str, Any] = {"id": f"{kind}-{self._number}", "task": TASKS[STARTER], "prompt": text}
        if kind == FLAKING:
            job |= {"task": TASKS[NO_COST], "prompt": f"{FLAKY} {text}", "raw": True}
        if kind == LATE:
            job["deadline"] = time.time() + self._random.uniform(0.02, LONGEST_DEADLINE_S)
        if kind == ASKED:
            job["priority"] = "interactive"
        return job

    def look(self, age: float) -> None:
        """Note the results of the jobs that were sent so many seconds ago; those that have none for too long
        are lost."""
        now = time.monotonic()
        due = []
        while self._sent and now - self._sent[0].at >= age:
            due.append(self._sent.popleft())
        still = []
        documents = store.run(self._raw, store.documents([sent.id for sent in due]))
        for sent, document in zip(due, documents, strict=True):
            result = store.result_of(sent.id, document)
            if result is not None:
                self.tally.note(sent, result)
            elif now - sent.at < LOST_AFTER_S:
                still.append(sent)
            else:
                self.tally.lost.append(f"{sent.kind} {sent.id}: {store.result_state(document)}")
        self._sent.extendleft(reversed(still))
