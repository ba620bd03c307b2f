"""The ledger: where results and reviews are kept, and the one door to it. Knows no Redis.

Two kinds ship: SQL (`batchyard.audit.sql`) and files of JSON lines (`batchyard.audit.lines`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from batchyard.audit.record import FinalRecord, Review, Selection, next_review, now
from batchyard.errors import InvalidConfig, YardError, shown

URL = "BATCHYARD_AUDIT_URL"
LINES = "jsonl:"

_TRIES = 20
"""How often a review is numbered anew because another one came between."""


class LedgerUnavailable(YardError):
    """The ledger cannot be read or written now. Nothing is lost: Redis keeps what is not on record."""

    code = "audit_unavailable"
    retryable = True


class Ledger(Protocol):
    """Results and reviews, of which none is ever changed or taken away.

    Every call raises `LedgerUnavailable` if it cannot be done now.
    """

    def prepare(self) -> None:
        """Make it ready for `append`, and for no other writer if it takes one at a time."""

    def append(self, records: Sequence[FinalRecord]) -> None:
        """Record results; those on record already stay as they are. On return they are on disk."""

    def add_review(self, review: Review) -> bool:
        """Record a review, on disk on return; False, and nothing is recorded, if its number is taken."""

    def results(self, job_id: str) -> list[FinalRecord]:
        """The results of a job, in the order in which they were stored."""

    def reviews(self, job_ids: Sequence[str]) -> list[Review]:
        """The reviews of these jobs, those of one job in their order."""

    def export(self, selection: Selection, page: int = 500) -> Iterator[list[FinalRecord]]:
        """The results that a selection takes, a page at a time."""

    def last(self) -> FinalRecord | None:
        """What was recorded last."""

    def close(self) -> None:
        """Let go of files and connections."""


def open_ledger(url: str) -> Ledger:
    """The ledger at a checked URL (`Settings.audit`); nothing is read or made yet.

    Raises:
        InvalidConfig: SQLAlchemy or the database's driver is not installed.
    """
    if url.startswith(LINES):
        from batchyard.audit.lines import LineLedger

        return LineLedger(Path(url.removeprefix(LINES)))
    try:
        from batchyard.audit.sql import SqlLedger

        return SqlLedger(url)
    except ModuleNotFoundError as exc:
        extra = "audit" if exc.name == "sqlalchemy" else "audit-postgresql"
        raise InvalidConfig(
            f"{exc.name} is not installed", field=URL, remedy=f"pip install 'batchyard[{extra}]'"
        ) from exc


def add_review(ledger: Ledger, job_id: str, reviewer: str, why: str, verdict: str | None) -> Review:
    """Record a review of a job's latest result behind those that are there. `verdict` is JSON text, None to
    leave the verdict as it is.

    Raises:
        UnknownJob: the job has no result on record.
        LedgerUnavailable: the ledger cannot be written, or others are faster every time.
    """
    for _ in range(_TRIES):
        results, reviews = ledger.results(job_id), ledger.reviews([job_id])
        review = next_review(results, reviews, job_id, reviewer, why, verdict, now())
        if ledger.add_review(review):
            return review
    raise LedgerUnavailable(
        f"{_TRIES} other reviews of {shown(job_id)} came between", field=URL, remedy="try again"
    )
