"""The ledger as JSON lines in a folder: results in files by day and size, reviews in `reviews.jsonl`.

One auditor writes at a time; another one waits for its lock. Looking a job up reads all files.
"""

import fcntl
import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from batchyard.audit.folder import FolderWriter, append_durably, files_in, lines_of, mend, no_record
from batchyard.audit.ledger import URL, LedgerUnavailable
from batchyard.audit.record import (
    FinalRecord,
    Review,
    Selection,
    as_json,
    mark_of,
    moment,
    result_from,
    review_from,
)
from batchyard.errors import InvalidConfig
from batchyard.wire import dumps

MAX_BYTES = 64 * 1024 * 1024
"""A file of results that has grown so large is followed by another one."""


class LineLedger:
    """A `Ledger` in a folder."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._reviews = folder / "reviews.jsonl"
        self._writer: FolderWriter | None = None

    def prepare(self) -> None:
        """Take the folder's lock and mend what a writer that died left."""
        with self._asking():
            self._ready()

    def append(self, records: Sequence[FinalRecord]) -> None:
        """Append what the folder does not have yet."""
        lines = [as_json(record).encode() + b"\n" for record in records]
        with self._asking():
            self._ready().append(lines, moment(max(record.recorded for record in records))[:10])

    def add_review(self, review: Review) -> bool:
        """Append a review, unless its number is taken."""
        self._must_be_there()
        with self._asking():
            descriptor = os.open(self._reviews, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                mend(self._reviews, descriptor)
                if any(other.sequence >= review.sequence for other in self.reviews([review.job_id])):
                    return False
                append_durably(descriptor, as_json(review).encode() + b"\n")
            finally:
                os.close(descriptor)
        return True

    def results(self, job_id: str) -> list[FinalRecord]:
        """The results of a job, from all files."""
        found = [record for record in self._all(f'"job_id":{dumps(job_id)}') if record.job_id == job_id]
        return sorted(found, key=lambda record: mark_of(record.entry))

    def reviews(self, job_ids: Sequence[str]) -> list[Review]:
        """The reviews of jobs."""
        by_job: dict[str, list[Review]] = defaultdict(list)
        wanted = set(job_ids)
        with self._asking():
            for number, line in lines_of(self._reviews) if self._reviews.exists() else ():
                try:
                    review = review_from(line)
                except (ValueError, TypeError):
                    raise no_record(self._reviews, number, line) from None
                if review.job_id in wanted:
                    by_job[review.job_id].append(review)
        return [review for job_id in sorted(by_job) for review in by_job[job_id]]

    def export(self, selection: Selection, page: int = 500) -> Iterator[list[FinalRecord]]:
        """The results that a selection takes, in the order in which they were recorded."""
        taken: list[FinalRecord] = []
        for record in self._all():
            if selection.takes(record):
                taken.append(record)
            if len(taken) == page:
                yield taken
                taken = []
        if taken:
            yield taken

    def last(self) -> FinalRecord | None:
        """The last line of the last file that has any."""
        self._must_be_there()
        with self._asking():
            for file in reversed(files_in(self._folder)):
                for number, line in deque(lines_of(file.path), maxlen=1):
                    return _read(file.path, number, line)
        return None

    def close(self) -> None:
        """Let go of the folder."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _ready(self) -> FolderWriter:
        if self._writer is None:
            self._writer = FolderWriter(self._folder, self._max_bytes)
        return self._writer

    def _all(self, having: str = "") -> Iterator[FinalRecord]:
        """All results whose line has this text in it."""
        self._must_be_there()
        text = having.encode()
        with self._asking():
            for file in files_in(self._folder):
                for number, line in lines_of(file.path):
                    if text in line:
                        yield _read(file.path, number, line)

    def _must_be_there(self) -> None:
        if not files_in(self._folder):
            raise InvalidConfig(
                f"no results are on record in {self._folder}",
                code="no_ledger",
                field=URL,
                remedy="start the auditor there: python -m batchyard.audit",
            )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError as exc:
            raise LedgerUnavailable(
                f"another auditor writes into {self._folder}",
                code="audit_taken",
                field=URL,
                remedy="leave this one running: it goes on when the other one ends",
            ) from exc
        except OSError as exc:
            self.close()  # what is in the files now is found out anew
            raise LedgerUnavailable(
                f"{exc.filename or self._folder}: {exc.strerror}",
                field=URL,
                remedy="see to the disk; Redis keeps the rest",
            ) from exc


def _read(path: Path, number: int, line: bytes) -> FinalRecord:
    try:
        return result_from(line)
    except (ValueError, TypeError):
        raise no_record(path, number, line) from None
