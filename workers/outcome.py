"""How a job ended in the engine, on its way from the pool to the body of its Celery task."""

import logging
import time
from dataclasses import dataclass

from batchyard.errors import JobFailed, error_of
from batchyard.result import Result
from workers.engine_process import Frame
from workers.pool_job import PoolJob
from workers.requests import success

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended in the engine: a result or an error; neither if there is nothing left to do."""

    result: Result | None = None
    error: Exception | None = None
    max_retries: int = 0
    retry_after: float = 0.0
    """Seconds before which a retry cannot succeed."""
    deadline: float | None = None
    """When a retry comes too late, in seconds since the epoch."""


class Outcomes:
    """Outcomes that the tracer is about to ask for, by job id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Outcome] = {}

    def put(self, job_id: str, outcome: Outcome) -> None:
        """Leave an outcome for the body that the tracer is about to call."""
        self._by_id[job_id] = outcome

    def take(self, job_id: str) -> Outcome:
        """The outcome left for this job."""
        return self._by_id.pop(job_id)


def outcome_of(unit: PoolJob, frame: Frame, worker: str, gpu: str | None) -> Outcome:
    """The outcome in the engine's last frame on a job (`done` or `failed`)."""
    if frame["op"] == "failed":
        error = frame["error"]
        rest = {key: error.get(key) for key in ("field", "remedy", "retryable")}
        return Outcome(
            error=error_of(error["code"], error["message"], **rest), max_retries=unit.job.max_retries,
            retry_after=error.get("retry_after") or 0.0, deadline=unit.job.deadline,
        )  # fmt: skip
    headers, received = unit.delivery.headers, unit.delivery.received
    try:
        result = success(
            unit.job, unit.route, frame["completion"], worker=worker, gpu=gpu, attempt=unit.attempt,
            submitted=headers.get("submitted") or received, routed=headers.get("routed") or received,
            received=received, finished=time.time(),
        )  # fmt: skip
    except (LookupError, TypeError, ValueError) as exc:
        logger.exception("the engine's answer to %s cannot be read", unit.job.id)
        return Outcome(error=unspeakable(exc))
    return Outcome(result=result)


def unspeakable(exc: Exception) -> JobFailed:
    """The error of a job that cannot be said to the engine, or its answer not understood."""
    return JobFailed(
        f"worker and engine cannot pass this job between them: {exc!r}"[:300],
        code="engine_protocol",
        remedy="shorten it; if it is short, this is a bug",
    )
