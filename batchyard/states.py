"""The states of a job: Celery's own names, with the two that come before a worker has it."""

from enum import StrEnum


class State(StrEnum):
    """Where a job is. QUEUED and ROUTED are ours; the others are Celery's task states.

    QUEUED   accepted at submit, not yet classified
    ROUTED   published to the queue of a model
    STARTED  has a slot in an engine
    RETRY    failed for a passing reason, waits for its next attempt
    SUCCESS, FAILURE, REVOKED  final; the first of these to be stored stays
    UNKNOWN  no such job, or its result has expired (plain Celery says PENDING)
    """

    UNKNOWN = "PENDING"
    QUEUED = "QUEUED"
    ROUTED = "ROUTED"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"

    @property
    def final(self) -> bool:
        """Whether the job will not change any more."""
        return self in FINAL


FINAL = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})
