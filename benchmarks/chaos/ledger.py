"""The book of a run: what was asked of the yard, and what was seen of it from outside.

Written by three threads (who submits, who watches, who deals the faults), so each method takes the lock.
Knows no Redis.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock

from benchmarks.chaos.documents import Document
from benchmarks.chaos.pieces import Piece, fault_of


@dataclass(frozen=True, slots=True)
class Seen:
    """A state of a job when it was first seen, on the monotonic clock; `worker` as in `Document`."""

    at: float
    state: str
    worker: str


@dataclass(slots=True)
class Record:
    """One job: when it was first handed over and when that was confirmed, its states as they were seen, how
    often its end was announced, its final document (digest and what is wrong with its answer), and any other
    final document that was seen later."""

    piece: Piece
    handed: float
    accepted: float | None = None
    cancelled: bool = False
    seen: list[Seen] = field(default_factory=list)
    announced: int = 0
    final: Document | None = None
    fault: str | None = None
    others: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The state it was last seen in."""
        return self.seen[-1].state if self.seen else ""


class Ledger:
    """All jobs of a run."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._records: dict[str, Record] = {}
        self._open: dict[str, Record] = {}
        self._signs: dict[str, float] = {}
        self._progress = time.monotonic()
        self.entries: dict[str, dict[str, str]] = {}
        """Entries of completion streams that were seen: batch, entry's id, job."""
        self.accepted = 0
        self.done = 0

    # -- who submits ----------------------------------------------------------------------------------

    def hand_over(self, pieces: Iterable[Piece]) -> None:
        """These are about to be submitted for the first time."""
        now = time.monotonic()
        with self._lock:
            for piece in pieces:
                self._records[piece.id] = self._open[piece.id] = Record(piece, now)
                self.entries.setdefault(piece.batch, {})

    def accept(self, ids: Iterable[str]) -> None:
        """The yard has confirmed these: from now on they are its own."""
        now = time.monotonic()
        with self._lock:
            for name in ids:
                self._records[name].accepted = now
                self.accepted += 1

    def cancel(self, ids: Iterable[str]) -> None:
        """These are about to be cancelled."""
        with self._lock:
            for name in ids:
                self._records[name].cancelled = True

    # -- who watches ----------------------------------------------------------------------------------

    def open_ids(self) -> list[str]:
        """Jobs whose final document has not been seen."""
        with self._lock:
            return list(self._open)

    def batches(self) -> list[str]:
        """Batches of all jobs."""
        with self._lock:
            return list(self.entries)

    def see(self, job: str, document: Document, at: float) -> None:
        """A document was found under a job's key at `at`."""
        with self._lock:
            record = self._records.get(job)
            if record is None or record.final is not None:
                return
            if not record.seen or (record.state, record.seen[-1].worker) != (document.state, document.worker):
                record.seen.append(Seen(at, document.state, document.worker))
            if document.final:
                self._end(record, document, at)

    def _end(self, record: Record, document: Document, at: float) -> None:
        record.final = document
        if document.state == "SUCCESS":
            record.fault = fault_of(record.piece, document.result)
            self._signs[document.worker] = at
        del self._open[record.piece.id]
        self.done += 1
        self._progress = at

    def announce(self, job: str, document: Document) -> None:
        """The end of a job was published to whoever waits for it."""
        with self._lock:
            record = self._records.get(job)
            if record is None:
                return
            record.announced += 1
            if record.final is not None and record.final.digest != document.digest:
                record.others.append(f"announced {document.state} by {document.worker or '-'}")

    def read_entries(self, batch: str, entries: Iterable[tuple[str, str]]) -> None:
        """Entries (id, job) were read from a batch's completion stream."""
        with self._lock:
            self.entries[batch].update(entries)

    # -- who deals the faults -------------------------------------------------------------------------

    def sign_of(self, worker: str) -> float:
        """When the last answer of a worker was seen, on the monotonic clock; 0 if none was."""
        with self._lock:
            return self._signs.get(worker, 0.0)

    def quiet_for(self) -> float:
        """Seconds since anything ended; 0 if nothing is open."""
        with self._lock:
            return time.monotonic() - self._progress if self._open else 0.0

    def started_by(self, worker: str) -> list[str]:
        """Open jobs last seen as started by a worker."""
        with self._lock:
            return [
                job
                for job, record in self._open.items()
                if record.state == "STARTED" and record.seen[-1].worker == worker
            ]

    def any_open(self, ids: Iterable[str]) -> bool:
        """Whether any of these has not ended."""
        with self._lock:
            return any(job in self._open for job in ids)

    def open_count(self) -> int:
        """Jobs handed over and not ended."""
        return len(self._open)

    # -- afterwards -----------------------------------------------------------------------------------

    def records(self) -> Sequence[Record]:
        """All records."""
        with self._lock:
            return list(self._records.values())

    def kinds(self) -> Counter[str]:
        """Jobs of each kind."""
        return Counter(record.piece.kind for record in self.records())
